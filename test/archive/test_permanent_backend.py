"""The backend for applications' own events: merged, once each, and never silently dropped."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from support.clickhouse import NOWHERE, Database

from aiecs.core.codec import decode
from aiecs.core.errors import (
    ArchiveAuthError,
    ArchiveUnavailableError,
    InvalidInputError,
    LifecycleError,
)
from aiecs.domain.context.conversation_models import (
    AgentCommunicationMessage,
    ConversationSession,
)
from aiecs.domain.context.models import ConversationMessage, SessionMetrics
from aiecs.domain.task.task_context import TaskContext
from aiecs.infrastructure import persistence
from aiecs.infrastructure.persistence.clickhouse_client import ClickHouseClient

Backend = persistence.ClickHousePermanentBackend
THEN = datetime(2026, 11, 23, 1, 2, 3, 456789, tzinfo=UTC)
PARTIES = [{"id": "ada", "type": "user"}, {"id": "planner", "type": "agent", "role": "planner"}]
TABLES = [
    "context_sessions",
    "context_conversations",
    "context_task_contexts",
    "context_checkpoints",
    "context_checkpoint_writes",
    "context_conversation_sessions",
]


@pytest.fixture
async def backend(archive_database: Database):
    backend = Backend.from_url(archive_database.url())
    assert await backend.initialize()
    yield backend
    await backend.close()


async def rows(backend, columns, table):
    query = f"SELECT {columns} FROM {table} ORDER BY {columns}"
    return await asyncio.to_thread(backend.archive.select, query)


def said(content, **more):
    return ConversationMessage("user", content, THEN, **more).to_dict()


# --- what becomes of each event -------------------------------------------------------------------


async def test_a_message_fills_the_columns_that_the_engine_fills(backend):
    metadata = {"model": "m", "input_tokens": 3, "cost_usd": 0.25, "error": "no", "other": [1]}
    message = said("a;b\x00é", metadata=metadata, id="m1", seq=7, name="Ada")
    assert await backend.append_conversation_message("s", message | {"incarnation": "i"})

    columns = (
        "session_id, role, content, message_id, model, input_tokens, cost_usd, error, incarnation, "
        "seq, created_at, parent_session_id, metadata, extra"
    )
    (row,) = await rows(backend, columns, "context_conversations")
    assert row[:9] == ("s", "user", "a;b\x00é", "m1", "m", 3, Decimal("0.25"), 1, "i")
    assert row[9:12] == (7, THEN, "")
    assert decode(row[12].encode()) == metadata
    assert decode(row[13].encode()) == {"name": "Ada"}


async def test_a_message_between_agents_is_told_by_its_sender(backend):
    message = AgentCommunicationMessage(
        message_id="m1",
        session_key="c:s:1",
        sender_id="a",
        sender_type="agent",
        sender_role="planner",
        content="x",
        timestamp=THEN,
    )
    told = message.to_dict() | {"session_id": "s"}
    assert await backend.append_conversation_message("c:s:1", told)

    columns = "session_id, parent_session_id, role, message_id, message_type, content, created_at"
    assert await rows(backend, columns, "context_conversations") == [
        ("c:s:1", "s", "agent_planner", "m1", "communication", "x", THEN)
    ]


async def test_a_session_is_its_state(backend):
    session = SessionMetrics("s", "ada", THEN, THEN, 3, 1, 1.5, "failed", {"k": 1}, 10, 20)
    assert await backend.append_session_event("s", "ended", session.to_dict())

    columns = (
        "session_id, user_id, event_type, status, request_count, error_count, processing_time_us, "
        "input_tokens, output_tokens, created_at, payload"
    )
    (row,) = await rows(backend, columns, "context_sessions")
    assert row[:10] == ("s", "ada", "ended", "failed", 3, 1, 1_500_000, 10, 20, THEN)
    assert SessionMetrics.from_dict(decode(row[10].encode())) == session


async def test_everything_else_comes_back_as_it_was(backend):
    context = TaskContext({"user_id": "ada", "metadata": {"task": "x"}}).to_dict()
    conversation = ConversationSession("s", PARTIES, "user_to_agent", THEN, THEN).to_dict()
    data = {"ts": THEN.isoformat(), "state": (1, b"\x00")}
    assert await backend.append_task_context_snapshot("s", context)
    assert await backend.append_checkpoint("t", "c", data, {"step": 1})
    assert await backend.append_checkpoint_writes("t", "c", "task", [("channel", (1, b"x"))])
    assert await backend.append_conversation_session("c:s:1", conversation)

    (row,) = await rows(backend, "session_id, context_data", "context_task_contexts")
    assert (row[0], decode(row[1].encode())) == ("s", context)
    columns = "thread_id, checkpoint_id, created_at, metadata, data"
    (row,) = await rows(backend, columns, "context_checkpoints")
    assert row[:4] == ("t", "c", THEN, '{"step":1}')
    assert decode(row[4].encode())["data"] == data
    columns = "thread_id, checkpoint_id, task_id, writes_data"
    (row,) = await rows(backend, columns, "context_checkpoint_writes")
    assert (row[:3], decode(row[3].encode())) == (
        ("t", "c", "task"),
        ["task", [["channel", (1, b"x")]]],
    )
    columns = "session_key, session_id, session_type, created_at, session_data"
    (row,) = await rows(backend, columns, "context_conversation_sessions")
    assert row[:4] == ("c:s:1", "s", "user_to_agent", THEN)
    assert decode(row[4].encode())["participants"] == conversation["participants"]


async def test_an_event_that_arrives_again_is_one(backend):
    context = {"user_id": "ada"}
    for _ in range(2):
        await backend.append_session_event("s", "updated", {"status": "active"})
        await backend.append_conversation_message("s", said("x"))
        await backend.append_task_context_snapshot("s", context)
        await backend.append_checkpoint("t", "c", {"b": 1, "a": 2})
        await backend.append_checkpoint_writes("t", "c", "task", [("channel", 1)])
        await backend.append_conversation_session("c:s:1", {"participants": PARTIES})
    await backend.append_checkpoint("t", "c", {"a": 2, "b": 1})

    for table in TABLES:
        assert await rows(backend, "count()", f"{table} FINAL") == [(1,)], table


async def test_what_differs_in_anything_is_another_event(backend):
    for text, more in (("x", {}), ("y", {}), ("x", {"id": "other"}), ("x", {"metadata": {"k": 1}})):
        await backend.append_conversation_message("s", said(text, **more))
    await backend.append_conversation_message("other", said("x"))
    for _ in range(2):  # without a time and an id there is nothing to tell a repetition by
        await backend.append_conversation_message("s", {"role": "user", "content": "again"})
    assert await rows(backend, "count()", "context_conversations FINAL") == [(7,)]


async def test_halves_of_characters_are_replaced(backend):
    await backend.append_conversation_message("s", said("half \ud800"))
    assert await rows(backend, "content", "context_conversations") == [("half �",)]


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("append_session_event", ("", "created", {})),
        ("append_session_event", ("s", "", {})),
        ("append_session_event", ("s", "created", [])),
        ("append_session_event", ("s", "created", {"last_activity": "yesterday"})),
        ("append_session_event", ("s", "created", {"metadata": {"k": object()}})),
        ("append_conversation_message", ("s", {"role": "user"})),
        ("append_conversation_message", ("s", {"content": "x"})),
        ("append_conversation_message", ("s", {"role": "user", "content": 1})),
        ("append_conversation_message", ("s", {"role": "u", "content": "", "metadata": [1]})),
        ("append_conversation_message", ("s", {"role": "u", "content": "", "timestamp": 1})),
        ("append_conversation_message", ("s" * 2_000, {"role": "user", "content": "x"})),
        ("append_conversation_message", ("s", {"role": "u", "content": "x" * 9_000_000})),
        ("append_task_context_snapshot", ("s", None)),
        ("append_task_context_snapshot", ("s", {"k": object()})),
        ("append_checkpoint", ("t", "", {})),
        ("append_checkpoint", ("t", "c", object())),
        ("append_checkpoint", ("t", "c", {}, [])),
        ("append_checkpoint_writes", ("t", "c", "", [])),
        ("append_checkpoint_writes", ("t", "c", "task", [("channel",)])),
        ("append_checkpoint_writes", ("t", "c", "task", "ab")),
        ("append_conversation_session", ("", {})),
        ("append_conversation_session", ("key", {"created_at": "never"})),
    ],
)
async def test_what_is_no_event_is_refused_before_anything_is_sent(method, arguments):
    backend = Backend.from_url(NOWHERE)
    with pytest.raises(InvalidInputError):
        await getattr(backend, method)(*arguments)


# --- many at once ---------------------------------------------------------------------------------


def append(backend, *texts):
    """The appends of such messages, begun."""
    return [
        asyncio.create_task(backend.append_conversation_message("s", said(text))) for text in texts
    ]


@pytest.fixture
async def held(backend, clickhouse_bridge):
    """A first append whose insert does not end before the bridge's faults change."""
    before = clickhouse_bridge.statistics()["faults"]
    clickhouse_bridge.fault("slow", seconds=60)
    (first,) = append(backend, "first")
    await asyncio.to_thread(clickhouse_bridge.wait_for, faults=before + 1)
    yield first
    clickhouse_bridge.mend()
    await asyncio.wait([first])


async def test_rows_that_wait_together_are_one_insert(backend, held, clickhouse_bridge):
    appends = append(backend, *map(str, range(500)))
    await asyncio.sleep(0)
    before = clickhouse_bridge.statistics()["inserts"]
    clickhouse_bridge.mend()
    assert await asyncio.gather(held, *appends) == [True] * 501
    assert clickhouse_bridge.statistics()["inserts"] == before + 1
    counts = "count(), uniqExact(event_id)"
    assert await rows(backend, counts, "context_conversations") == [(501, 501)]


async def test_a_row_that_cannot_be_stored_does_not_take_others_along(backend, caplog):
    pure = "ALTER TABLE context_conversations ADD CONSTRAINT pure CHECK content != 'a secret'"
    await asyncio.to_thread(backend.archive.execute, pure)
    messages = [said("before"), said("a secret"), said("after")]
    appends = [backend.append_conversation_message("s", message) for message in messages]
    assert await asyncio.gather(*appends) == [True, False, True]
    assert await rows(backend, "content", "context_conversations") == [("after",), ("before",)]
    assert "context_conversations" in caplog.text
    assert "secret" not in caplog.text


async def test_an_unknown_refusal_of_one_row_is_the_error_of_its_caller(
    backend, held, clickhouse_bridge
):
    appends = append(backend, *"abcdefgh")
    await asyncio.sleep(0)
    logical_error = 49  # not known to pass, nor to be of the row
    clickhouse_bridge.fault("error", times=4, code=logical_error)
    one, *others = await asyncio.gather(*appends, return_exceptions=True)
    assert isinstance(one, ArchiveUnavailableError)
    assert others == [True] * 7


async def test_appends_from_several_loops_and_threads_meet(backend):
    async def append_some(mark):
        return await asyncio.gather(*append(backend, *(f"{mark}{n}" for n in range(20))))

    threads = [asyncio.to_thread(asyncio.run, append_some(mark)) for mark in "abc"]
    assert await asyncio.gather(append_some("d"), *threads) == [[True] * 20] * 4
    assert await rows(backend, "count()", "context_conversations") == [(80,)]


# --- outages and the end --------------------------------------------------------------------------


async def test_an_append_that_failed_succeeds_again_and_is_one_row(backend, clickhouse_bridge):
    clickhouse_bridge.fault("lose_reply")
    with pytest.raises(ArchiveUnavailableError):
        await backend.append_conversation_message("s", said("x"))
    assert await backend.append_conversation_message("s", said("x"))
    assert await rows(backend, "content", "context_conversations") == [("x",)]


async def test_a_server_that_is_down_at_the_start_may_come_later(own_clickhouse):
    own_clickhouse.kill()
    backend = Backend.from_url(f"{own_clickhouse.url}/later")
    assert not await backend.initialize()
    with pytest.raises(ArchiveUnavailableError):
        await backend.append_conversation_message("s", said("x"))
    own_clickhouse.start()
    assert await backend.append_conversation_message("s", said("x"))
    assert await rows(backend, "content", "context_conversations") == [("x",)]
    await backend.close()


async def test_whoever_shares_the_archive_may_close_it(backend):
    await asyncio.to_thread(backend.archive.close)
    with pytest.raises(ArchiveUnavailableError):
        await backend.append_conversation_message("s", said("x"))
    assert await backend.append_conversation_message("s", said("x"))


async def test_a_wrong_password_is_told(clickhouses):
    bridge = clickhouses.start(password="right")
    backend = Backend("127.0.0.1", bridge.port, password="wrong")
    with pytest.raises(ArchiveAuthError):
        await backend.initialize()
    bridge.close()


async def test_closing_writes_what_waits(backend):
    appends = append(backend, *map(str, range(50)))
    await asyncio.sleep(0)
    await backend.close()
    assert await asyncio.gather(*appends) == [True] * 50
    with pytest.raises(LifecycleError):
        await backend.append_conversation_message("s", said("late"))
    await backend.close()


async def test_closing_does_not_wait_for_ever(backend, held, monkeypatch):
    monkeypatch.setattr(f"{Backend.__module__}._CLOSING_SECONDS", 0.01)
    (waiting,) = append(backend, "2")
    await asyncio.sleep(0)
    await backend.close()
    results = await asyncio.gather(held, waiting, return_exceptions=True)
    assert [type(result) for result in results] == [ArchiveUnavailableError] * 2


async def test_an_append_that_is_cancelled_before_its_insert_is_not_written(
    backend, held, clickhouse_bridge
):
    (cancelled,) = append(backend, "never")
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    clickhouse_bridge.mend()
    assert await held
    assert await asyncio.gather(*append(backend, "last")) == [True]
    assert await rows(backend, "content", "context_conversations") == [("first",), ("last",)]


async def test_it_is_used_between_initialize_and_close():
    backend = Backend.from_url(NOWHERE)
    with pytest.raises(LifecycleError):
        await backend.append_conversation_message("s", said("x"))
    await backend.close()


# --- where it is ----------------------------------------------------------------------------------


def test_it_is_where_the_settings_say(monkeypatch):
    monkeypatch.setenv("CLICKHOUSE_HOST", "there")
    monkeypatch.setenv("CLICKHOUSE_PASSWORD", "secret")
    assert Backend().archive.name == "clickhouse://there:8123/default"
    named = Backend("here", 9000, "ada", "secret", "mine")
    assert named.archive.name == "clickhouse://here:9000/mine"
    assert "secret" not in repr(named)


async def test_it_takes_a_client_instead(archive_database):
    client = ClickHouseClient.from_url(archive_database.url())
    backend = Backend(client=client)
    assert backend.archive.address == client.address
    with pytest.raises(InvalidInputError):
        Backend("here", client=client)
