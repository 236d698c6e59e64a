"""Threads: the way by which checkpoints are written, and how a thread is tied to its session.

A linked thread names its session in its head, and every write that names a session requires it to
match: one round trip. Only when that fails is the thread entered into the session's links, always
before its own head says so, and confirmed there afterwards: so a deletion of the session either
meets the thread, or the thread brings the session back.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from aiecs.core.errors import ConflictError, SessionNotFoundError
from aiecs.core.ids import check_id
from aiecs.core.interface.store import (
    NEW_INCARNATION,
    NOW,
    Batch,
    Expire,
    Get,
    GroupExpired,
    GroupMissing,
    GuardFailed,
    Incr,
    Op,
    Put,
    RequireBefore,
    RequireEquals,
    RequireFields,
)
from aiecs.core.keys import session_place, thread_place
from aiecs.core.lru import SizedLru
from aiecs.domain.context.activity import Activity
from aiecs.domain.context.groups import (
    ThreadGroup,
    field_of,
    make_room,
    read_thread,
    remove_thread,
    retire_thread,
    thread_keys,
)
from aiecs.domain.context.indexes import announce_thread
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.sessions import Sessions

_ATTEMPTS = 8
_REMEMBERED = 16_384
_PROLONGED_AFTER = 0.05
#: In a thread's head: how long it lives, where that is not the engine's time.
_TTL = "tl"


class Threads:
    """The checkpoint threads of one store, under one engine's settings."""

    def __init__(self, runtime: Runtime, sessions: Sessions) -> None:
        self._runtime = runtime
        self._sessions = sessions
        self._prolonged: SizedLru[str, float] = SizedLru(_REMEMBERED)
        self._activity = Activity(runtime.tasks, self._refresh)
        expiry = () if runtime.checkpoint_ttl is None else (Expire(runtime.checkpoint_ttl),)
        self._closing: tuple[Op, ...] = (Put("", {"l": NOW}), *expiry)

    async def read(self, thread_id: str, *ops: Op) -> list[Any]:
        """The results of operations that only read; an unknown thread reads as empty."""
        return await self._runtime.read(Batch(*thread_place(check_id(thread_id, "thread_id")), ops))

    async def write(
        self,
        thread_id: str,
        first: Op,
        *ops: Op,
        session_id: str | None = None,
        ttl: int | None = None,
    ) -> None:
        """Write to a thread in one batch, with its activity and sliding expiry.

        Creates an unknown thread, and ties it to `session_id`, which is created if unknown (under
        `strict_sessions`: `SessionNotFoundError`). `ConflictError` if the thread belongs to another
        session. `first` stays operation 0 of the batch, so that others may refer to its result. A
        guard of the caller's that refuses raises `GuardFailed`; then nothing is written. `ttl`
        (microseconds) is another lifetime than the engine's.
        """
        place = thread_place(check_id(thread_id, "thread_id"))
        fast = _belongs(session_id)
        extra = fast
        closing = self._closing if ttl is None else _lasting(ttl, l=NOW)
        for _ in range(_ATTEMPTS):
            try:
                await self._runtime.apply(Batch(*place, (first, *extra, *ops, *closing)))
            except GroupExpired:
                await retire_thread(self._runtime, thread_id)
            except GroupMissing:
                extra = await self._creating(thread_id, session_id)
            except GuardFailed as refusal:
                if refusal.operation == 0 or refusal.operation > len(extra):
                    raise
                extra = await self._settle(refusal, extra, thread_id, session_id)
            else:
                if extra is not fast and session_id is not None:
                    await self._confirm(thread_id, session_id)
                self._note(thread_id, extra)
                return
        raise ConflictError(f"thread {thread_id!r} is created and removed all the time")

    def _note(self, thread_id: str, extra: tuple[Op, ...]) -> None:
        if extra and type(extra[0]) is RequireBefore:
            self._activity.created(thread_id)
        else:
            self._activity.seen(thread_id)

    async def _creating(self, thread_id: str, session_id: str | None) -> tuple[Op, ...]:
        """What a batch needs in order to create the thread."""
        head: dict[str, Any] = {"~i": NEW_INCARNATION}
        if session_id is not None:
            await self._link(thread_id, session_id)
            head["s"] = session_id.encode()
        before = await announce_thread(self._runtime, thread_id)
        return (RequireBefore(before), Put("", head, if_absent="abort"))

    async def _settle(
        self,
        refusal: GuardFailed,
        extra: tuple[Op, ...],
        thread_id: str,
        session_id: str | None,
    ) -> tuple[Op, ...]:
        """What to try next when the guard on the session, or the creation, refused."""
        fast = _belongs(session_id)
        refused = extra[refusal.operation - 1] if refusal.operation > 0 else None
        if session_id is None or type(refused) is not RequireEquals:
            return fast
        if refusal.found is None:
            await self._link(thread_id, session_id)
            return (RequireEquals("", "s", None), Put("", {"s": session_id.encode()}))
        if refusal.found != session_id.encode():
            raise ConflictError(f"thread {thread_id!r} belongs to another session") from None
        return fast

    # --- links ----------------------------------------------------------------------------------

    async def _link(self, thread_id: str, session_id: str) -> None:
        """Enter the thread into the session's links; `ConflictError` if it is another's namesake.

        The session is created if unknown.
        """
        if thread_id != session_id:
            ((namesake,),) = await self._sessions.read(thread_id, Get("", ("~i",)))
            if namesake is not None:
                raise ConflictError(f"thread {thread_id!r} belongs to the session of that name")
        await self._sessions.apply(session_id, _link_ops(thread_id))

    async def _confirm(self, thread_id: str, session_id: str) -> None:
        """Note in the session that the thread is there now.

        A deletion that looked for the thread too early is refused by that and looks again; one that
        is over has left the thread alone, which brings the session back.
        """
        ops = (RequireFields("h", (field_of(thread_id),)), Incr("", {"hn": 1}))
        try:
            await self._runtime.apply(Batch(*session_place(session_id), ops))
        except GuardFailed:
            thread = await read_thread(self._runtime, thread_id)
            if thread is not None and thread.belongs_to(session_id):
                await self._link_again(thread, session_id)

    async def _link_again(self, thread: ThreadGroup, session_id: str) -> None:
        try:
            await self._sessions.apply(session_id, _link_ops(thread.thread_id))
        except SessionNotFoundError:
            await remove_thread(self._runtime, thread)
            raise

    async def _refresh(self, thread_id: str, renew: bool) -> None:
        """Move a thread up in its index and its session with it; `renew` all its safety nets.

        What was deleted in the meantime stays so.
        """
        ((session, lasting),) = await self._runtime.read(
            Batch(*thread_place(thread_id), (Get("", ("s", _TTL)),))
        )
        await announce_thread(self._runtime, thread_id)
        await self._touch_session(thread_id if session is None else session.decode())
        ttl = self._runtime.checkpoint_ttl if lasting is None else int(lasting)
        if renew and ttl is not None:
            with suppress(GroupMissing):
                ops = (Expire(ttl, thread_keys()),)
                await self._runtime.apply(Batch(*thread_place(thread_id), ops))

    async def used(self, thread_id: str, ttl: int | None) -> None:
        """A thread was read, and is to live for its time from now on: `ttl` or the engine's."""
        lasting = self._runtime.checkpoint_ttl if ttl is None else ttl
        if lasting is None or not self._is_due(thread_id, lasting):
            return
        ops: tuple[Op, ...] = (Expire(lasting, thread_keys()),)
        if ttl is not None:
            ops = (*_lasting(ttl)[:-1], *ops)
        with suppress(GroupMissing):
            await self._runtime.apply(Batch(*thread_place(thread_id), ops))

    def _is_due(self, thread_id: str, ttl: int) -> bool:
        """Whether a good part of its time is over since it was prolonged by this process."""
        now = time.monotonic()
        last = self._prolonged.get(thread_id)
        if last is not None and (now - last) * 1_000_000 < ttl * _PROLONGED_AFTER:
            return False
        self._prolonged.hold(thread_id, now)
        return True

    async def _touch_session(self, session_id: str) -> None:
        """Note an activity of the session if there is one; an expired one comes back, linked."""
        if not await self._sessions.update(session_id):
            await make_room(self._runtime, session_id)


def _lasting(ttl: int, **fields: Any) -> tuple[Op, ...]:
    return (Put("", {_TTL: b"%d" % ttl, **fields}), Expire(ttl))


def _link_ops(thread_id: str) -> tuple[Op, ...]:
    return (Put("h", {field_of(thread_id): NOW}), Incr("", {"hn": 1}))


def _belongs(session_id: str | None) -> tuple[Op, ...]:
    if session_id is None:
        return ()
    return (RequireEquals("", "s", check_id(session_id, "session_id").encode()),)
