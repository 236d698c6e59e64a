"""What came before the hot part of a session's history: earlier lives, and what was trimmed.

It is never written back: a history that is read is the archive's part, then what lies in the
outbox and has not reached the archive, then the hot store's part. A session that is alive knows
whether there is anything to ask for (head field `ar`): "0" from the start for an id that the engine
made itself, else after the first look; whoever erases an earlier life gives it a new value, for it
is part of the key under which what was read is kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from math import inf
from typing import NamedTuple

from aiecs.core.cold import ColdMessage, ColdReader, Life, Wanted
from aiecs.core.errors import ArchiveError, ArchiveUnavailableError
from aiecs.core.interface.store import MAX_INTEGER, Batch, Get, GuardFailed, Put, RequireEquals
from aiecs.core.lru import SizedLru
from aiecs.domain.context.asked import Asked, patience
from aiecs.domain.context.lives import joined, left, without_erased
from aiecs.domain.context.messages import Row, decode_items
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.session_record import ARCHIVED, NOTHING_ARCHIVED, TRIMMED_ARCHIVED
from aiecs.domain.context.sessions import place_of
from aiecs.domain.context.unshipped import Unshipped, unshipped

_CACHE_BYTES = 16 * 1024 * 1024
_MOST_NAMES = 65_536
_ROW_OVERHEAD = 640
_AFTER_ALL = "~"
_LATELY = 300.0


class Hot(NamedTuple):
    """What the hot store has shown: the epoch of the session's log and its first sequence."""

    epoch: str
    base: int

    @property
    def incarnation(self) -> str:
        """The life that the log is of; "" where there is no log."""
        return self.epoch.rpartition(".")[0]


class Span(NamedTuple):
    """Messages with `start <= seq < stop`: the newest `limit` (None: all), or the oldest."""

    limit: int | None
    start: int = 0
    stop: int = MAX_INTEGER
    newest: bool = True

    @property
    def is_all(self) -> bool:
        """Whether it ends at nothing but its limit."""
        return self[1:] == (0, MAX_INTEGER, True)

    def cut(self, rows: list[Row]) -> list[Row]:
        """Those of `rows`, which are in order."""
        if self.limit is None:
            return rows
        return rows[-self.limit :] if self.newest else rows[: self.limit]


class _Session(NamedTuple):
    """The head of a session that is alive; empty values for one that is not.

    `ended`: the hot part is of a life that was over when its head was read.
    """

    session_id: str
    incarnation: str
    user_id: str
    mark: bytes | None
    base: int
    ended: bool = False

    @property
    def end(self) -> tuple[str, int]:
        return (self.incarnation, self.base) if self.incarnation else (_AFTER_ALL, MAX_INTEGER)


class _Prefix(NamedTuple):
    rows: list[Row]
    whole: bool


class Earlier:
    """The archived part of histories. `timeout` (seconds) bounds the wait for the archive."""

    def __init__(self, runtime: Runtime, reader: ColdReader, timeout: float) -> None:
        self._runtime = runtime
        self._reader = reader
        self._timeout = timeout
        #: Logs before which nothing is.
        self._first: SizedLru[tuple[str, Hot], bool] = SizedLru(_MOST_NAMES)
        #: Sessions of which there is nothing at all, with the outbox's next sequence at that time.
        self._unknown: SizedLru[str, int] = SizedLru(_MOST_NAMES)
        self._prefixes: SizedLru[_Session, _Prefix] = SizedLru(_CACHE_BYTES)
        self._gaps = 0
        self._last_gap = -inf

    @property
    def gaps(self) -> tuple[int, bool]:
        """How many histories were served without their archived part; whether lately."""
        return self._gaps, time.monotonic() - self._last_gap < _LATELY

    async def rows(
        self, session_id: str, hot: Hot, span: Span, *, insist: bool = False
    ) -> list[Row]:
        """Messages before the hot part, in order.

        While the archive does not answer: those that it has not got yet, and a gap is counted;
        `insist`: `ArchiveError`.
        """
        if self._first.get((session_id, hot)):
            return []
        session = await self._session(session_id, hot)
        if session.mark == NOTHING_ARCHIVED and self._runtime.max_messages is None:
            self._is_first(session_id, hot)
            return []
        kept = self._prefixes.get(session) if span.is_all else None
        if kept is not None and (kept.whole or len(kept.rows) >= (span.limit or MAX_INTEGER)):
            return span.cut(kept.rows)
        seconds = patience(self._timeout, insist=insist)
        waiting = await unshipped(self._runtime, session_id, seconds)
        if not session.incarnation and self._unknown.get(session_id) == waiting.next:
            return []
        try:
            rows, whole = await self._look(session, hot, waiting, span, insist=insist)
        except ArchiveError:
            if insist:
                raise
            return self._without_archive(session, waiting, span)
        if not waiting.whole:
            self._note_gap()
        elif session.incarnation and not session.ended and span.is_all:
            size = sum(_ROW_OVERHEAD + len(row[1].content) for row in rows)
            self._prefixes.hold(session, _Prefix(rows, whole), size + _ROW_OVERHEAD)
        return rows

    def _without_archive(self, session: _Session, waiting: Unshipped, span: Span) -> list[Row]:
        """What waits for the archive, of lives of which that tells whose they are."""
        self._note_gap()
        told = {*waiting.sure} if session.ended else {*waiting.sure, session.incarnation}
        there = left(waiting.lives, waiting.erasure)
        lives = [life for life in there if life.incarnation in told]
        known = _between(waiting.messages, _visible(lives, session), session, span)
        return span.cut(self._decoded(session, known))

    def _note_gap(self) -> None:
        self._gaps += 1
        self._last_gap = time.monotonic()

    async def _look(
        self, session: _Session, hot: Hot, waiting: Unshipped, span: Span, *, insist: bool
    ) -> tuple[list[Row], bool]:
        """The rows, and whether there are no more of them."""
        if insist and not waiting.whole:
            raise ArchiveUnavailableError("more waits for the archive than can be read in time")
        asked = Asked(self._reader, waiting.base, self._timeout, insist=insist)
        lives = waiting.lives
        if session.mark not in (NOTHING_ARCHIVED, TRIMMED_ARCHIVED):
            lives = joined(lives, await asked.lives(_wanted(session, (), span), span.limit))
        lives = await without_erased(self._runtime, lives)
        visible = _visible(left(lives, waiting.erasure), session)
        archived, whole = await asked.messages(_wanted(session, visible, span), span.limit)
        known = _between(waiting.messages, visible, session, span)
        found = {message[:2]: message for message in [*archived, *known]}
        self._remember(session, hot, waiting, lives, is_first=not found and span.is_all)
        rows = self._decoded(session, [found[place] for place in sorted(found)])
        cut = span.cut(rows)
        return cut, whole and len(cut) == len(rows)

    async def _session(self, session_id: str, hot: Hot) -> _Session:
        wanted = Batch(*place_of(session_id), (Get("", ("~i", "u", ARCHIVED)),))
        ((found, user, mark),) = await self._runtime.read(wanted)
        incarnation, of_hot = (found or b"").decode(errors="replace"), hot.incarnation
        if of_hot not in ("", incarnation):
            return _Session(session_id, of_hot, "", None, hot.base, ended=True)
        owner = (user or b"").decode(errors="replace")
        base = hot.base if hot.epoch else MAX_INTEGER
        return _Session(session_id, incarnation, owner, mark, base)

    def _remember(
        self,
        session: _Session,
        hot: Hot,
        waiting: Unshipped,
        lives: dict[str, Life],
        *,
        is_first: bool,
    ) -> None:
        """That there is nothing, if that is so; `is_first`: nor of this life before its log."""
        if session.ended or not waiting.whole:
            return
        others = [one for one in lives.values() if not one.gone and one[0] != session.incarnation]
        if others:
            return
        if not session.incarnation:
            if not lives:
                self._unknown.hold(session.session_id, waiting.next)
            return
        if is_first:
            self._is_first(session.session_id, hot)
        if session.mark in (NOTHING_ARCHIVED, TRIMMED_ARCHIVED):
            return
        keeps_all = is_first and self._runtime.max_messages is None
        mark = NOTHING_ARCHIVED if keeps_all else TRIMMED_ARCHIVED
        self._runtime.tasks.spawn(self._mark(session, mark))

    def _is_first(self, session_id: str, hot: Hot) -> None:
        if hot.epoch and self._runtime.max_messages is None:
            self._first.hold((session_id, hot), value=True)

    async def _mark(self, session: _Session, mark: bytes) -> None:
        """Tell other processes that no life came before this one."""
        same = RequireEquals("", "~i", session.incarnation.encode())
        unmarked = RequireEquals("", ARCHIVED, None)
        with suppress(GuardFailed):
            ops = (same, unmarked, Put("", {ARCHIVED: mark}))
            await self._runtime.apply(Batch(*place_of(session.session_id), ops))

    def _decoded(self, session: _Session, messages: Sequence[ColdMessage]) -> list[Row]:
        rows, corrupt = decode_items(0, [message.record for message in messages])
        for number in corrupt:
            where = f"{session.session_id} #{messages[number].sequence}"
            self._runtime.note_corrupt("archived message", where)
        return [(messages[number].sequence, stored, deep) for number, stored, deep in rows]


def _visible(lives: Iterable[Life], session: _Session) -> list[str]:
    """The incarnations that may be shown: the owner's own, and unowned ones.

    The owner of a session that is not alive, or has none, is that of its newest owned life.
    """
    there = sorted(life for life in lives if not life.gone)
    if session.ended:  # what came after it is not to decide who may see it
        there = [life for life in there if life.incarnation <= session.incarnation]
        if not there or there[-1].incarnation != session.incarnation:
            return []
    owners = [life.user_id for life in there if life.user_id]
    owner = session.user_id or (owners[-1] if owners else "")
    shown = [life.incarnation for life in there if life.user_id in ("", owner)]
    if session.incarnation and session.incarnation not in shown:
        shown.append(session.incarnation)
    return shown


def _wanted(session: _Session, visible: Sequence[str], span: Span) -> Wanted:
    life, sequence = session.end
    place = (session.session_id, tuple(visible), life, sequence)
    return Wanted(*place, start=span.start, stop=span.stop, limit=0, newest=span.newest)


def _between(
    messages: Iterable[ColdMessage], visible: Sequence[str], session: _Session, span: Span
) -> list[ColdMessage]:
    return sorted(
        message
        for message in messages
        if message.incarnation in visible
        and message[:2] < session.end
        and span.start <= message.sequence < span.stop
    )
