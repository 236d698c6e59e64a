"""A Redis that PyPI's `aiecs` 2.2.0 has written, as the records that an import takes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Any

from redis.asyncio import Redis

from aiecs.core.clock import utcnow
from aiecs.domain.context.conversation_models import ConversationSession
from aiecs.domain.context.models import SessionMetrics
from aiecs.domain.context.transfer import (
    AgentMessageRecord,
    CheckpointRecord,
    ConversationRecord,
    MessageRecord,
    Record,
    SessionRecord,
    TaskContextRecord,
    WritesRecord,
)
from aiecs.integrations.aiecs_2.agents import (
    Talks,
    conversation_of,
    guess,
    is_between_agents,
)
from aiecs.integrations.aiecs_2.client import Pages, Problem, client_of
from aiecs.integrations.aiecs_2.lines import Line, lines_of, list_key
from aiecs.integrations.aiecs_2.rows import (
    Corrupt,
    context_of,
    message_of,
    name_of,
    owner_of,
    part,
    row_of,
    session_of,
)
from aiecs.integrations.aiecs_2.survey import CONTEXTS, CONVERSATIONS, SESSIONS, Survey
from aiecs.integrations.aiecs_2.threads import thread_records

NewKey = Callable[[str, str], None]
"""Called with the name that a conversation between agents had, and the key that it has now."""

_NOUNS: dict[type, str] = {
    MessageRecord: "a message",
    TaskContextRecord: "the task context",
    ConversationRecord: "an agent conversation",
    AgentMessageRecord: "an agent message",
}
_MARKS = {
    SESSIONS: {"session_id", "user_id", "created_at", "last_activity"},
    CONTEXTS: {"user_id", "chat_id", "context_history"},
    CONVERSATIONS: {"session_id", "participants", "session_type"},
}


def _ignore(*_: Any) -> None:
    """For callers who do not ask."""


@asynccontextmanager
async def opened(
    url: str, on_problem: Problem = _ignore, on_key: NewKey = _ignore
) -> AsyncIterator[Source]:
    """The source at a `redis://`, `rediss://` or `unix://` address, closed with the block.

    `InvalidInputError` for any other address. The callbacks are those of `Source`.
    """
    client = client_of(url)
    try:
        yield Source(client, on_problem, on_key)
    finally:
        await client.aclose()


async def is_aiecs_2(url: str) -> bool:
    """Whether 2.2.0 has written to a server, see `Source.is_aiecs_2`."""
    async with opened(url) as source:
        return await source.is_aiecs_2()


def place_of(record: Record) -> str:
    """Where a record comes from, for a message about it."""
    if isinstance(record, SessionRecord):
        return f"session {record.session.session_id!r}"
    if isinstance(record, CheckpointRecord | WritesRecord):
        return f"checkpoint {record.checkpoint_id!r} of thread {record.thread_id!r}"
    what = _NOUNS[type(record)]
    return f"{what} of session {record.session_id!r}"


class Source:
    """Reads one server, and never writes to it. Every call raises `StoreError` when it is down.

    `on_problem` is called with where something lies and why it is left out; `on_key` with the old
    name and the new key of each conversation between agents.
    """

    def __init__(
        self, client: Redis, on_problem: Problem = _ignore, on_key: NewKey = _ignore
    ) -> None:
        self._pages = Pages(client, on_problem)
        self._on_problem = on_problem
        self._on_key = on_key

    async def is_aiecs_2(self) -> bool:
        """Whether rows lie there as 2.2.0 writes them.

        Looks at some rows of its three hashes. They expire after a day without use: where only
        checkpoints are left, which live for a week, this is False, though `records` reads them.
        """
        for key, names in _MARKS.items():
            async with aclosing(self._pages.fields(key)) as pages:
                async for page in pages:
                    if any(names <= _keys(raw) for _, raw in page):
                        return True
                    break
        return False

    async def count_sessions(self) -> int:
        """How many sessions there are, but for those that only their messages tell of."""
        return await self._pages.length(SESSIONS)

    async def records(self) -> AsyncIterator[Record]:
        """Everything that is there: each session with what belongs to it, then loose threads.

        Held in memory are one session, the names of conversations between agents, and those of
        sessions and threads that have no row in `sessions`. Two readings of unchanged data give the
        same ids, in the same order inside of a session. A session comes twice when the server grows
        its tables meanwhile, which an import does not mind.
        """
        survey = Survey(self._pages, self._on_problem)
        await survey.take()
        async for page in self._pages.fields(SESSIONS):
            for field, raw in page:
                session_id = self._name(SESSIONS, field)
                if session_id is not None:
                    async for record in self._session(session_id, raw, survey):
                        yield record
        for session_id in survey.untold():
            async for record in self._session(session_id, None, survey):
                yield record
        for thread_id in survey.threads():
            async for record in thread_records(self._pages, thread_id, self._on_problem):
                yield record

    # --- a session ------------------------------------------------------------------------------

    async def _session(
        self, session_id: str, raw: bytes | None, survey: Survey
    ) -> AsyncIterator[Record]:
        talks = Talks(session_id)
        plain = await self._split(session_id, survey, talks)
        (found,) = await self._pages.values(CONTEXTS, [session_id])
        context = self._row(CONTEXTS, session_id, found)
        if raw is not None or plain or talks.times or context is not None:
            yield SessionRecord(self._metrics(session_id, raw, context, (plain, talks.times)))
            for record in self._messages(session_id, plain):
                yield record
            for record in self._context(session_id, context):
                yield record
            for record in talks.records():
                yield record
        async for record in thread_records(self._pages, session_id, self._on_problem):
            yield record

    def _messages(self, session_id: str, lines: list[Line]) -> Iterator[Record]:
        for line in lines:
            try:
                yield MessageRecord(session_id, message_of(line.row, line.said.at, line.id))
            except Corrupt as error:
                self._on_problem(f"{list_key(session_id)}, {line.said.at}", str(error))

    def _context(self, session_id: str, row: dict[str, Any] | None) -> Iterator[Record]:
        try:
            if row is not None:
                yield TaskContextRecord(session_id, context_of(row))
        except Corrupt as error:
            self._on_problem(_place(CONTEXTS, session_id), str(error))

    def _metrics(
        self,
        session_id: str,
        raw: bytes | None,
        context: dict[str, Any] | None,
        said: tuple[list[Line], list[datetime]],
    ) -> SessionMetrics:
        place = _place(SESSIONS, session_id)
        metadata = self._metadata(session_id, context)
        row = self._row(SESSIONS, session_id, raw)
        if row is not None:
            try:
                return session_of(
                    session_id, row, metadata, lambda why: self._on_problem(place, why)
                )
            except Corrupt as error:
                self._on_problem(place, str(error))
        times = [line.said.at for line in said[0]] + said[1] or [utcnow()]
        user_id = (row or {}).get("user_id") or owner_of(context)
        row = {"user_id": user_id, "created_at": min(times), "last_activity": max(times)}
        return session_of(session_id, row, metadata, lambda why: self._on_problem(place, why))

    def _metadata(self, session_id: str, context: dict[str, Any] | None) -> dict[str, Any]:
        try:
            return {} if context is None else part(context, "metadata")
        except Corrupt:  # which the task context is told for itself
            return {}

    # --- its messages ---------------------------------------------------------------------------

    async def _split(self, session_id: str, survey: Survey, talks: Talks) -> list[Line]:
        """The session's own messages; those between agents go to `talks`."""
        plain: list[Line] = []
        keys: dict[tuple[str, str], None] = {}
        for name in dict.fromkeys([session_id, *sorted(survey.talks_of(session_id))]):
            known = await self._conversation(name)
            if known is not None and known.session_id == session_id:
                keys[name, talks.begin(known)] = None
            for line in await lines_of(self._pages, name, self._on_problem):
                taker = _taker(line, name, known, survey)
                if taker == session_id:
                    key = self._take(line, name, known, talks)
                    if key is not None:
                        keys[name, key] = None
                elif taker is None and name == session_id:
                    plain.append(line)
                elif taker is None:  # somebody took the name of the conversation for a session's
                    await survey.add_untold(name)
        for old, new in keys:
            self._on_key(old, new)
        return plain

    async def _conversation(self, name: str) -> ConversationSession | None:
        """The conversation that was created under a name."""
        (raw,) = await self._pages.values(CONVERSATIONS, [name])
        try:
            return None if raw is None else conversation_of(row_of(raw))
        except Corrupt:  # as the survey has told
            return None

    def _take(
        self, line: Line, name: str, known: ConversationSession | None, talks: Talks
    ) -> str | None:
        """The key of the conversation that has the message now; None if it cannot be kept."""
        try:
            return talks.add(line, name, known)
        except Corrupt as error:
            self._on_problem(f"{list_key(name)}, {line.said.at}", str(error))
            return None

    # --- rows -----------------------------------------------------------------------------------

    def _name(self, key: str, field: bytes) -> str | None:
        try:
            return name_of(field)
        except Corrupt as error:
            self._on_problem(key, str(error))
            return None

    def _row(self, key: str, name: str, raw: bytes | None) -> dict[str, Any] | None:
        """A row, None if it is not there or cannot be read."""
        try:
            return None if raw is None else row_of(raw)
        except Corrupt as error:
            self._on_problem(_place(key, name), str(error))
            return None


def _taker(line: Line, name: str, known: ConversationSession | None, survey: Survey) -> str | None:
    """The session in whose conversations a message belongs, None for a plain message."""
    if not is_between_agents(line):
        return None
    if known is not None:
        return known.session_id
    found = guess(name, line)
    return found.session_id if found and found.session_id == survey.owner_of(name) else None


def _place(key: str, name: str) -> str:
    return f"{key} {name!r}"


def _keys(raw: bytes) -> set[str]:
    try:
        return set(row_of(raw))
    except Corrupt:
        return set()
