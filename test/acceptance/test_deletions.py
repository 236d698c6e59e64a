"""Deleting: all of what was named, nothing of anything else, again and again."""

from __future__ import annotations

import asyncio

import pytest

from aiecs.core.errors import InvalidInputError
from aiecs.domain.context import ContextEngine
from aiecs.domain.task.task_context import TaskContext

IDS = ("a:b", "a", "b:c", "c", "*", "../x", "{x}", "😀", "\x00", "~i", ":", "é" * 100 + "x")
PARTIES = [{"id": "a1", "type": "agent", "role": "writer"}]


async def fill(engine: ContextEngine, session_id: str, user_id: str = "ann") -> str:
    """A session with everything that can belong to one; the key of its agent conversation."""
    await engine.create_session(session_id, user_id, {"k": 1})
    await engine.add_conversation_message(session_id, "user", "hi", idempotency_key="once")
    await engine.store_task_context(session_id, TaskContext({"user_id": user_id}))
    key = await engine.create_conversation_session(session_id, PARTIES, "agent_to_agent")
    await engine.add_agent_communication_message(key, "a1", "agent", "writer", content="x")
    thread = f"of {session_id}"
    await engine.store_checkpoint(thread, "1", {}, session_id=session_id)
    await engine.put_writes(thread, "1", "task", [("x", 1)])
    await engine.store_checkpoint(session_id, "1", {})
    return key


async def contents(engine: ContextEngine, session_id: str, key: str) -> list[object]:
    """What there is of a session, in a form that can be compared."""
    context = await engine.get_task_context(session_id)
    return [
        await engine.get_session(session_id),
        await engine.get_conversation_history(session_id),
        None if context is None else context.to_dict(),
        await engine.list_conversation_sessions(session_id),
        await engine.get_agent_conversation_history(key),
        await engine.list_checkpoints(f"of {session_id}"),
        await engine.get_writes(f"of {session_id}", "1"),
        await engine.list_checkpoints(session_id),
    ]


NOTHING: list[object] = [None, [], None, [], [], [], [], []]


async def test_a_session_goes_with_everything_in_it(engine: ContextEngine):
    key = await fill(engine, "s")

    report = await engine.delete_session("s")

    assert report.complete
    assert (report.sessions, report.messages, report.task_contexts) == (1, 2, 1)
    assert (report.conversations, report.threads) == (1, 2)
    assert (report.checkpoints, report.writes) == (2, 1)
    assert await contents(engine, "s", key) == NOTHING
    assert "s" not in [one.session_id for one in await engine.list_all_sessions()]


async def test_nothing_is_left_to_delete_twice(engine: ContextEngine):
    await fill(engine, "s")
    await engine.delete_session("s")

    again = await engine.delete_session("s")

    assert again.complete
    assert sum(count for count in again.to_dict().values() if count is not True) == 0


async def test_nothing_of_another_session_is_touched(engine: ContextEngine):
    keys = {name: await fill(engine, name) for name in IDS}
    others = {name: await contents(engine, name, keys[name]) for name in IDS}

    for name in IDS:
        await engine.delete_session(name)

        del others[name]
        assert await contents(engine, name, keys[name]) == NOTHING
        assert {one: await contents(engine, one, keys[one]) for one in others} == others


@pytest.mark.parametrize("user", ["a", "*", "\x00é😀"])
async def test_a_user_goes_with_every_session(engine: ContextEngine, user: str):
    mine = {f"{n} of mine": await fill(engine, f"{n} of mine", user) for n in range(5)}
    other = await fill(engine, "other", "b:a")
    before = await contents(engine, "other", other)

    report = await engine.delete_user(user)

    assert (report.sessions, report.threads, report.messages) == (5, 10, 10)
    for session_id, key in mine.items():
        assert await contents(engine, session_id, key) == NOTHING
    assert (await engine.list_sessions(user_id=user)).items == []
    assert await contents(engine, "other", other) == before
    assert (await engine.delete_user(user)).sessions == 0


async def test_a_user_with_many_sessions(engine: ContextEngine):
    await asyncio.gather(*(engine.create_session(f"s{n}", "ann") for n in range(120)))

    report = await engine.delete_user("ann")

    assert report.sessions == 120
    assert (await engine.list_sessions(user_id="ann")).items == []


async def test_sessions_of_nobody_are_no_users(engine: ContextEngine):
    await engine.add_conversation_message("s", "user", "hi")

    with pytest.raises(InvalidInputError):
        await engine.delete_user("")
    assert await engine.get_session("s") is not None


async def test_what_is_unknown_is_an_empty_report(engine: ContextEngine):
    for report in (
        await engine.delete_session("nobody"),
        await engine.delete_thread("nobody"),
        await engine.delete_user("nobody"),
    ):
        assert report.complete
        assert (report.sessions, report.threads) == (0, 0)


async def test_the_id_may_be_used_again(engine: ContextEngine):
    await fill(engine, "s")
    await engine.delete_session("s")

    session = await engine.create_session("s", "bob")

    assert (session.user_id, session.request_count, session.metadata) == ("bob", 0, {})
    assert await engine.get_conversation_history("s") == []
    assert (await engine.delete_user("ann")).sessions == 0
    assert await engine.get_session("s") is not None


async def test_an_adopted_session_goes_with_its_user(engine: ContextEngine):
    await engine.add_conversation_message("s", "user", "hi")
    await engine.create_session("s", "ann")

    assert (await engine.delete_user("ann")).sessions == 1


async def test_writes_during_a_deletion_stay_whole_or_go(engine: ContextEngine):
    async def write(number: int) -> None:
        await engine.add_conversation_message("s", "user", str(number))
        await engine.store_checkpoint(f"t{number}", "1", {}, session_id="s")

    async def delete() -> None:
        for _ in range(10):
            await engine.delete_session("s")

    await asyncio.gather(*(write(number) for number in range(50)), delete())
    await engine.delete_session("s")

    left = await asyncio.gather(*(engine.get_checkpoint(f"t{number}") for number in range(50)))
    assert left == [None] * 50
    assert await engine.get_session("s") is None
    assert await engine.get_conversation_history("s") == []


async def test_many_deletions_at_once_count_each_thing_once(engine: ContextEngine):
    await fill(engine, "s")

    reports = await asyncio.gather(*(engine.delete_session("s") for _ in range(8)))

    assert sum(report.sessions for report in reports) == 1
    assert sum(report.threads for report in reports) == 2


async def test_the_metrics_follow(engine: ContextEngine):
    before = await engine.get_metrics()
    await fill(engine, "s")
    await engine.delete_session("s")

    after = await engine.get_metrics()

    for name in ("stored_sessions", "active_sessions", "stored_messages", "stored_checkpoints"):
        assert after[name] == before[name]
    for name in ("sessions", "messages", "checkpoints"):
        assert after[f"total_{name}"] > after[f"stored_{name}"], "ever stored"
