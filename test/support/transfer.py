"""Sessions on their way between stores, as records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from support.services import Services

from aiecs.core.errors import ContextEngineError
from aiecs.domain.context import ContextEngine
from aiecs.domain.context.models import ConversationMessage, SessionMetrics
from aiecs.domain.context.session_listing import SessionListing
from aiecs.domain.context.transfer import (
    Counts,
    Importer,
    MessageRecord,
    Record,
    SessionRecord,
    exporter_of,
    importer_of,
)
from aiecs.domain.context.transfer.exporting import Exporter
from aiecs.domain.task.task_context import TaskContext

Problems = list[tuple[Any, ContextEngineError]]
THEN = datetime(2026, 5, 4, 12, tzinfo=UTC)


async def fill(engine: ContextEngine) -> None:
    """Some of everything."""
    await engine.create_session("full", "ada", {"source": "web", "nested": {"a": [1, None]}})
    for number in range(7):
        metadata = {"input_tokens": number, "model": "m"}
        await engine.add_conversation_message("full", "user", f"m{number}", metadata)
    await engine.add_conversation_message(
        "full", "assistant", "", tool_calls=[{"id": "c"}], parts=[{"text": "x"}], name="n"
    )
    await engine.add_conversation_message("full", "tool", "4", tool_call_id="c", pinned=True)
    await engine.update_session("full", increment_requests=True, add_processing_time=1.000001)
    await engine.update_session("full", mark_error=True)
    await engine.store_task_context("full", TaskContext({"user_id": "ada", "raw": b"\x00"}))
    parties = [{"id": "a", "type": "agent", "role": "r"}, {"id": "b", "type": "agent"}]
    key = await engine.create_conversation_session("full", parties, "x", {"k": 1})
    for number in range(3):
        await engine.add_agent_communication_message(key, "a", "agent", "r", content=f"a{number}")
    await engine.store_checkpoint("full", "own", {"thread": "namesake"})
    for number in range(3):
        await engine.store_checkpoint(
            "t/1", f"c{number}", {"n": (number, b"\xff")}, session_id="full"
        )
    await engine.put_writes("t/1", "c2", "task/%2F", [("ch", {1: 2}), ("ch2", None)])
    await engine.create_session("empty", metadata={})
    await engine.end_session("empty", "failed")
    await engine.store_checkpoint("loose", "c", {"x": 1}, {"step": 1})


async def exported(source: ContextEngine | Services) -> list[Record]:
    """Everything in a store, session by session."""
    if isinstance(source, Services):
        exporter = Exporter(source.runtime)
        ids = [s.session_id async for s in SessionListing(source.runtime).walk()]
    else:
        exporter = exporter_of(source)
        ids = [session.session_id async for session in source.iter_sessions()]
    found = []
    for session_id in sorted(ids):
        found += [record async for record in exporter.session(session_id)]
    return found + [record async for record in exporter.loose_threads()]


async def imported(
    target: ContextEngine | Services, records: list[Record]
) -> tuple[Counts, Problems]:
    """Put the records into a store; what was done, and what could not be, by its number."""
    problems: Problems = []

    def tell(place: Any, error: ContextEngineError) -> None:
        problems.append((place, error))

    made = (
        Importer(target.runtime, target.sessions, tell)
        if isinstance(target, Services)
        else importer_of(target, tell)
    )
    async with made as importer:
        for number, record in enumerate(records):
            await importer.add(record, number)
    return importer.counts, problems


def session(session_id: str = "s", **fields: Any) -> SessionRecord:
    """A session of `THEN`, of ada's unless told otherwise."""
    times = {"created_at": THEN, "last_activity": THEN + timedelta(hours=1)}
    return SessionRecord(SessionMetrics(session_id, **{"user_id": "ada"} | times | fields))


def message(content: str, session_id: str = "s", **fields: Any) -> MessageRecord:
    """A message whose id goes with its content."""
    usual = {"role": "user", "id": f"id-{content}"} | fields
    return MessageRecord(session_id, ConversationMessage(content=content, timestamp=THEN, **usual))
