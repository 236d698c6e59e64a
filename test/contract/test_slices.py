"""Slices of what later builds on the port: a LangGraph saver and the archive's outbox.

They show that the operations are enough for both, on every store, before the port counts as
stable. The saver keeps a list's elements once, by digest; the outbox gets its event in the very
batch that it tells about.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support import servers as real

from aiecs.core.interface.store import (
    INCARNATION,
    NEW_INCARNATION,
    NOW,
    Append,
    Batch,
    Expire,
    Get,
    GroupMissing,
    GuardFailed,
    Incr,
    IndexPut,
    IndexRange,
    Put,
    Read,
    Redact,
    RequireAtMost,
    RequireEquals,
    RequireFields,
    Result,
    Store,
    Trim,
    now_plus,
)
from aiecs.core.keys import session_place, thread_place

HOUR = 3_600_000_000


@pytest.fixture(params=["memory", "sqlite", *real.names()])
async def store(
    request: pytest.FixtureRequest, servers: real.Servers, prefix: str, tmp_path: Path
) -> AsyncIterator[Store]:
    opened: Any
    if request.param == "memory":
        from aiecs.infrastructure.persistence.stores.memory import MemoryStore

        opened = MemoryStore()
    elif request.param == "sqlite":
        from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore

        opened = SqliteStore(tmp_path / "slices.db", timeout=10.0)
    else:
        from aiecs.infrastructure.persistence.stores.redis import RedisStore

        opened = RedisStore.from_url(servers.shared(request.param).url, prefix=prefix, timeout=10.0)
    yield opened
    await opened.close()


# --- a saver: put, put_writes, get latest with elements -----------------------------------------


def digest(element: bytes) -> str:
    return hashlib.blake2b(element, digest_size=12).hexdigest()


class Saver:
    """Checkpoints of one thread; a checkpoint is a list of elements that mostly repeat."""

    def __init__(self, store: Store, thread_id: str) -> None:
        self._store = store
        self._place = thread_place(thread_id)
        self.sent = 0
        self.round_trips = 0

    async def _apply(self, *ops: Any) -> list[Any]:
        self.round_trips += 1
        return await self._store.apply(Batch(*self._place, ops))

    async def put(self, checkpoint_id: str, elements: list[bytes]) -> None:
        """Send the manifest; elements only when the store says that it lacks them."""
        names = [digest(element) for element in elements]
        known = dict(zip(names, elements, strict=True))
        record = (
            Put("d", {checkpoint_id: ",".join(names).encode()}),
            Incr("", {"n": 1}),
        )
        guard = RequireFields("e", tuple(known))
        indexed = IndexPut("o", {checkpoint_id: Result(2)})
        try:
            await self._apply(guard, *record, indexed, Expire(HOUR))
        except GroupMissing:
            await self._begin()
            await self.put(checkpoint_id, elements)
        except GuardFailed as refusal:
            missing = {name: known[name] for name in refusal.found}
            self.sent += len(missing)
            add = Put("e", missing)
            await self._apply(add, *record, indexed, Expire(HOUR))

    async def _begin(self) -> None:
        await self._apply(Put("", {"~i": NEW_INCARNATION}, if_absent="skip"), Expire(HOUR))

    async def put_writes(self, checkpoint_id: str, task: str, writes: dict[int, bytes]) -> None:
        """A regular write (index 0 and up) stays as it was first; a special one is replaced."""
        ops = [
            Put("w", {f"{checkpoint_id}/{task}/{index}": value}, "skip" if index >= 0 else "")
            for index, value in writes.items()
        ]
        await self._apply(*ops)

    async def latest(self) -> tuple[str, list[bytes], dict[str, bytes]]:
        """The checkpoint stored last, with its elements and pending writes."""
        ((found,),) = await self._apply(IndexRange("o", limit=1, reverse=True))
        checkpoint_id = found[0]
        (manifest,), writes = await self._apply(Get("d", (checkpoint_id,)), Get("w"))
        names = manifest.decode().split(",")
        (elements,) = await self._apply(Get("e", tuple(names)))
        own = {name: value for name, value in writes.items() if name.startswith(checkpoint_id)}
        return checkpoint_id, elements, own


async def test_a_saver_sends_each_element_once(store: Store):
    saver = Saver(store, "thread")
    elements: list[bytes] = []

    for step in range(20):
        elements.append(b"message %d" % step)
        await saver.put(f"c{step:02}", elements)

    assert saver.sent == 20
    checkpoint_id, loaded, writes = await saver.latest()
    assert (checkpoint_id, loaded, writes) == ("c19", elements, {})


async def test_a_known_checkpoint_takes_one_round_trip(store: Store):
    saver = Saver(store, "thread")
    await saver.put("a", [b"1", b"2"])
    before = saver.round_trips

    await saver.put("b", [b"2", b"1"])

    assert saver.round_trips - before == 1
    assert (await saver.latest())[:2] == ("b", [b"2", b"1"])


async def test_pending_writes_keep_the_rules_of_the_saver(store: Store):
    saver = Saver(store, "thread")
    await saver.put("c", [b"x"])

    await saver.put_writes("c", "task", {0: b"first", -3: b"asked"})
    await saver.put_writes("c", "task", {0: b"second", 1: b"more", -3: b"asked again"})

    assert (await saver.latest())[2] == {
        "c/task/0": b"first",
        "c/task/1": b"more",
        "c/task/-3": b"asked again",
    }


async def test_savers_at_once_lose_nothing(store: Store):
    savers = [Saver(store, "thread") for _ in range(8)]

    await asyncio.gather(*(
        saver.put(f"c{number}", [b"shared", b"own %d" % number])
        for number, saver in enumerate(savers)
    ))  # fmt: skip

    place = thread_place("thread")
    head, records, elements = await store.apply(Batch(*place, (Get(""), Get("d"), Get("e"))))
    assert head["n"] == b"8"
    assert len(records) == 8
    assert len(elements) == 9


# --- an outbox: append with stamps, manifest, trim under a lease, redact ------------------------


class Outbox:
    """The events of one bucket, written with what they tell about."""

    def __init__(self, store: Store, session_id: str) -> None:
        self.store = store
        self.place = session_place(session_id)

    async def say(self, content: bytes) -> int:
        """A message and its event, in one batch; the message's sequence."""
        message = Append("m", (content,))
        event = Append("_outbox", (content,), stamps=(INCARNATION, Result(0), NOW))
        return (await self.store.apply(Batch(*self.place, (message, event))))[0]

    async def own(self, *ops: Any) -> list[Any]:
        return await self.store.apply(Batch(self.place.bucket, "", ops))

    async def lease(self, holder: bytes) -> None:
        free = RequireAtMost("_lease", "until", NOW)
        taken = Put("_lease", {"holder": holder, "until": now_plus(HOUR)})
        try:
            await self.own(free, taken)
        except GuardFailed as refusal:
            if refusal.found is not None:
                raise
            await self.own(taken._replace(if_absent="abort"))

    async def ship(self, holder: bytes) -> list[bytes]:
        """Freeze a range, read it, and only then cut it off, all while holding the lease."""
        fence = RequireEquals("_lease", "holder", holder)
        (log,) = await self.own(Read("_outbox"))
        frozen = b"%d %d" % (log.base, log.next)
        await self.own(fence, Put("_manifest", {"range": frozen}))
        (part,) = await self.own(Read("_outbox", start=log.base, stop=log.next))
        await self.own(fence, Trim("_outbox", before=log.next), Put("_manifest", {"range": b""}))
        return part.items


@pytest.fixture
async def outbox(store: Store) -> Outbox:
    box = Outbox(store, "session")
    born = Put("", {"~i": NEW_INCARNATION}, if_absent="abort")
    await store.apply(Batch(*box.place, (born,)))
    return box


async def test_an_event_knows_what_the_store_decided(outbox: Outbox):
    sequences = [await outbox.say(b"hello"), await outbox.say(b"there")]

    (head,) = await outbox.store.apply(Batch(*outbox.place, (Get(""),)))
    (log,) = await outbox.own(Read("_outbox"))

    stamped = [item.split(b"\n", 1) for item in log.items]
    assert [content for _, content in stamped] == [b"hello", b"there"]
    for (stamps, _), sequence in zip(stamped, sequences, strict=True):
        incarnation, told, time = stamps.split(b" ")
        assert incarnation == head["~i"]
        assert int(told) == sequence
        assert int(time) >= int(head["~i"][:16])


async def test_a_refused_write_leaves_no_event(outbox: Outbox):
    ops = (
        RequireEquals("", "nothing", b"there"),
        Append("m", (b"x",)),
        Append("_outbox", (b"x",), stamps=(Result(1),)),
    )

    with pytest.raises(GuardFailed):
        await outbox.store.apply(Batch(*outbox.place, ops))

    (log,) = await outbox.own(Read("_outbox"))
    assert log.items == []


async def test_a_shipper_takes_each_event_once(outbox: Outbox):
    await outbox.lease(b"first")
    await outbox.say(b"one")
    await outbox.say(b"two")

    shipped = await outbox.ship(b"first")
    await outbox.say(b"three")
    shipped += await outbox.ship(b"first")

    assert [item.split(b"\n")[1] for item in shipped] == [b"one", b"two", b"three"]
    (log,) = await outbox.own(Read("_outbox"))
    assert log.items == []


async def test_who_lost_the_lease_cannot_cut(outbox: Outbox):
    await outbox.lease(b"first")
    await outbox.say(b"kept")
    with pytest.raises(GuardFailed):
        await outbox.lease(b"second")
    await outbox.own(Put("_lease", {"holder": b"second"}))

    with pytest.raises(GuardFailed):
        await outbox.ship(b"first")

    (log,) = await outbox.own(Read("_outbox"))
    assert len(log.items) == 1


async def test_erasure_blanks_what_has_not_been_shipped(outbox: Outbox):
    await outbox.say(b"secret")
    await outbox.say(b"public")
    (log,) = await outbox.own(Read("_outbox"))

    await outbox.own(Redact("_outbox", (log.base,)))

    (after,) = await outbox.own(Read("_outbox"))
    assert after.items[0] == b""
    assert after.items[1].endswith(b"\npublic")
    assert (after.base, after.next) == (log.base, log.next)
    assert after.epoch != log.epoch
