"""Checkpoints of workflows, by thread, and the writes that belong to them.

In a thread's group: map `d` holds the records, index `o` their order (the number of the store
operation), map `w` and index `p` the writes of each task. Records are what `codec` makes of them:
what JSON cannot hold comes back as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aiecs.core.clock import utcnow
from aiecs.core.codec import decode, encode
from aiecs.core.errors import CorruptRecordError, InvalidInputError
from aiecs.core.events import About
from aiecs.core.ids import check_id
from aiecs.core.interface.store import (
    MAX_RECORD_BYTES,
    Get,
    GuardFailed,
    Incr,
    IndexPut,
    IndexRange,
    Op,
    Put,
    Result,
)
from aiecs.core.keys import escape
from aiecs.domain.context.arguments import listed, wanted_count
from aiecs.domain.context.groups import field_of
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.thread_state.listing import GraphCheckpoints
from aiecs.domain.context.threads import Threads

MAX_CHECKPOINT_BYTES = MAX_RECORD_BYTES - 8192
"""What a checkpoint, or the writes of one call, may take when encoded: 8 MiB less 8 KiB."""

_IDS_AT_ONCE = 1000
_RECORDS_AT_ONCE = 50

# Named here because `list` is a method below.
Checkpoint = dict[str, Any]
Found = list[Checkpoint]
Entries = list[tuple[str, int]]
Ids = list[str]
Records = list[bytes | None]
Writes = list[tuple[str, Any]]
Tasks = list[tuple[str, Writes]]


class Checkpoints:
    """The checkpoints of one store. Every call raises `StoreError` when the store is down."""

    def __init__(self, runtime: Runtime, threads: Threads, graphs: GraphCheckpoints) -> None:
        self._runtime = runtime
        self._threads = threads
        self._graphs = graphs

    async def store(
        self,
        thread_id: str,
        checkpoint_id: str,
        checkpoint_data: Any,
        metadata: dict[str, Any] | None = None,
        *,
        session_id: str | None = None,
    ) -> bool:
        """Store a checkpoint as the thread's latest, replacing one of the same id; True.

        One atomic write. The thread lives for the engine's checkpoint TTL from now on. `session_id`
        ties the thread to a session, which is created if unknown, and goes with it;
        `ConflictError` if the thread belongs to another one. `InvalidInputError` for values that
        cannot be kept or that take more than 8 MiB less 8 KiB.
        """
        check_id(thread_id, "thread_id")
        field = field_of(check_id(checkpoint_id, "checkpoint_id"))
        record = _record(checkpoint_data, metadata)
        count = Incr("", {"n": 1})
        order = IndexPut("o", {checkpoint_id: Result(0)})
        ids = (thread_id, checkpoint_id, session_id)
        event = self._runtime.events.event(record, About.CHECKPOINT, *ids, of=Result(0))
        try:
            put: Op = Put("d", {field: record}, if_absent="abort")
            await self._threads.write(thread_id, count, put, order, *event, session_id=session_id)
        except GuardFailed:
            put = Put("d", {field: record})
            await self._threads.write(thread_id, count, put, order, *event, session_id=session_id)
        else:
            self._runtime.counters.add("checkpoints", 1)
        return True

    put = store

    async def get(self, thread_id: str, checkpoint_id: str | None = None) -> Checkpoint | None:
        """A checkpoint, the latest stored one without an id; None if there is none.

        A dict of checkpoint_id, thread_id, data, metadata and created_at (ISO 8601, UTC).
        Where none was stored here, those of a graph count: `data` is its state as plain data.
        `CorruptRecordError` if its bytes cannot be decoded.
        """
        check_id(thread_id, "thread_id")
        if checkpoint_id is None:
            latest = await self._newest(thread_id, 1)
            if not latest:
                return await self._graphs.get(thread_id, None)
            checkpoint_id = latest[0]
        (record,) = await self._records(thread_id, [check_id(checkpoint_id, "checkpoint_id")])
        if record is None:
            return await self._graphs.get(thread_id, checkpoint_id)
        try:
            return _checkpoint(thread_id, checkpoint_id, record)
        except CorruptRecordError:
            self._runtime.note_corrupt("checkpoint", f"{thread_id}/{checkpoint_id}")
            raise

    async def list(self, thread_id: str, limit: int | None = 10) -> Found:
        """The thread's checkpoints, as `get` gives them, the one stored last first.

        At most `limit`; all of them for None or less than 1. One that cannot be decoded is left out
        and counted.
        """
        check_id(thread_id, "thread_id")
        found: Found = []
        ids = await self._newest(thread_id, limit)
        for start in range(0, len(ids), _RECORDS_AT_ONCE):
            names = ids[start : start + _RECORDS_AT_ONCE]
            records = await self._records(thread_id, names)
            found += self._readable(thread_id, zip(names, records, strict=True))
        return found if ids else await self._graphs.latest(thread_id, wanted_count(limit))

    async def put_writes(
        self, thread_id: str, checkpoint_id: str, task_id: str, writes_data: Iterable[Sequence[Any]]
    ) -> bool:
        """Keep what a task has written, (channel, value) pairs, for a checkpoint; True.

        Replaces what the same task had written for that checkpoint. The checkpoint need not be
        stored yet. One atomic write; `InvalidInputError` as for `store`.
        """
        check_id(thread_id, "thread_id")
        member = _task(checkpoint_id, check_id(task_id, "task_id"))
        pairs = _pairs(writes_data)
        record = encode([task_id, pairs], what="writes", max_bytes=MAX_CHECKPOINT_BYTES)
        put = Put("w", {field_of(member): record})
        count = Incr("", {"wn": len(pairs)})
        ids = (thread_id, checkpoint_id, task_id)
        event = self._runtime.events.event(record, About.WRITES, *ids, of=Result(0))
        await self._threads.write(thread_id, count, put, IndexPut("p", {member: 0}), *event)
        return True

    async def get_writes(self, thread_id: str, checkpoint_id: str) -> Writes:
        """The writes kept for a checkpoint, as (channel, value): by task id, then as they were put.

        Task ids are compared by code points. What cannot be decoded is left out and counted.
        """
        check_id(thread_id, "thread_id")
        prefix = _task(checkpoint_id, "")
        tasks: Tasks = []
        cursor: tuple[str, int] | None = None
        while True:
            page = IndexRange("p", prefix=prefix, limit=_RECORDS_AT_ONCE, cursor=cursor)
            members = (await self._threads.read(thread_id, page))[0]
            tasks += await self._tasks(thread_id, [member for member, _ in members])
            if len(members) < _RECORDS_AT_ONCE:
                break
            cursor = members[-1]
        if not tasks:
            return await self._graphs.writes(thread_id, checkpoint_id)
        return [pair for _, pairs in sorted(tasks, key=lambda task: task[0]) for pair in pairs]

    # --- reading --------------------------------------------------------------------------------

    async def _newest(self, thread_id: str, limit: int | None) -> Ids:
        """Ids of the last `limit` checkpoints stored, newest first."""
        wanted = wanted_count(limit)
        found: Entries = []
        while wanted is None or len(found) < wanted:
            size = _IDS_AT_ONCE if wanted is None else min(_IDS_AT_ONCE, wanted - len(found))
            cursor = found[-1] if found else None
            op = IndexRange("o", limit=size, reverse=True, cursor=cursor)
            page = (await self._threads.read(thread_id, op))[0]
            found += page
            if len(page) < size:
                break
        return [checkpoint_id for checkpoint_id, _ in found]

    async def _records(self, thread_id: str, ids: Ids) -> Records:
        op = Get("d", tuple(field_of(name) for name in ids))
        found: Records = (await self._threads.read(thread_id, op))[0]
        return found

    def _readable(
        self, thread_id: str, records: Iterable[tuple[str, bytes | None]]
    ) -> Iterable[Checkpoint]:
        for checkpoint_id, record in records:
            if record is not None:
                try:
                    yield _checkpoint(thread_id, checkpoint_id, record)
                except CorruptRecordError:
                    self._runtime.note_corrupt("checkpoint", f"{thread_id}/{checkpoint_id}")

    async def _tasks(self, thread_id: str, members: Ids) -> Tasks:
        if not members:
            return []
        op = Get("w", tuple(field_of(member) for member in members))
        records: Records = (await self._threads.read(thread_id, op))[0]
        found = []
        for member, record in zip(members, records, strict=True):
            try:
                found += [_writes(record)] if record is not None else []
            except CorruptRecordError:
                self._runtime.note_corrupt("checkpoint writes", f"{thread_id}/{member}")
        return found


def _record(data: Any, metadata: dict[str, Any] | None) -> bytes:
    if metadata is not None and not isinstance(metadata, dict):
        raise InvalidInputError(f"metadata is a dict, got {type(metadata).__name__}")
    record = {"data": data, "metadata": metadata or {}, "created_at": utcnow().isoformat()}
    return encode(record, what="checkpoint", max_bytes=MAX_CHECKPOINT_BYTES)


def _checkpoint(thread_id: str, checkpoint_id: str, record: bytes) -> Checkpoint:
    value = decode(record)
    try:
        data, metadata, created_at = value["data"], value["metadata"], value["created_at"]
    except (TypeError, KeyError, IndexError):
        raise CorruptRecordError("stored value is no checkpoint") from None
    return {
        "checkpoint_id": checkpoint_id,
        "thread_id": thread_id,
        "data": data,
        "metadata": metadata,
        "created_at": created_at,
    }


def _task(checkpoint_id: str, task_id: str) -> str:
    return f"{escape(check_id(checkpoint_id, 'checkpoint_id'))}/{escape(task_id)}"


def _pairs(writes: Iterable[Sequence[Any]]) -> list[list[Any]]:
    pairs = listed(writes, "writes_data")
    if not all(_is_pair(pair) for pair in pairs):
        raise InvalidInputError("writes_data holds (channel, value) pairs")
    return [list(pair) for pair in pairs]


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str)  # noqa: PLR2004 - a pair


def _writes(record: bytes) -> tuple[str, Writes]:
    try:
        task_id, pairs = decode(record)
        return task_id, [(channel, value) for channel, value in pairs]
    except (TypeError, ValueError):
        raise CorruptRecordError("stored value is no list of writes") from None
