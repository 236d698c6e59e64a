"""The task context of a session: one value, stored whole, without loss, never on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiecs.core.codec import decode, encode
from aiecs.core.errors import CorruptRecordError, InvalidInputError
from aiecs.core.events import About
from aiecs.core.interface.store import MAX_RECORD_BYTES, Arg, Get, Plan, Put
from aiecs.domain.context.sessions import place_of
from aiecs.domain.task.task_context import TaskContext

if TYPE_CHECKING:
    from aiecs.domain.context.runtime import Runtime
    from aiecs.domain.context.sessions import Sessions

_GET = Plan("task context", Get("t", ("d",)))
MAX_CONTEXT_BYTES = MAX_RECORD_BYTES - 8192
"""What a task context may take when encoded: 8 MiB less 8 KiB."""


class TaskContexts:
    """The task contexts of one store. Every call raises `StoreError` when the store is down."""

    def __init__(self, runtime: Runtime, sessions: Sessions) -> None:
        self._runtime = runtime
        self._sessions = sessions
        event = runtime.events.planned(Arg(0), Arg(1))
        self._put = sessions.prepare("store_task_context", Put("t", {"d": Arg(0)}), *event)

    async def store(self, session_id: str, context: Any) -> bool:
        """Store the session's task context in place of an earlier one; True.

        False only for something that is not a `TaskContext`; then nothing is done. One atomic
        write, an activity of the session, which is created if unknown (`strict_sessions` raises
        instead). `InvalidInputError` for values that cannot be kept, or more than 8 MiB.
        """
        if not isinstance(context, TaskContext):
            return False
        data = encode(context.to_dict(), what="task context", max_bytes=MAX_CONTEXT_BYTES)
        head = self._runtime.events.heads(data, About.CONTEXT, session_id)
        await self._sessions.run(session_id, self._put, (data, *head))
        return True

    async def get(self, session_id: str) -> TaskContext | None:
        """The session's task context, a copy of the caller's own; None if there is none.

        `CorruptRecordError` if its bytes cannot be decoded.
        """
        ((data,),) = await self._runtime.ask(place_of(session_id), _GET)
        if data is None:
            return None
        try:
            return _context(data)
        except CorruptRecordError:
            self._runtime.note_corrupt("task context", session_id)
            raise


def _context(data: bytes) -> TaskContext:
    value = decode(data)
    try:
        return TaskContext.from_dict(value)
    except (InvalidInputError, TypeError, AttributeError, KeyError):
        raise CorruptRecordError("stored value is no task context") from None
