"""Checkpoint threads on their way into a store."""

from __future__ import annotations

import copy
from collections.abc import Coroutine
from typing import Any

from aiecs.core.codec import dump_json
from aiecs.core.errors import ConflictError
from aiecs.core.events import About
from aiecs.core.ids import check_id
from aiecs.core.interface.store import Get, GuardFailed, Incr, IndexPut, Put, Result
from aiecs.core.keys import escape
from aiecs.domain.context.groups import field_of
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.sessions import Sessions
from aiecs.domain.context.tasks import BackgroundTasks
from aiecs.domain.context.threads import Threads
from aiecs.domain.context.transfer_records import CheckpointRecord, WritesRecord

_ATTEMPTS = 8


class ThreadWriter:
    """Adds to threads what they do not hold yet; what they hold otherwise stays."""

    def __init__(self, runtime: Runtime) -> None:
        # Moving the linked session up in the background would spoil its last activity; and a
        # thread may be tied to a session that has ended, whatever live writes may do.
        quiet = copy.copy(runtime)
        quiet.tasks = _NoTasks()
        quiet.strict_sessions = False
        self._runtime = runtime
        self._threads = Threads(quiet, Sessions(quiet))

    async def checkpoint(self, record: CheckpointRecord) -> bool:
        """Store a checkpoint as the thread's latest; False if it is there."""
        field = field_of(check_id(record.checkpoint_id, "checkpoint_id"))
        value = dump_json(record.stored)[0]
        ids = (record.thread_id, record.checkpoint_id, record.session_id)
        told = self._runtime.events.event(value, About.CHECKPOINT, *ids, of=Result(0))
        for _ in range(_ATTEMPTS):
            ((found,),) = await self._threads.read(record.thread_id, Get("d", (field,)))
            if found is not None:
                return _same(found, value, f"checkpoint {record.checkpoint_id!r}")
            put = Put("d", {field: value}, if_absent="abort")
            order = IndexPut("o", {record.checkpoint_id: Result(0)})
            try:
                await self._threads.write(
                    record.thread_id,
                    Incr("", {"n": 1}),
                    *(put, order, *told),
                    session_id=record.session_id,
                )
            except GuardFailed:
                continue
            self._runtime.counters.add("checkpoints", 1)
            return True
        raise ConflictError(f"thread {record.thread_id!r} changes all the time")

    async def writes(self, record: WritesRecord) -> bool:
        """Keep the writes of a task; False if they are there."""
        checkpoint_id = check_id(record.checkpoint_id, "checkpoint_id")
        member = f"{escape(checkpoint_id)}/{escape(check_id(record.task_id, 'task_id'))}"
        field, value = field_of(member), dump_json(record.stored)[0]
        ids = (record.thread_id, checkpoint_id, record.task_id)
        told = self._runtime.events.event(value, About.WRITES, *ids, of=Result(0))
        for _ in range(_ATTEMPTS):
            ((found,),) = await self._threads.read(record.thread_id, Get("w", (field,)))
            if found is not None:
                return _same(found, value, f"writes for {record.checkpoint_id!r}")
            count = Incr("", {"wn": len(record.stored[1])})
            put = Put("w", {field: value}, if_absent="abort")
            order = IndexPut("p", {member: 0})
            try:
                await self._threads.write(
                    record.thread_id, count, put, order, *told, session_id=record.session_id
                )
            except GuardFailed:
                continue
            return True
        raise ConflictError(f"thread {record.thread_id!r} changes all the time")


def _same(found: bytes, value: bytes, what: str) -> bool:
    if found != value:
        raise ConflictError(f"another {what} is there; it stays")
    return False


class _NoTasks(BackgroundTasks):
    def spawn(self, work: Coroutine[Any, Any, Any]) -> bool:
        """Not started; said to be, so that nobody tries again."""
        work.close()
        return True
