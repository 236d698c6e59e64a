"""ContextEngine on Redis with ClickHouse behind it, configured by the environment alone.

The specification's own integration test:

    poetry run pytest test/integration/context/test_context_clickhouse.py -v

Servers are those of `.env.test` and the environment; see the conftest beside this file.
"""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from support.waiting import expired

from aiecs import ContextEngine
from aiecs.core.codec import decode
from aiecs.core.errors import ArchiveUnavailableError
from aiecs.domain.task.task_context import TaskContext
from aiecs.infrastructure.persistence import (
    close_context_engine,
    close_redis_client,
    get_context_engine,
    initialize_context_engine,
    initialize_redis_client,
)

pytestmark = pytest.mark.usefixtures("redis")

TABLES = [
    "context_sessions",
    "context_conversations",
    "context_task_contexts",
    "context_checkpoints",
    "context_checkpoint_writes",
    "context_conversation_sessions",
]
PARTICIPANTS = [
    {"id": "user-1", "type": "user", "role": "user"},
    {"id": "agent-1", "type": "agent", "role": "assistant", "metadata": {"team": "sales"}},
]
SECONDS = 60.0
A_MOMENT = 0.2


@pytest.fixture
async def engine(environment):
    async with ContextEngine() as engine:
        assert engine.redis_client is not None
        yield engine


@pytest.fixture
def rows(clickhouse_client):
    """The rows of a table with such an id, in the order of their keys."""

    async def ask(table, columns, **ids):
        wanted = " AND ".join(f"{name} = {{{name}:String}}" for name in ids)
        query = f"SELECT {columns} FROM {table} FINAL WHERE {wanted} ORDER BY created_at, seq"
        return (await clickhouse_client.query(query, ids)).result_rows

    return ask


async def test_what_happens_to_a_session(engine, rows):
    await engine.create_session("s", "ada", {"source": "web"})
    await engine.update_session("s", increment_requests=True, add_processing_time=1.5)
    await engine.update_session("s", mark_error=True)
    await engine.end_session("s", status="completed")
    await engine.archive_barrier(timeout=SECONDS)

    found = await rows("context_sessions", "event_type, user_id, payload", session_id="s")
    assert [row[0] for row in found] == ["created", "updated", "updated", "ended"]
    assert found[0][1] == "ada"
    assert json.loads(found[0][2])["metadata"] == {"source": "web"}
    columns = (
        "sum(request_count), sum(error_count), sum(processing_time_us), argMax(status, version)"
    )
    query = f"SELECT {columns} FROM context_sessions FINAL"
    ((requests, errors, micros, status),) = await engine.archive.query(query)
    session = await engine.get_session("s")
    assert (requests, errors, status) == (1, 1, session.status)
    assert timedelta(microseconds=micros).total_seconds() == session.total_processing_time


async def test_a_conversation_with_a_long_answer(engine, rows):
    answer = "Because they charge overnight; \N{HIGH VOLTAGE SIGN} 'quotes' \x00\n" * 8_000
    usage = {"model": "m", "input_tokens": 12, "output_tokens": 345, "cost_usd": 0.01}
    await engine.create_session("s", "ada")
    await engine.add_conversation_message("s", "user", "Why are electric cars popular?")
    await engine.add_conversation_message("s", "assistant", answer, metadata=usage)
    await engine.archive_barrier(timeout=SECONDS)

    columns = "seq, role, content, metadata, message_id, created_at, model, output_tokens"
    found = await rows("context_conversations", columns, session_id="s")
    history = await engine.get_conversation_history("s")
    assert [row[:3] for row in found] == [(m.seq, m.role, m.content) for m in history]
    assert [json.loads(row[3]) for row in found] == [message.metadata for message in history]
    assert [row[4:6] for row in found] == [(m.id, m.timestamp) for m in history]
    assert found[1][6:] == ("m", 345)
    assert found[1][2] == answer


async def test_a_task_context(engine, rows):
    context = TaskContext({"user_id": "ada", "chat_id": "s", "metadata": {"task": "analyze"}})
    context.add_context_update("partial", {"llm_response": "half of it", "raw": b"\x00\xff"})
    await engine.store_task_context("s", context)
    await engine.archive_barrier(timeout=SECONDS)

    ((data,),) = await rows("context_task_contexts", "context_data", session_id="s")
    assert decode(data.encode()) == (await engine.get_task_context("s")).to_dict()


async def test_checkpoints_and_their_writes(engine, rows):
    state = {"messages": [{"role": "user", "content": "Hello"}], "step": 1}
    writes = [("messages", ("hello", 1)), ("scratch", {"bytes": b"\x00"})]
    await engine.store_checkpoint("t", "c1", state, metadata={"source": "loop"})
    await engine.store_checkpoint("t", "c2", {**state, "step": 2})
    await engine.put_writes("t", "c2", "task", writes)
    await engine.archive_barrier(timeout=SECONDS)

    found = await rows("context_checkpoints", "checkpoint_id, data, metadata", thread_id="t")
    assert [row[0] for row in found] == ["c1", "c2"]
    assert [decode(row[1].encode())["data"] for row in found] == [state, {**state, "step": 2}]
    assert json.loads(found[0][2]) == {"source": "loop"}
    columns = "checkpoint_id, task_id, writes_data"
    ((checkpoint, task, data),) = await rows("context_checkpoint_writes", columns, thread_id="t")
    assert (checkpoint, task) == ("c2", "task")
    assert [(channel, value) for channel, value in decode(data.encode())[1]] == writes
    assert await engine.get_writes("t", "c2") == writes


async def test_a_conversation_between_agents(engine, rows):
    key = await engine.create_conversation_session(
        "s", PARTICIPANTS, "user_to_agent", {"project": "sales"}
    )
    await engine.add_agent_communication_message(
        key, "agent-1", "agent", "assistant", content="Done.", message_type="result_report"
    )
    await engine.archive_barrier(timeout=SECONDS)

    columns = "session_id, session_type, session_data"
    found = await rows("context_conversation_sessions", columns, session_key=key)
    ((session_id, kind, data),) = found
    known = await engine.get_conversation_session(key)
    assert (session_id, kind) == ("s", "user_to_agent")
    assert decode(data.encode())["participants"] == known.to_dict()["participants"]
    columns = "role, content, message_type, parent_session_id"
    assert await rows("context_conversations", columns, session_id=key) == [
        ("agent_assistant", "Done.", "result_report", "s")
    ]


async def test_every_table_holds_each_acknowledged_write_once(engine, clickhouse_client):
    count = 40
    for number in range(count):
        session, thread = f"s{number}", f"t{number}"
        await engine.create_session(session, "ada")
        await engine.add_conversation_message(session, "user", "hello")
        await engine.store_task_context(session, TaskContext({"chat_id": session}))
        await engine.store_checkpoint(thread, "c", {"step": number})
        await engine.put_writes(thread, "c", "task", [("channel", number)])
        await engine.create_conversation_session(session, PARTICIPANTS, "user_to_agent")
    await engine.archive_barrier(timeout=SECONDS)

    for table in TABLES:
        query = f"SELECT count(), uniqExact(event_id) FROM {table}"
        assert (await clickhouse_client.query(query)).result_rows == [(count, count)], table
    state = (await engine.health_check())["archive"]
    assert (state["waiting"], state["dead"]) == (0, 0)


async def test_a_session_that_has_expired_comes_back_with_its_history(environment):
    async with ContextEngine(session_ttl=A_MOMENT) as engine:
        await engine.create_session("s", "ada")
        await engine.add_conversation_message("s", "user", "How long may I return things?")
        await engine.add_conversation_message("s", "assistant", "Thirty days.", {"model": "m"})
        before = [one.to_dict() for one in await engine.get_conversation_history("s")]
        await engine.archive_barrier(timeout=SECONDS)
        await expired(engine, "s")
        assert await engine.get_session("s") is None

    async with ContextEngine() as engine:
        await engine.create_session("s", "ada")
        await engine.add_conversation_message("s", "user", "And abroad?")
        await engine.archive_barrier(timeout=SECONDS)
        found = await engine.get_conversation_history("s", include_archived=True)
        assert [one.to_dict() for one in found[:2]] == before
        assert [one.content for one in found[2:]] == ["And abroad?"]
        hot = await engine.get_conversation_history("s", include_archived=False)
        assert [one.content for one in hot] == ["And abroad?"]


async def test_an_archive_that_is_down_holds_nothing_up_and_gets_it_all_later(
    environment, monkeypatch, rows
):
    with monkeypatch.context() as down:
        down.setenv("CLICKHOUSE_HOST", "127.0.0.1")
        down.setenv("CLICKHOUSE_PORT", "1")
        async with ContextEngine() as engine:
            await engine.add_conversation_message("s", "user", "kept")
            with pytest.raises(ArchiveUnavailableError):
                await engine.archive_barrier(timeout=A_MOMENT)
            (message,) = await engine.get_conversation_history("s")
            assert message.content == "kept"
    async with ContextEngine() as engine:
        await engine.archive_barrier(timeout=SECONDS)
    assert await rows("context_conversations", "content", session_id="s") == [("kept",)]


async def test_the_process_wide_engine(environment, rows):
    await initialize_redis_client()
    assert await initialize_context_engine()
    try:
        engine = get_context_engine()
        await engine.add_conversation_message("s", "assistant", "hello")
        await engine.archive_barrier(timeout=SECONDS)
        assert await rows("context_conversations", "content", session_id="s") == [("hello",)]
    finally:
        await close_context_engine()
        await close_redis_client()
