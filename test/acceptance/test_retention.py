"""Retention by idleness, by age and by number; a dry run says what it would be."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from support.transfer import fill

from aiecs import DeletionReport, InvalidInputError

HOUR = 3_600_000_000


async def say(engine, session_id, *hours_ago):
    now = datetime.now(UTC)
    for hours in hours_ago:
        message = {"role": "user", "content": str(hours), "timestamp": now - timedelta(hours=hours)}
        await engine.add_conversation_messages(session_id, [message])


async def contents(engine, session_id):
    return [m.content for m in await engine.get_conversation_history(session_id, None)]


async def test_a_dry_run_tells_exactly_what_a_run_removes(timed):
    engine, store = timed
    await fill(engine)
    await engine.create_session("kept", "ada")
    store.ahead += 10 * HOUR
    await say(engine, "kept", 3, 2, 1)
    everything = store.everything()

    dry = await engine.apply_retention(max_idle_hours=9, max_messages=2, dry_run=True)
    assert store.everything() == everything
    wet = await engine.apply_retention(max_idle_hours=9, max_messages=2)

    assert dry.to_dict() | {"task_contexts": 1} == wet.to_dict()
    assert (wet.sessions, wet.threads, wet.checkpoints, wet.writes) == (2, 3, 5, 2)
    assert wet.messages == 9 + 3 + 1
    assert [one.session_id for one in await engine.list_all_sessions()] == ["kept"]
    assert await engine.get_checkpoint("loose") is None
    assert await engine.apply_retention(max_idle_hours=9, max_messages=2) == DeletionReport()
    assert (await engine.recount()).drift == {}


async def test_messages_go_by_number(engine):
    await say(engine, "s", *range(10))
    key = await engine.create_conversation_session("s", [], "agents")
    for number in range(5):
        sender = ("a", "agent", "writer")
        await engine.add_agent_communication_message(key, *sender, content=str(number))

    report = await engine.apply_retention(max_messages=3)

    assert report == DeletionReport(messages=7 + 2)
    assert await contents(engine, "s") == ["7", "8", "9"]
    agents = await engine.get_agent_conversation_history(key)
    assert [m.content for m in agents] == ["2", "3", "4"]
    assert (await engine.recount()).drift == {}


async def test_messages_go_by_age(engine):
    await say(engine, "mixed", 50, 40, 30, 3, 2)
    await say(engine, "old", *range(700, 100, -1))
    await say(engine, "young", 1)
    await say(engine, "empty")

    report = await engine.apply_retention(max_message_age_hours=24)

    assert report == DeletionReport(messages=3 + 600)
    assert await contents(engine, "mixed") == ["3", "2"]
    assert await contents(engine, "old") == []
    assert await contents(engine, "young") == ["1"]
    assert await engine.get_session("old"), "the session itself stays"
    await say(engine, "old", 0)
    assert await contents(engine, "old") == ["0"]


async def test_the_stricter_rule_counts(engine):
    await say(engine, "s", 50, 40, 3, 2, 1)

    await engine.apply_retention(max_message_age_hours=24, max_messages=2)
    assert await contents(engine, "s") == ["2", "1"]
    await engine.apply_retention(max_message_age_hours=1.5, max_messages=2)
    assert await contents(engine, "s") == ["1"]


async def test_what_is_used_stays(timed):
    engine, store = timed
    await engine.create_session("s", "u")
    await engine.store_checkpoint("t", "c", {}, session_id="s")
    store.ahead += 10 * HOUR
    await engine.store_checkpoint("t", "c2", {}, session_id="s")
    await engine._on.runtime.tasks.drain(5)

    assert await engine.apply_retention(max_idle_hours=5) == DeletionReport()
    assert await engine.get_session("s")


async def test_without_a_rule_only_what_expired_goes(timed):
    engine, store = timed
    await engine.create_session("old", "u")
    store.ahead += 30 * HOUR
    await engine.create_session("new", "u")

    assert (await engine.apply_retention()).sessions == 1
    assert [one.session_id for one in await engine.list_all_sessions()] == ["new"]


@pytest.mark.parametrize(
    "rule",
    [
        {"max_idle_hours": -1},
        {"max_idle_hours": math.nan},
        {"max_message_age_hours": "1"},
        {"max_messages": 0},
        {"max_messages": True},
        {"max_messages": 1.5},
    ],
)
async def test_rules_that_make_no_sense_are_refused(engine, rule):
    await say(engine, "s", 1)
    with pytest.raises(InvalidInputError):
        await engine.apply_retention(**rule)
    assert await contents(engine, "s") == ["1"]
