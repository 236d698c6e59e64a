"""The shipper: every event arrives once, whatever ends or fails on the way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import Counter, deque
from functools import partial

import pytest
from support.waiting import until

from aiecs import ContextEngine
from aiecs.core.errors import ArchiveAuthError, ArchiveRowError, ArchiveUnavailableError
from aiecs.core.events import OUTBOX
from aiecs.core.interface.store import BUCKETS, Batch, Put, Read
from aiecs.core.keys import bucket_of
from aiecs.domain.context import services
from aiecs.infrastructure.persistence.archive import backlog, gate, manifests, shipper
from aiecs.infrastructure.persistence.archive.destination import ArchiveDestination
from aiecs.infrastructure.persistence.archive.leases import GROUPS, Lease, home_of
from aiecs.infrastructure.persistence.archive.outboxes import leave_hints
from aiecs.infrastructure.persistence.archive.shipper import Shipper
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

RUN_OUT = Put("_ship", {"until": b"0"})
SESSIONS = [f"session {number}" for number in range(12)]


class Recorder:
    """An archive in memory that fails as it is told to: what nothing real does on demand."""

    name = "recorder"

    def __init__(self):
        self.rows = []
        self.tokens = set()
        self.faults = deque()
        self.poison = "\0 nothing"
        self.inserts = 0
        self._lock = threading.Lock()

    def open(self):
        self._fail("open")

    def insert(self, table, columns, *, token):
        with self._lock:
            self.inserts += 1
            self._fail("before")
            rows = [
                dict(zip(columns, values, strict=True))
                for values in zip(*columns.values(), strict=True)
            ]
            if any(self.poison in str(row.get("content")) for row in rows):
                raise ArchiveRowError("a row that cannot be stored", code=469)
            if (table, token) not in self.tokens:
                self.tokens.add((table, token))
                self.rows += [(table, row) for row in rows]
            self._fail("after")

    def _fail(self, where):
        if self.faults and self.faults[0][0] == where:
            raise self.faults.popleft()[1]

    def close(self):
        pass

    def said(self):
        return Counter(
            row["content"] for table, row in self.rows if table == "context_conversations"
        )


@pytest.fixture(autouse=True)
def archived(monkeypatch):
    """Engines are opened as with an archive; nobody waits long."""
    monkeypatch.setattr(services, "build", partial(services.build, archived=True))
    monkeypatch.setattr(gate, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(gate, "_FIRST_PACE", 0.01)
    monkeypatch.setattr(gate, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(shipper, "_LOOK_AROUND", BUCKETS)


@pytest.fixture
async def engine():
    async with ContextEngine(store=MemoryStore()) as engine:
        yield engine


async def say(engine, count, mark=""):
    """So many messages, in all sessions by turns."""
    texts = [f"{mark}{number}" for number in range(count)]
    for number, text in enumerate(texts):
        await engine.add_conversation_message(SESSIONS[number % len(SESSIONS)], "user", text)
    return Counter(texts)


async def waiting(store):
    """How many events lie in outboxes."""
    count = 0
    for bucket in map(bucket_of, SESSIONS):
        (log,) = await store.apply(Batch(bucket, "", (Read(OUTBOX),)))
        count += len(log.items)
    return count


def store_of(engine):
    return engine._on.runtime.store


@contextlib.asynccontextmanager
async def shipping(store, archive, **options):
    destination = ArchiveDestination(archive, "test")
    shipping = Shipper(store, destination, linger=0.005, **options)
    task = asyncio.create_task(shipping.run())
    try:
        yield shipping
    finally:
        shipping.stop()
        await asyncio.wait_for(task, 10)
        await destination.close()


async def arrived(archive, expected):
    async def all_there():
        return archive.said().total() >= expected.total()

    await until(all_there)
    assert archive.said() == expected


async def test_everything_arrives_once_and_the_outboxes_are_cut(engine):
    archive = Recorder()
    expected = await say(engine, 100)
    async with shipping(store_of(engine), archive) as one:
        await arrived(archive, expected)
        expected += await say(engine, 100, "later ")
        await arrived(archive, expected)
    assert await waiting(store_of(engine)) == 0
    assert one.progress.shipped == 200 + len(SESSIONS)
    assert (one.progress.dead, one.progress.alarm) == (0, "")
    created = [row for table, row in archive.rows if table == "context_sessions"]
    assert sorted(row["session_id"] for row in created) == sorted(SESSIONS)


async def test_rows_hold_what_was_said(engine):
    archive = Recorder()
    metadata = {
        "model": "m",
        "input_tokens": 3,
        "cost_usd": 0.25,
        "latency_ms": 12.6,
        "error": "no",
    }
    await engine.add_conversation_message("s", "assistant", "x", metadata, name="n")
    async with shipping(store_of(engine), archive):
        await arrived(archive, Counter(["x"]))
    (message,) = await engine.get_conversation_history("s")
    (row,) = [row for table, row in archive.rows if table == "context_conversations"]
    assert json.loads(row["metadata"]) == metadata
    assert json.loads(row["extra"]) == {"name": "n"}
    assert row["seq"] == message.seq
    assert row["created_at"] == round(message.timestamp.timestamp() * 1e6)
    typed = ("model", "input_tokens", "output_tokens", "latency_ms", "error", "message_id")
    assert [row[name] for name in typed] == ["m", 3, 0, 13, 1, message.id]
    assert float(row["cost_usd"]) == 0.25


async def test_a_lost_reply_doubles_nothing(engine):
    archive = Recorder()
    archive.faults += [("after", ArchiveUnavailableError("gone"))] * 20
    expected = await say(engine, 50)
    async with shipping(store_of(engine), archive) as one:
        await arrived(archive, expected)
        await until_empty(store_of(engine))
    assert archive.said() == expected
    assert one.progress.failures == 20


async def test_an_archive_that_is_down_at_first_is_waited_for(engine):
    archive = Recorder()
    archive.faults += [("open", ArchiveUnavailableError("down"))] * 30
    expected = await say(engine, 20)
    async with shipping(store_of(engine), archive):
        await arrived(archive, expected)


async def test_a_refused_row_goes_aside_and_the_rest_arrives(engine):
    archive = Recorder()
    archive.poison = "poison"
    expected = await say(engine, 60)
    for number in (3, 4):
        await engine.add_conversation_message(SESSIONS[number], "user", f"poison {number}")
    async with shipping(store_of(engine), archive) as one:
        await arrived(archive, expected)
        await until_empty(store_of(engine))
    assert one.progress.dead == 2
    letters = []
    for group in range(GROUPS):
        (log,) = await store_of(engine).apply(Batch(home_of(group), "", (Read(backlog.DEAD),)))
        letters += log.items
    heads = [json.loads(item.split(b"\n")[0]) for item in letters]
    assert [head["table"] for head in heads] == ["context_conversations"] * 2
    assert all(b"poison" in item.split(b"\n", 1)[1] for item in letters)


async def test_a_refusal_that_stays_the_same_is_taken_for_the_rows(engine):
    archive = Recorder()
    archive.faults += [("before", ArchiveUnavailableError("odd", code=999, unexpected=True))] * 60
    expected = await say(engine, 8)
    async with shipping(store_of(engine), archive) as one:
        await until_empty(store_of(engine))
    assert one.progress.dead > 0
    assert archive.said().total() + one.progress.dead >= expected.total()


async def test_a_wrong_password_is_an_alarm_and_can_be_mended(engine):
    archive = Recorder()
    archive.faults += [("before", ArchiveAuthError("wrong password"))] * 10
    expected = await say(engine, 20)
    async with shipping(store_of(engine), archive) as one:

        async def alarmed():
            return one.progress.alarm == "ArchiveAuthError: wrong password"

        await until(alarmed)
        await arrived(archive, expected)
        await until_empty(store_of(engine))
        assert one.progress.alarm == ""


async def test_two_shippers_share_the_work_and_double_nothing(engine):
    archive = Recorder()
    async with shipping(store_of(engine), archive), shipping(store_of(engine), archive):
        expected = await say(engine, 300)
        await arrived(archive, expected)
        await until_empty(store_of(engine))
    assert archive.said() == expected


class Deadly:
    """A store whose n-th call ends the task that makes it, before or after it is applied."""

    def __init__(self, store, number, *, after):
        self._store = store
        self._left = number
        self._after = after
        self.capabilities = store.capabilities

    async def apply(self, batch, *, timeout=None):
        self._left -= 1
        if self._left == 0 and not self._after:
            raise asyncio.CancelledError
        results = await self._store.apply(batch, timeout=timeout)
        if self._left == 0:
            raise asyncio.CancelledError
        return results


@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_call_the_next_one_finishes(engine, monkeypatch, after):
    monkeypatch.setattr(shipper, "_LOOK_AROUND", 0)
    archive, store = Recorder(), store_of(engine)
    destination = ArchiveDestination(archive, "test")
    expected: Counter[str] = Counter()
    for number in range(1, 40):
        expected += await say(engine, 15, f"{number} ")
        await leave_hints(store, map(bucket_of, SESSIONS))
        doomed = Shipper(Deadly(store, number, after=after), destination, linger=0.001)
        with contextlib.suppress(asyncio.CancelledError, TimeoutError):
            async with asyncio.timeout(1):
                await doomed._hold(doomed._groups[number % GROUPS])
        for group in range(GROUPS):
            await store.apply(Batch(home_of(group), "", (RUN_OUT,)))
    await destination.close()
    async with shipping(store, archive):
        await arrived(archive, expected)
        await until_empty(store)
    assert archive.said() == expected


async def until_empty(store):
    async def empty():
        return await waiting(store) == 0

    await until(empty)


async def test_a_lease_changes_hands_when_it_has_run_out():
    store = MemoryStore()
    first = await Lease.take(store, 0, "first")
    assert await Lease.take(store, 0, "second") is None
    assert await first.renew()
    await store.apply(Batch(home_of(0), "", (RUN_OUT,)))
    second = await Lease.take(store, 0, "second")

    assert second is not None
    assert not await first.renew()
    assert not await manifests.freeze(first, manifests.drawn_up([]))
    assert await manifests.found(store, home_of(0)) is None
    assert await second.renew()
    await second.give_back()
    assert await Lease.take(store, 0, "third") is not None
