"""Keeping only what is wanted: by idleness, and by age and number of messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import NamedTuple

import msgspec

from aiecs.core.clock import to_micros
from aiecs.core.errors import InvalidInputError
from aiecs.core.interface.store import (
    Batch,
    CorruptField,
    GuardFailed,
    IndexRange,
    LogSlice,
    Op,
    Put,
    Read,
    RequireEquals,
    Trim,
)
from aiecs.core.keys import session_place
from aiecs.domain.context.groups import (
    SessionGroup,
    conversation_log,
    linked_threads,
    read_session,
    read_thread,
    retire_session,
    retire_thread,
)
from aiecs.domain.context.indexes import (
    SESSIONS,
    THREADS,
    Entry,
    IndexPlace,
    drop_stale,
    pages,
    sessions_of,
    store_time,
)
from aiecs.domain.context.models import DeletionReport
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.session_record import ARCHIVED, NOTHING_ARCHIVED, TRIMMED_ARCHIVED

_HOUR = 3_600_000_000
_MAX_HOURS = 24 * 365 * 30
_PAGE = 500
_AT_ONCE = 32
_LOOKED_AT = 200


#: The other indexes that have a group which is gone; None for one that is not.
Gone = list[IndexPlace] | None


class Policy(NamedTuple):
    """What is kept; None keeps all. Hours; `max_messages` of each session and conversation."""

    max_idle_hours: float | None = None
    max_message_age_hours: float | None = None
    max_messages: int | None = None

    def check(self) -> None:
        """`InvalidInputError` for what makes no sense, and for keeping everything."""
        for name in ("max_idle_hours", "max_message_age_hours"):
            hours = getattr(self, name)
            if hours is not None and (
                type(hours) not in (int, float) or not 0 <= hours <= _MAX_HOURS
            ):
                raise InvalidInputError(f"{name} is 0..{_MAX_HOURS}, got {hours!r}")
        count = self.max_messages
        if count is not None and (type(count) is not int or count < 1):
            raise InvalidInputError(f"max_messages is 1 or more, got {count!r}")


class _Item(msgspec.Struct):
    timestamp: datetime | None = None


_time_of = msgspec.json.Decoder(_Item).decode


class Retention:
    """One run over a store. `dry_run`: nothing is changed, only counted."""

    def __init__(self, runtime: Runtime, policy: Policy, now: int, *, dry_run: bool) -> None:
        self._runtime = runtime
        self._dry = dry_run
        self._now = now
        self._keep = policy.max_messages
        idle, age = policy.max_idle_hours, policy.max_message_age_hours
        self._idle_before = None if idle is None else now - round(idle * _HOUR)
        self._oldest = None if age is None else now - round(age * _HOUR)
        self._removed = DeletionReport()
        self._settled: set[str] = set()

    async def run(self) -> DeletionReport:
        """What was removed, or would be."""
        await self._each(SESSIONS, self._session)
        await self._each(THREADS, self._thread)
        return self._removed

    async def _each(
        self, places: tuple[IndexPlace, ...], work: Callable[[str], Awaitable[Gone]]
    ) -> None:
        """`work` for every member, some at a time."""
        for place in places:
            async for page in self._pages(place):
                for at in range(0, len(page), _AT_ONCE):
                    some = page[at : at + _AT_ONCE]
                    left = await asyncio.gather(
                        *(self._one(entry, work) for entry in some), return_exceptions=True
                    )
                    gone: list[Entry] = []
                    for entry, found in zip(some, left, strict=True):
                        if isinstance(found, BaseException):
                            raise found
                        gone += [entry._replace(place=where) for where in found or ()]
                    await drop_stale(self._runtime, gone, self._now)
                    await asyncio.sleep(0)  # a store in memory never yields by itself

    async def _pages(self, place: IndexPlace) -> AsyncIterator[list[Entry]]:
        try:
            async for page in pages(self._runtime, (place,), IndexRange("_", limit=_PAGE)):
                yield page
        except CorruptField:
            self._runtime.note_corrupt("index", place.key)

    async def _one(self, entry: Entry, work: Callable[[str], Awaitable[Gone]]) -> Gone:
        try:
            others = await work(entry.member)
        except CorruptField:
            self._runtime.note_corrupt("group", entry.member)
            return None
        return None if others is None else [entry.place, *others]

    # --- whole sessions and threads -------------------------------------------------------------

    async def _session(self, session_id: str) -> Gone:
        group = await read_session(self._runtime, session_id)
        if group is None:
            return None if self._dry else []
        if not group.due(self._idle_before):
            await self._trim(group)
            return None
        if self._dry:
            await self._count(group)
            return None
        retired = await retire_session(self._runtime, session_id, idle_before=self._idle_before)
        self._removed += retired.removed
        if not retired.gone:
            return None
        return [sessions_of(group.user_id)] if group.user_id else []

    async def _count(self, group: SessionGroup) -> None:
        """What retiring the session would remove."""
        lives = False
        for thread in await linked_threads(self._runtime, group.session_id, group.threads):
            self._settled.add(thread.thread_id)
            if thread.due(self._idle_before):
                self._removed += thread.holds
            else:
                lives = True
        if not lives or group.due(None):
            self._removed += group.holds

    async def _thread(self, thread_id: str) -> Gone:
        if not self._dry:
            retired = await retire_thread(self._runtime, thread_id, idle_before=self._idle_before)
            self._removed += retired.removed
            return [] if retired.gone else None
        if thread_id not in self._settled:
            thread = await read_thread(self._runtime, thread_id)
            if thread is not None and thread.due(self._idle_before):
                self._removed += thread.holds
        return None

    # --- messages -------------------------------------------------------------------------------

    async def _trim(self, group: SessionGroup) -> None:
        if self._keep is None and self._oldest is None:
            return
        for log in ("m", *map(conversation_log, group.conversations)):
            bounds = await self._read(group, Read(log, limit=1, newest=False))
            start = await self._start(group, log, bounds)
            if start > bounds.base:
                await self._cut(group, log, start, start - bounds.base)

    async def _start(self, group: SessionGroup, log: str, bounds: LogSlice) -> int:
        """The sequence that the log is to begin with."""
        start = bounds.base if self._keep is None else max(bounds.base, bounds.next - self._keep)
        while self._oldest is not None and start < bounds.next:
            page = await self._read(group, Read(log, start, None, _LOOKED_AT, newest=False))
            young = (n for n, item in enumerate(page.items) if self._is_young(item))
            first = next(young, None)
            if first is not None:
                return page.first + first
            if not page.items:
                break
            start = page.first + len(page.items)
        return start

    def _is_young(self, item: bytes) -> bool:
        """What does not tell its time stays, but for what was erased."""
        if not item:
            return False
        try:
            told = _time_of(item).timestamp
        except (msgspec.MsgspecError, ValueError):
            return True
        return told is None or self._oldest is None or to_micros(told) >= self._oldest

    async def _cut(self, group: SessionGroup, log: str, start: int, count: int) -> None:
        """Trim the log, unless the session has gone meanwhile."""
        if not self._dry:
            ops: list[Op] = [
                RequireEquals("", "~i", group.head["~i"]),
                Trim(log, before=start),
            ]
            if group.head.get(ARCHIVED) == NOTHING_ARCHIVED:
                ops.insert(1, Put("", {ARCHIVED: TRIMMED_ARCHIVED}))
            try:
                results = await self._runtime.apply(
                    Batch(*session_place(group.session_id), tuple(ops))
                )
            except GuardFailed:
                return
            count = results[-1] if results else count
            self._runtime.counters.add("messages", -count)
        self._removed += DeletionReport(messages=count)

    async def _read(self, group: SessionGroup, read: Read) -> LogSlice:
        (found,) = await self._runtime.read(Batch(*session_place(group.session_id), (read,)))
        slice_: LogSlice = found
        return slice_


async def apply_policy(runtime: Runtime, policy: Policy, *, dry_run: bool) -> DeletionReport:
    """Remove what the policy does not keep; what that was. See `ContextEngine.apply_retention`."""
    policy.check()
    now = await store_time(runtime)
    return await Retention(runtime, policy, now, dry_run=dry_run).run()
