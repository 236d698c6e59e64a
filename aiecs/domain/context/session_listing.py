"""Sessions found again: by user, by status, by latest activity, in pages."""

from __future__ import annotations

import asyncio
import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from itertools import islice
from typing import NamedTuple

import msgspec

from aiecs.core.errors import InvalidInputError
from aiecs.core.ids import check_id
from aiecs.core.interface.store import Clock, CorruptField, Get, IndexRange, Plan
from aiecs.core.interface.value_rules import parse_integer
from aiecs.core.keys import session_place
from aiecs.domain.context.indexes import SESSIONS, Entry, drop_stale, entries, sessions_of
from aiecs.domain.context.models import Page, SessionMetrics
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.session_record import check_status, read_session

MAX_LIMIT = 1_000
MAX_SCANNED = 1_000
_AT_ONCE = 100
_LOOK = Plan("session listed", Clock(), Get(""), raw=True)

_Mark = tuple[str, int]


class _Wanted(NamedTuple):
    """What a listing looks for."""

    user_id: str | None
    status: str | None
    newest: bool


class SessionListing:
    """Walks the advisory indexes and reads what they point to."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def page(
        self,
        user_id: str | None = None,
        status: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[SessionMetrics]:
        """Sessions, latest indexed activity first. See `ContextEngine.list_sessions`."""
        if type(limit) is not int or not 0 < limit <= MAX_LIMIT:
            raise InvalidInputError(f"limit is 1..{MAX_LIMIT}, got {limit!r}")
        wanted = _wanted(user_id, status, newest=True)
        mark = None if cursor is None else _mark(cursor)
        found, mark = await self._scan(wanted, limit, mark)
        return Page(found, None if mark is None else _cursor(mark))

    async def walk(
        self, user_id: str | None = None, status: str | None = None
    ) -> AsyncIterator[SessionMetrics]:
        """Every session once, oldest activity first: one that is used meanwhile is not missed."""
        wanted = _wanted(user_id, status, newest=False)
        seen: set[str] = set()
        mark: _Mark | None = None
        while True:
            found, mark = await self._scan(wanted, _AT_ONCE, mark)
            for session in found:
                if session.session_id not in seen:
                    seen.add(session.session_id)
                    yield session
            if mark is None:
                return

    async def _scan(
        self, wanted: _Wanted, limit: int, mark: _Mark | None
    ) -> tuple[list[SessionMetrics], _Mark | None]:
        """Up to `limit` sessions behind `mark`, and the mark to go on from, None at the end."""
        places = SESSIONS if wanted.user_id is None else (sessions_of(wanted.user_id),)
        found: list[SessionMetrics] = []
        scanned, size = 0, min(limit, _AT_ONCE)
        while scanned < MAX_SCANNED:
            size = min(size, MAX_SCANNED - scanned)
            ask = IndexRange("_", limit=size, reverse=wanted.newest, cursor=mark)
            page = await entries(self._runtime, places, ask)
            sessions = await self._sessions(page, wanted)
            used = _until_full(sessions, limit - len(found))
            found += [session for session in sessions[:used] if session is not None]
            if used == len(page) < size:
                return found, None
            mark = page[used - 1].member, page[used - 1].score
            scanned += used
            if len(found) >= limit:
                break
            # Few fit: with pages of what is still wanted, one session is as dear as a thousand.
            size = min(2 * size, _AT_ONCE)
        return found, mark

    async def _sessions(self, page: list[Entry], wanted: _Wanted) -> list[SessionMetrics | None]:
        """What each entry leads to; None where it does not fit."""
        return await asyncio.gather(*(self._session(entry, wanted) for entry in page))

    async def _session(self, entry: Entry, wanted: _Wanted) -> SessionMetrics | None:
        try:
            now, head = await self._runtime.ask(session_place(entry.member), _LOOK)
        except CorruptField:
            self._runtime.note_corrupt("session", entry.member)
            return None
        owner = head.get("u", b"")
        foreign = wanted.user_id is not None and owner != wanted.user_id.encode()
        if "~i" not in head or foreign:
            await drop_stale(self._runtime, (entry,), now)
            return None
        ends = parse_integer(head.get("~x", b"%d" % (now + 1)))
        if ends is None:
            self._runtime.note_corrupt("session", entry.member)
        if ends is None or ends <= now:
            return None
        session = read_session(self._runtime, entry.member, head)
        return session if wanted.status in (None, session.status) else None


def _wanted(user_id: str | None, status: str | None, *, newest: bool) -> _Wanted:
    if user_id is not None:
        check_id(user_id, "user_id")
    if status is not None:
        check_status(status)
    return _Wanted(user_id, status, newest)


def _until_full(sessions: list[SessionMetrics | None], room: int) -> int:
    """How many of `sessions` it takes for `room` that fit; all, if there are not so many."""
    fitting = (number for number, session in enumerate(sessions, 1) if session is not None)
    return next(islice(fitting, room - 1, None), len(sessions))


def _cursor(mark: _Mark) -> str:
    return urlsafe_b64encode(msgspec.json.encode(mark)).decode().rstrip("=")


def _mark(cursor: str) -> _Mark:
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(text, type=tuple[str, int])
    except (msgspec.MsgspecError, binascii.Error, TypeError, ValueError):
        raise InvalidInputError("this cursor is not from list_sessions") from None
