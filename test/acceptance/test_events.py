"""With an archive every write leaves an event, in the same batch; without one nothing is left."""

from __future__ import annotations

import json
from functools import partial

import pytest
from support.transfer import exported, imported
from support.waiting import until

from aiecs import ContextEngine, InvalidInputError
from aiecs.core.events import OUTBOX, About, told
from aiecs.core.interface.store import Batch, Clock, Get, Read
from aiecs.core.keys import bucket_of, session_place, thread_place
from aiecs.domain.context import services
from aiecs.domain.task.task_context import TaskContext


@pytest.fixture
def archived(monkeypatch):
    """Engines are opened as with an archive."""
    monkeypatch.setattr(services, "build", partial(services.build, archived=True))


async def events(engine, *names):
    """What the outboxes of these sessions and threads hold, oldest first."""
    found = []
    for bucket in dict.fromkeys(map(bucket_of, names)):
        (log,) = await engine._on.runtime.read(Batch(bucket, "", (Read(OUTBOX),)))
        found += map(told, log.items)
    return found


async def head_of(engine, place):
    (head,) = await engine._on.runtime.read(Batch(*place, (Get(""),), raw=True))
    return head


def brief(found):
    return [(event.kind, *event.ids) for event in found]


async def test_without_an_archive_there_is_no_outbox(engine):
    await engine.create_session("s", "ada")
    await engine.add_conversation_message("s", "user", "x")
    await engine.store_checkpoint("t", "c", {})
    await engine.delete_session("s")
    assert await events(engine, "s", "t") == []


async def test_a_message_and_its_event_hold_the_same(archived, make_engine):
    engine = await make_engine()
    await engine.add_conversation_message("s", "user", 'lines\nand "quotes" \x00 é')
    await engine.add_conversation_message("s", "assistant", "y", {"input_tokens": 3, "model": "m"})

    created, *said = await events(engine, "s")
    history = await engine.get_conversation_history("s")
    incarnation = (await head_of(engine, session_place("s")))["~i"].decode()
    (now,) = await engine._on.runtime.read(Batch(0, "", (Clock(),)))

    assert (created.kind, created.ids) == (About.SESSION, ("s", "created"))
    assert brief(said) == [(About.MESSAGE, "s")] * 2
    assert [event.sequence for event in said] == [message.seq for message in history]
    for event, message in zip(said, history, strict=True):
        assert event.incarnation == created.incarnation == incarnation
        assert created.now <= event.now <= now
        stored = json.loads(event.record)
        assert (stored["id"], stored["content"]) == (message.id, message.content)
        assert stored.get("metadata", {}) == message.metadata


async def test_several_messages_at_once_are_told_one_by_one(archived, make_engine):
    engine = await make_engine(max_messages_per_session=3)
    messages = [{"role": "user", "content": str(number)} for number in range(5)]
    await engine.add_conversation_messages("s", messages, idempotency_key="k")
    await engine.add_conversation_messages("s", messages, idempotency_key="k")

    said = [event for event in await events(engine, "s") if event.kind is About.MESSAGE]
    first = said[0].sequence
    assert [event.sequence for event in said] == list(range(first, first + 5))
    assert [json.loads(event.record)["content"] for event in said] == list("01234")
    kept = await engine.get_conversation_history("s")
    assert [message.seq for message in kept] == [first + 2, first + 3, first + 4]


async def test_what_happens_to_a_session(archived, make_engine):
    engine = await make_engine()
    await engine.add_conversation_message("s", "user", "x")
    await engine.create_session("s", "ada", {"a": [1]})
    await engine.update_session("s", increment_requests=True, add_processing_time=0.25)
    await engine.update_session("s", {"metadata": {"a": None, "b": 2}}, mark_error=True)
    await engine.update_session("s")
    await engine.end_session("s", "failed")
    await engine.delete_session("s")

    changes = [event for event in await events(engine, "s") if event.kind is About.SESSION]
    assert [(event.ids[1], json.loads(event.record)) for event in changes] == [
        ("created", {"user_id": ""}),
        ("adopted", {"user_id": "ada", "metadata": {"a": [1]}}),
        ("updated", {"q": 1, "t": 250_000}),
        ("updated", {"metadata": {"a": None, "b": 2}, "e": 1}),
        ("ended", {"status": "failed"}),
        ("deleted", {}),
    ]
    assert len({event.incarnation for event in changes}) == 1


async def test_everything_else_is_told(archived, make_engine):
    engine = await make_engine()
    await engine.store_task_context("s", TaskContext({"user_id": "ada"}))
    parties = [{"id": "a", "type": "agent", "role": "r"}, {"id": "b", "type": "agent"}]
    key = await engine.create_conversation_session("s", parties, "x")
    await engine.add_agent_communication_message(key, "a", "agent", "r", content="hello")
    await engine.store_checkpoint("t", "c1", {"n": 1}, session_id="s")
    await engine.store_checkpoint("t", "c1", {"n": 2})
    await engine.put_writes("t", "c1", "task", [("channel", 1)])
    await engine.delete_thread("t")

    found = await events(engine, "s", "t")
    assert brief(event for event in found if event.kind is not About.SESSION) == [
        (About.CONTEXT, "s"),
        (About.CONVERSATION, "s", key),
        (About.AGENT_MESSAGE, "s", key),
        (About.CHECKPOINT, "t", "c1", "s"),
        (About.CHECKPOINT, "t", "c1", None),
        (About.WRITES, "t", "c1", "task"),
        (About.THREAD, "t", "deleted"),
    ]
    said = next(event for event in found if event.kind is About.AGENT_MESSAGE)
    assert json.loads(said.record)["content"] == "hello"
    assert said.sequence > 10**15


async def test_what_is_refused_leaves_no_event(archived, make_engine):
    engine = await make_engine()
    await engine.create_session("s", "ada")
    before = await events(engine, "s")

    assert not await engine.update_session("unknown", increment_requests=True)
    assert not await engine.end_session("unknown")
    with pytest.raises(InvalidInputError):
        await engine.add_conversation_message("s", "", "x")
    await engine.create_session("s", "ada", {"other": 1})

    assert await events(engine, "s") == before
    assert await events(engine, "unknown") == []


@pytest.mark.parametrize("linked", [False, True])
async def test_expiry_is_told_and_the_outbox_outlives_it(archived, make_engine, linked):
    engine = await make_engine(session_ttl=0.2)
    await engine.add_conversation_message("s", "user", "x")
    if linked:
        await engine.store_checkpoint("t", "c", {}, session_id="s")
    first = (await events(engine, "s"))[0]

    async def expired():
        return await engine.get_session("s") is None

    await until(expired)

    await engine._on.maintenance.sweep()
    await engine.add_conversation_message("s", "user", "y")

    found = await events(engine, "s")
    happened = [event.ids[1] for event in found if event.kind is About.SESSION]
    assert happened == (
        ["created", "expired", "emptied"] if linked else ["created", "expired", "created"]
    )
    assert found[0] == first
    last = found[-1]
    assert (last.incarnation == first.incarnation) == linked
    assert last.sequence > first.now


async def test_idle_sessions_that_are_cleaned_up(archived, make_engine):
    engine = await make_engine()
    await engine.create_session("s", "ada")
    assert await engine.cleanup_expired_sessions(0) == 1

    assert [event.ids[1] for event in await events(engine, "s")] == ["created", "expired"]


async def test_an_import_tells_what_it_brings(archived, make_engine, timed):
    source, _ = timed
    await source.create_session("s", "ada", {"a": 1})
    await source.update_session("s", increment_requests=True)
    for number in range(3):
        await source.add_conversation_message("s", "user", str(number))
    parties = [{"id": "a", "type": "agent", "role": "r"}, {"id": "b", "type": "agent"}]
    key = await source.create_conversation_session("s", parties, "x")
    for number in range(2):
        await source.add_agent_communication_message(key, "a", "agent", "r", content=f"a{number}")
    await source.store_task_context("s", TaskContext({"user_id": "ada"}))
    await source.store_checkpoint("t", "c", {}, session_id="s")
    await source.put_writes("t", "c", "task", [("channel", 1)])

    engine = await make_engine()
    await imported(engine, await exported(source))

    found = await events(engine, "s", "t")
    created = json.loads(found[0].record)
    assert (created["user_id"], created["q"], created["metadata"]) == ("ada", 1, {"a": 1})
    kinds = [event.kind for event in found]
    assert kinds.count(About.MESSAGE) == 3
    assert kinds.count(About.AGENT_MESSAGE) == 2
    for kind in (About.CONTEXT, About.CONVERSATION, About.CHECKPOINT, About.WRITES):
        assert kinds.count(kind) == 1, kind
    assert next(e for e in found if e.kind is About.AGENT_MESSAGE).ids == ("s", key)


async def test_the_largest_records_fit_with_their_events(archived, make_engine):
    engine: ContextEngine = await make_engine()
    big = "x" * (8 * 1024 * 1024 - 9_000)
    await engine.store_checkpoint("t", "c", big)
    await engine.add_conversation_messages("s", [{"role": "user", "content": "y" * 1_000_000}] * 8)

    assert (await engine.get_checkpoint("t"))["data"] == big
    assert (await head_of(engine, thread_place("t")))["~i"]
    assert sum(len(event.record) for event in await events(engine, "s", "t")) > 16_000_000
