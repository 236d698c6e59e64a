"""Reading back what is in the archive: each question once, bounded, and not while it is down."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import msgspec

from aiecs.core.clock import from_micros
from aiecs.core.cold import (
    ColdCheckpoint,
    ColdMessage,
    Life,
    ThreadLife,
    Wanted,
    WantedCheckpoints,
)
from aiecs.core.errors import ArchiveError, ArchiveUnavailableError, LifecycleError
from aiecs.core.interface.archive import Archive, Row
from aiecs.infrastructure.persistence.archive import graph_reading

T = TypeVar("T")

_AT_ONCE, _QUESTIONS = 8, 2
_REST = 1.0
"""Seconds that the archive is left alone after it has not answered; longer each time."""
_LONGEST_REST = 30.0

# PREWHERE is said, for left to itself the engine looks at `parent_session_id` first: 65 ms among a
# million messages, 8 with it.
_LIVES = """
SELECT incarnation, max(user_id), max(gone) FROM (
    SELECT incarnation, user_id, event_type = 'deleted' AS gone
    FROM context_sessions WHERE session_id = {session:String}
    UNION ALL
    SELECT incarnation, max(user_id) AS user_id, 0 AS gone
    FROM context_conversations
    PREWHERE session_id = {session:String} WHERE parent_session_id = ''
    GROUP BY incarnation
    UNION ALL
    SELECT incarnation, '' AS user_id, 1 AS gone
    FROM context_tombstones WHERE subject = 'session' AND subject_id = {session:String}
) GROUP BY incarnation ORDER BY incarnation
SETTINGS max_threads = 1"""
_MESSAGES = """
SELECT incarnation, seq, role, content, metadata, extra, message_id, created_at
FROM context_conversations
PREWHERE session_id = {session:String}
WHERE parent_session_id = ''
    AND ({all:Bool} OR incarnation IN {lives:Array(String)})
    AND (incarnation, seq) < ({life:String}, {sequence:UInt64})
    AND seq >= {start:UInt64} AND seq < {stop:UInt64}
ORDER BY incarnation %s, seq %s
LIMIT 1 BY incarnation, seq, event_id
LIMIT {limit:UInt32}
SETTINGS max_threads = 1"""
_NEWEST, _OLDEST = _MESSAGES % ("DESC", "DESC"), _MESSAGES % ("ASC", "ASC")
SESSIONS_OF = """
SELECT session_id FROM context_sessions WHERE user_id = {user:String}
UNION DISTINCT
SELECT if(parent_session_id = '', session_id, parent_session_id)
FROM context_conversations WHERE user_id = {user:String}"""
_EXACT = ("metadata", "extra", "created_at")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Reader:
    """Answers questions from one `Archive`; see `ColdReader`."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._threads = ThreadPoolExecutor(_AT_ONCE, "aiecs-archive-reader")
        #: Of their own, so that slow questions keep no history waiting.
        self._questions = ThreadPoolExecutor(_QUESTIONS, "aiecs-archive-questions")
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Future[Any]] = {}
        self._rest = 0.0
        self._rested_at = 0.0
        self._ending = False

    async def lives(
        self, session_id: str, since: int, timeout: float, *, patient: bool
    ) -> list[Life]:
        """Every incarnation that the archive knows of, the oldest first."""

        def ask() -> list[Life]:
            rows = self._archive.select(_LIVES, {"session": session_id}, timeout=timeout)
            return [Life(life, user, bool(gone)) for life, user, gone in rows]

        return await self._ask(("lives", session_id, since), ask, timeout, patient=patient)

    async def messages(
        self, wanted: Wanted, since: int, timeout: float, *, patient: bool
    ) -> Sequence[ColdMessage]:
        """Messages, the oldest first."""

        def ask() -> list[ColdMessage]:
            query = _NEWEST if wanted.newest else _OLDEST
            parameters = {
                "session": wanted.session_id,
                "all": wanted.lives is None,
                "lives": list(wanted.lives or ()),
                "life": wanted.end_life,
                "sequence": wanted.end_sequence,
                "start": wanted.start,
                "stop": wanted.stop,
                "limit": wanted.limit,
            }
            rows = self._archive.select(query, parameters, timeout=timeout, exact=_EXACT)
            return [_message(row) for row in (reversed(rows) if wanted.newest else rows)]

        return await self._ask((wanted, since), ask, timeout, patient=patient)

    async def sessions_of(self, user_id: str, timeout: float) -> list[str]:
        """Every session of which the archive has a life that this user owned."""
        rows = await self.run(
            lambda archive: archive.select(SESSIONS_OF, {"user": user_id}, timeout=timeout),
            timeout,
        )
        return [session for (session,) in rows]

    async def thread_lives(self, thread_id: str, since: int, timeout: float) -> list[ThreadLife]:
        """Every incarnation of a thread that the archive knows of, the oldest first."""
        key = ("thread lives", thread_id, since)
        ask = partial(graph_reading.thread_lives, self._archive, thread_id, timeout)
        return await self._ask(key, ask, timeout, patient=True)

    async def checkpoints(
        self, wanted: WantedCheckpoints, since: int, timeout: float
    ) -> Sequence[ColdCheckpoint]:
        """Checkpoints of graphs, the greatest id first."""
        ask = partial(graph_reading.checkpoints, self._archive, wanted, timeout)
        return await self._ask((wanted, since), ask, timeout, patient=True)

    async def parts(
        self, thread_id: str, lives: Sequence[str], names: Sequence[str], timeout: float
    ) -> dict[str, bytes]:
        """What records refer to, by name."""
        key = ("parts", thread_id, tuple(lives), tuple(names))
        ask = partial(graph_reading.parts, self._archive, thread_id, lives, names, timeout)
        return await self._ask(key, ask, timeout, patient=True)

    async def run(self, work: Callable[[Archive], T], timeout: float) -> T:
        """Something of the caller's own, in a thread of the reader's."""
        try:
            ask = self._questions.submit(self._opened, lambda: work(self._archive))
        except RuntimeError:  # of the pool, which has been shut down
            raise LifecycleError("the engine of this archive is closed") from None
        return await _within(timeout, ask)

    def end(self) -> None:
        """Open the archive no more."""
        self._ending = True

    def close(self) -> None:
        """Let the threads end; the archive is the shipper's to close."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._questions.shutdown(wait=True, cancel_futures=True)

    async def _ask(
        self, question: Hashable, ask: Callable[[], T], timeout: float, *, patient: bool
    ) -> T:
        key = (question, patient)  # who has time is not to share the deadline of who has not
        if not patient and time.monotonic() < self._rested_at:
            raise ArchiveUnavailableError("the archive does not answer; it is asked again soon")
        with self._lock:
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = self._started(ask)
                flight.add_done_callback(lambda _: self._flights.pop(key, None))
        try:
            found: T = await _within(timeout, flight)
        except ArchiveError:
            self._rest = min(_LONGEST_REST, max(_REST, self._rest * 2))
            self._rested_at = time.monotonic() + self._rest
            raise
        self._rest = 0.0
        return found

    def _started(self, ask: Callable[[], T]) -> Future[T]:
        try:
            return self._threads.submit(self._opened, ask)
        except RuntimeError:  # of the pool, which has been shut down
            raise ArchiveUnavailableError("the archive is closed") from None

    def _opened(self, ask: Callable[[], T]) -> T:
        """The answer; the shipper may not have come to opening the archive yet."""
        try:
            return ask()
        except LifecycleError:
            if self._ending:
                raise ArchiveUnavailableError("the archive is being closed") from None
        self._archive.open()
        return ask()


async def _within(timeout: float, future: Future[T]) -> T:
    """Its result; whoever else waits for it is left alone."""
    answer = asyncio.wrap_future(future)
    # One that fails when nobody waits any more is no news: asyncio would log it with its traceback.
    answer.add_done_callback(lambda late: late.cancelled() or late.exception())
    try:
        return await asyncio.wait_for(asyncio.shield(answer), timeout)
    except asyncio.CancelledError:
        if not future.cancelled():
            raise  # it is the caller who was cancelled
        raise ArchiveUnavailableError("the archive was closed before it answered") from None
    except TimeoutError:
        raise ArchiveUnavailableError(f"no answer from the archive in {timeout:g} s") from None


def _message(row: Row) -> ColdMessage:
    """The record that the row was made of; see `rows`."""
    incarnation, sequence, role, content, metadata, extra, message_id, created_at = row
    fields: dict[str, Any] = {
        "role": role,
        "content": content,
        "timestamp": from_micros(created_at),
        "metadata": msgspec.Raw(metadata or b"{}"),
    }
    if message_id:
        fields["id"] = message_id
    if extra:
        fields |= _decode(extra)
    return ColdMessage(incarnation, sequence, _encode(fields))
