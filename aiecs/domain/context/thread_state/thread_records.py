"""A thread's records in the store: each write and each read is one batch.

In the thread's group, beside what `Checkpoints` keeps there: map `d` holds the checkpoints, map `w`
the writes that wait for them, index `p` their members in order, map `e` what they are made of, by
name. The head's `ek` is the key of the names and a count of clean-ups: whoever leaves out what is
stored already, requires it to be as it was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from aiecs.core.errors import ConflictError, InvalidInputError
from aiecs.core.interface.store import (
    MAX_RECORD_BYTES,
    Batch,
    Extend,
    Gather,
    Gathered,
    Get,
    GuardFailed,
    Incr,
    IndexPut,
    IndexRange,
    Op,
    Put,
    RequireEquals,
)
from aiecs.core.keys import thread_place
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.thread_state.cache import KEY_BYTES, Caches, Known, ThreadCache
from aiecs.domain.context.thread_state.manifests import children_of
from aiecs.domain.context.thread_state.names import new_key, space_of
from aiecs.domain.context.thread_state.records import Content
from aiecs.domain.context.thread_state.telling import Row, Telling, of_size
from aiecs.domain.context.threads import Threads

MAX_PART_BYTES = MAX_RECORD_BYTES - 8192
"""What a value that is not kept by its parts, or one part, may take: 8 MiB less 8 KiB."""

_ATTEMPTS = 8
_FIELDS_AT_ONCE = 1000
_KNOWN_AT_MOST = 1000
_BYTES_AT_ONCE = 4 * 1024 * 1024
_STATE = "ek"

T = TypeVar("T")


Make = Callable[[ThreadCache], Content]


class Found(NamedTuple):
    """A checkpoint as it is stored: its member, its record, its writes (None: there are none)."""

    member: str
    record: bytes
    writes: bytes | None


class Slice(NamedTuple):
    """Some of the members of a thread: those that are checkpoints, and what waits for each."""

    members: list[str]
    found: list[Found]
    waiting: list[bytes | None]


class ThreadRecords:
    """The checkpoint records of one store; calls raise `StoreError` when it is down."""

    def __init__(self, runtime: Runtime, threads: Threads, caches: Caches) -> None:
        self._runtime = runtime
        self._threads = threads
        self._told = Telling(runtime.events)
        self.caches = caches

    # --- writing --------------------------------------------------------------------------------

    async def put(
        self, thread_id: str, member: str, make: Make, *, session_id: str | None, ttl: int | None
    ) -> None:
        """Store a checkpoint, replacing one of the same id; with all that it is made of, or not.

        `make` is asked for it again when what was thought to be stored is not.
        """

        async def attempt(content: Content, guards: tuple[Op, ...]) -> None:
            field = {member: content.record}
            told = self._told.checkpoint(thread_id, member, content, session_id)
            rest = (*guards, IndexPut("p", {member: 0}), *_puts(content.parts), *told)
            try:
                await self._threads.write(
                    thread_id,
                    Put("d", field, if_absent="abort"),
                    *(Incr("", {"n": 1, "gn": 1}), *rest),
                    session_id=session_id,
                    ttl=ttl,
                )
            except GuardFailed as refusal:
                if refusal.operation != 0:
                    raise
                await self._threads.write(
                    thread_id,
                    *(Incr("", {"n": 1}), Put("d", field), *rest),
                    session_id=session_id,
                    ttl=ttl,
                )
            else:
                self._runtime.counters.add("checkpoints", 1)

        await self._write(thread_id, make, attempt, ttl)

    async def add_writes(
        self, thread_id: str, member: str, make: Make, count: int, *, ttl: int | None
    ) -> None:
        """Put writes behind those that the checkpoint has; it need not be stored yet."""

        async def attempt(content: Content, guards: tuple[Op, ...]) -> None:
            extend = (Extend("w", {member: content.record}), IndexPut("p", {member: 0}))
            told = self._told.writes(thread_id, member, content)
            ops = (*guards, *extend, *_puts(content.parts), *told)
            try:
                await self._threads.write(thread_id, Incr("", {"wn": count}), *ops, ttl=ttl)
            except GuardFailed:
                ((stored,),) = await self._threads.read(thread_id, Get("w", (member,)))
                _check_room(stored, content.record)
                raise

        await self._write(thread_id, make, attempt, ttl)

    async def _write(
        self,
        thread_id: str,
        make: Make,
        attempt: Callable[[Content, tuple[Op, ...]], Awaitable[None]],
        ttl: int | None,
    ) -> None:
        for _ in range(_ATTEMPTS):
            cache = self.caches.get(thread_id) or await self._open(thread_id)
            known = cache.known
            content = make(cache)
            _check(content)
            try:
                left = await self._send_ahead(thread_id, known, content, ttl)
                await attempt(left, _guards(known))
            except GuardFailed:
                self.caches.forget(thread_id)  # cleaned up, removed or begun anew meanwhile
                continue
            if known.state is None:
                known.state = known.key
            known.names.update(content.parts)
            self.caches.put(thread_id, cache)
            return
        raise ConflictError(f"thread {thread_id!r} is cleaned up or removed all the time")

    async def _send_ahead(
        self, thread_id: str, known: Known, content: Content, ttl: int | None
    ) -> Content:
        """Store parts that one batch could not hold with the record; what is left to be stored."""
        parts = content.parts
        if len(content.record) + sum(map(len, parts.values())) <= _BYTES_AT_ONCE:
            return content
        for some in of_size(parts, _BYTES_AT_ONCE, _FIELDS_AT_ONCE):
            ops = (*_puts(some), *self._told.parts(thread_id, some))
            await self._threads.write(thread_id, *_guards(known), *ops, ttl=ttl)
            known.state = known.state or known.key
        return content._replace(parts={})

    async def begin(self, thread_id: str, ttl: int | None) -> bytes:
        """The state of a thread's contents; one that is not there is made."""
        while True:
            key = Put("", {_STATE: new_key()}, if_absent="skip")
            await self._threads.write(thread_id, key, ttl=ttl)
            ((state,),) = await self._threads.read(thread_id, Get("", (_STATE,)))
            if state is not None:
                return bytes(state)

    async def add(
        self,
        thread_id: str,
        state: bytes,
        rows: Sequence[Row],
        parts: dict[str, bytes],
        *,
        ttl: int | None,
    ) -> None:
        """Put (member, record, writes) of another thread into this one, in place of its own.

        `parts` are those that they refer to and that are not there yet, and go first where one
        batch could not hold them. `GuardFailed` when the contents are no longer in that `state`:
        then something that was there may be gone.
        """
        same = RequireEquals("", _STATE, state)
        for some in of_size(parts, _BYTES_AT_ONCE, _FIELDS_AT_ONCE):
            told = self._told.parts(thread_id, some)
            await self._threads.write(thread_id, same, *_puts(some), *told, ttl=ttl)
        members = tuple(row[0] for row in rows)
        if not members:
            return
        (stored,) = await self._threads.read(thread_id, Get("d", members))
        new = sum(row[1] is not None and old is None for row, old in zip(rows, stored, strict=True))
        found = {member: record for member, record, _ in rows if record is not None}
        waiting = {member: writes for member, _, writes in rows if writes is not None}
        ops: list[Op] = [IndexPut("p", dict.fromkeys(members, 0))]
        ops += [Put(name, fields) for name, fields in (("d", found), ("w", waiting)) if fields]
        count = Incr("", {"n": 1, "gn": new, "wn": len(waiting)})
        copied = self._told.copied(thread_id, rows)
        await self._threads.write(thread_id, count, same, *ops, *copied, ttl=ttl)
        self._runtime.counters.add("checkpoints", new)

    async def remove(
        self, thread_id: str, ops: Sequence[Op], checkpoints: int, wanted: Sequence[str] = ()
    ) -> None:
        """A batch that removes so many checkpoints; the thread's life is not prolonged.

        `wanted` are the members of those that somebody wanted gone, from the archive too.
        """
        told = self._told.removed(thread_id, wanted)
        await self._runtime.apply(Batch(*thread_place(thread_id), (*ops, *told)))
        self._runtime.counters.add("checkpoints", -checkpoints)

    async def _open(self, thread_id: str) -> ThreadCache:
        ((state,),) = await self._threads.read(thread_id, Get("", (_STATE,)))
        cache = ThreadCache(_known(state))
        self.caches.put(thread_id, cache)
        return cache

    # --- reading --------------------------------------------------------------------------------

    async def read(self, thread_id: str, *ops: Op) -> list[Any]:
        """The results of operations that only read; an unknown thread reads as empty."""
        return await self._threads.read(thread_id, *ops)

    async def gather(
        self, thread_id: str, wanted: Gather, *others: Op
    ) -> tuple[ThreadCache, Slice, list[Any]]:
        """Checkpoints in one round trip, with the nodes of their manifests, which are remembered.

        `wanted` says which; its maps and links are filled in here. Last the results of `others`.
        """
        cache = self.caches.get(thread_id)
        nodes = () if cache is None else tuple(cache.nodes)[-_KNOWN_AT_MOST:]
        op = wanted._replace(maps=("d", "w"), links="e", known=nodes)
        look = Get("", (_STATE,))
        state, gathered, *results = await self._threads.read(thread_id, look, op, *others)
        if cache is None or cache.known.state != state[0]:
            cache = ThreadCache(_known(state[0]))
            if nodes:
                self.caches.put(thread_id, cache)
                return await self.gather(thread_id, wanted, *others)
        cache.nodes.update(gathered.linked)
        self.caches.put(thread_id, cache)
        return cache, slice_of(gathered), results

    async def load_nodes(
        self, thread_id: str, nodes: dict[str, bytes], names: Sequence[str]
    ) -> None:
        """Add to `nodes` those of these names, and all that they lead to, level by level."""
        wanted = list(names)
        while unknown := [name for name in wanted if name not in nodes]:
            found = await self.fetch(thread_id, unknown)
            nodes.update(found)
            read = map(children_of, found.values())
            wanted = [name for children, inner in read if inner for name in children]

    async def before(
        self, thread_id: str, wanted: Gather, space: str, most: int
    ) -> tuple[ThreadCache, Slice, list[str]]:
        """As `gather`, with the members of what came before the one wanted, the latest first."""
        older = IndexRange("p", limit=most, reverse=True, prefix=space)
        if wanted.members:
            older = older._replace(cursor=(wanted.members[0], 0))
        cache, some, (listed,) = await self.gather(thread_id, wanted, older)
        at = some.found[0].member if some.found else ""
        return cache, some, [member for member, _ in listed if member < at]

    async def rows(
        self, thread_id: str, members: Sequence[str]
    ) -> dict[str, tuple[bytes | None, bytes | None]]:
        """Record and writes of each of these members; None for what there is not."""
        some = [tuple(part) for part in chunks(members, _FIELDS_AT_ONCE)]
        results = await self.read(thread_id, *(Get(key, part) for part in some for key in "dw"))
        rows = zip(some, results[::2], results[1::2], strict=True)
        return {
            member: (record, writes)
            for part, found, waiting in rows
            for member, record, writes in zip(part, found, waiting, strict=True)
        }

    async def used(self, thread_id: str, ttl: int | None) -> None:
        """A thread was read, and is to live for its time from now on."""
        await self._threads.used(thread_id, ttl)

    async def members(self, thread_id: str) -> list[str]:
        """The members of all checkpoints of a thread, in their order."""
        found: list[tuple[str, int]] = []
        while True:
            cursor = found[-1] if found else None
            page = IndexRange("p", limit=_FIELDS_AT_ONCE, cursor=cursor, prefix=space_of(None))
            (some,) = await self._threads.read(thread_id, page)
            found += some
            if len(some) < _FIELDS_AT_ONCE:
                return [member for member, _ in found]

    async def fetch(self, thread_id: str, names: Sequence[str]) -> dict[str, bytes]:
        """What is stored under names; those that are gone are left out."""
        found: dict[str, bytes] = {}
        ops = [Get("e", tuple(part)) for part in chunks(names, _FIELDS_AT_ONCE)]
        for some in chunks(ops, 16):
            results = await self._runtime.read(Batch(*thread_place(thread_id), tuple(some)))
            for op, values in zip(some, results, strict=True):
                pairs = zip(op.fields or (), values, strict=True)
                found |= {name: value for name, value in pairs if value is not None}
        return found


def _known(state: bytes | None) -> Known:
    return Known(state, new_key() if state is None else state[:KEY_BYTES])


def _guards(known: Known) -> tuple[Op, ...]:
    """What holds as long as everything known to be stored is stored."""
    if known.state is None:
        return (Put("", {_STATE: known.key}, if_absent="abort"),)
    return (RequireEquals("", _STATE, known.state),)


def _puts(parts: dict[str, bytes]) -> Iterator[Op]:
    names = list(parts)
    for some in chunks(names, _FIELDS_AT_ONCE):
        yield Put("e", {name: parts[name] for name in some})


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in runs of at most `size`."""
    return (items[at : at + size] for at in range(0, len(items), size))


def _check(content: Content) -> None:
    largest = max(len(one) for one in (content.record, *content.parts.values()))
    if largest > MAX_PART_BYTES:
        raise InvalidInputError(
            f"a value, or an element of a list or dict, takes at most {MAX_PART_BYTES} bytes, "
            f"got {largest}"
        )


def _check_room(stored: bytes | None, record: bytes) -> None:
    if len(stored or b"") + len(record) > MAX_RECORD_BYTES:
        raise InvalidInputError(
            f"the writes for one checkpoint take at most {MAX_RECORD_BYTES} bytes, without the "
            "values that they refer to"
        )


def slice_of(gathered: Gathered) -> Slice:
    """What was gathered of maps `d` and `w`. Writes may stand there before their checkpoint."""
    rows = zip(gathered.members, *gathered.values, strict=True)
    found = [Found(*row) for row in rows if row[1] is not None]
    return Slice(gathered.members, found, gathered.values[1])
