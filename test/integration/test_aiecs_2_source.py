"""Reading the Redis of PyPI's `aiecs` 2.2.0: carefully, with few rights, past what is broken."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from support.aiecs_2 import (
    add_session,
    at,
    between,
    contents,
    load_golden,
    old_redis,
    push,
    records_of,
    row,
    state,
    url_of,
)
from support.servers import NOWHERE, Server

from aiecs.core.errors import (
    InvalidInputError,
    StoreAuthError,
    StoreMisconfiguredError,
    StoreUnavailableError,
)
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
from aiecs.integrations.aiecs_2 import is_aiecs_2, opened, place_of

LATER = 600_000
"""Milliseconds that a lifetime may have gone down by while a test ran."""


@pytest.fixture
async def old(server: Server) -> AsyncIterator[Redis]:
    """The old server, empty."""
    async with old_redis(server) as client:
        yield client


def sessions(records: list[Record]) -> dict[str, SessionRecord]:
    return {one.session.session_id: one for one in records if isinstance(one, SessionRecord)}


# --- the source stays as it is --------------------------------------------------------------------


async def test_the_source_is_not_touched(servers, server: Server):
    own = servers.start(server.name)
    async with old_redis(own) as old:
        await load_golden(old)
        before, written = await state(old), await old.info("persistence")

        await records_of(own)
        assert await is_aiecs_2(url_of(own))

        after, still_written = await state(old), await old.info("persistence")
    assert {key: value for key, (value, _) in after.items()} == {
        key: value for key, (value, _) in before.items()
    }
    assert all(0 <= before[key][1] - after[key][1] < LATER for key in before)
    changes = "rdb_changes_since_last_save"
    assert still_written[changes] == written[changes]


async def test_a_user_who_may_only_read_is_enough(old: Redis, server: Server):
    await load_golden(old)
    everything, _, _ = await records_of(server)
    await old.acl_setuser(
        "reader", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@read"],
        commands=["+select"], reset=True,
    )  # fmt: skip
    url = url_of(server).replace("://", "://reader:pw@")

    async with opened(url) as source:
        assert await source.is_aiecs_2()
        assert await source.count_sessions() == 9
        assert [record async for record in source.records()] == everything


async def test_nothing_is_asked_for_as_a_whole(servers, server: Server):
    own = servers.start(server.name)
    async with old_redis(own) as client:
        await load_golden(client)
        await client.config_resetstat()
        await records_of(own)
        asked = await client.info("commandstats")

    commands = {name.removeprefix("cmdstat_").partition("|")[0] for name in asked}
    told_by_clients = {"client", "config", "info", "select", "hello", "ping"}
    assert commands - told_by_clients == {"hscan", "hexists", "hmget", "lrange", "scan"}


async def test_large_hashes_come_in_pages(old: Redis, server: Server):
    for number in range(1500):
        await add_session(old, f"s{number}")
        await old.hset("checkpoints:t", f"c{number:04}", checkpoint(number))  # type: ignore[misc]

    records, problems, _ = await records_of(server)

    assert problems == []
    assert sessions(records).keys() == {f"s{number}" for number in range(1500)}
    found = [one.checkpoint_id for one in records if isinstance(one, CheckpointRecord)]
    assert found == [f"c{number:04}" for number in range(1500)]


# --- what it is -----------------------------------------------------------------------------------


def checkpoint(number: int) -> str:
    row_ = {"checkpoint_id": "any", "thread_id": "t", "data": {"n": number}, "metadata": {}}
    return json.dumps(row_ | {"created_at": at(number)})


async def test_it_is_recognised(old: Redis, server: Server):
    url = url_of(server)
    assert not await is_aiecs_2(url)
    await old.hset("sessions", mapping={"a": "{}", "b": "nothing", "c": "[1]"})  # type: ignore[misc]
    assert not await is_aiecs_2(url)
    await add_session(old, "real")
    assert await is_aiecs_2(url)
    await old.set("sessions", "of another program")
    assert not await is_aiecs_2(url)
    context = {"user_id": "ada", "chat_id": "s", "metadata": {}, "context_history": []}
    await old.hset("task_contexts", "s", json.dumps(context))  # type: ignore[misc]
    assert await is_aiecs_2(url)


async def test_what_belongs_to_other_programs_is_left_alone(old: Redis, server: Server):
    await old.set("conversation:a", "text")
    await old.set("checkpoints:a", "text")
    await old.sadd("checkpoint_writes:b", "text")  # type: ignore[misc]
    await old.set("task_contexts", "text")
    await old.hset("other", "a", "b")  # type: ignore[misc]
    await add_session(old, "s")

    records, problems, _ = await records_of(server)

    threads = [one for one in records if isinstance(one, CheckpointRecord | WritesRecord)]
    assert contents(records, "s") == threads == []
    assert sessions(records).keys() == {"s"}
    assert {place for place, _ in problems} >= {"task_contexts", "conversation:a"}
    assert {why for _, why in problems} == {"is of another type than aiecs 2.2.0 gives it"}


async def test_failures_are_those_of_a_store(server: Server):
    for url, expected in (
        (NOWHERE, StoreUnavailableError),
        (url_of(server).replace("://", "://nobody:wrong@"), StoreAuthError),
        (url_of(server).replace("/9", "/999"), StoreMisconfiguredError),
    ):
        with pytest.raises(expected):
            await is_aiecs_2(url)
    for url in (
        "http://me:secret@host",
        "nonsense",
        "redis://me:secret@host:port",
        "redis://me:secret@host/name",
        "redis://me:secret@host/0?durability=replicated",
    ):
        with pytest.raises(InvalidInputError) as refused:
            await is_aiecs_2(url)
        assert "secret" not in str(refused.value)


# --- what is broken -------------------------------------------------------------------------------


async def test_a_broken_message_costs_no_other(old: Redis, server: Server):
    await add_session(old, "s")
    broken = [
        b"\xff\xfe", "{", "[1]", '"text"', "{}", "[" * 100_000,
        row(1).replace(at(1), "yesterday"), row(1).replace('"m1"', "7"),
        row(1).replace('"user"', '""'), row(1).replace("{}", "[]"),
    ]  # fmt: skip
    for number, one in enumerate(broken):
        await push(old, "s", row(number, f"good {number}"), one)

    records, problems, _ = await records_of(server)

    assert contents(records, "s") == [f"good {number}" for number in range(len(broken))]
    assert len(problems) == len(broken)
    assert all(place.startswith("conversation:s") for place, _ in problems)
    assert not any(re.search('yesterday|text"|m1', " ".join(told)) for told in problems)


async def test_unusual_messages_are_kept(old: Redis, server: Server):
    await add_session(old, "s")
    parts = [{"type": "text", "text": "hi"}]
    await push(old, "s", row(0).replace('"m0"', json.dumps(parts)), row(1).replace('"m1"', "null"))
    await push(old, "s", row(2).replace("{}", "null"), row(3, "\ud800 half"))
    await push(old, "s", row(4), row(4), row(4))

    records, problems, _ = await records_of(server)

    found = [one.message for one in records if isinstance(one, MessageRecord)]
    assert problems == []
    assert [one.content for one in found] == ["", "", "m2", "\ud800 half", "m4", "m4", "m4"]
    assert found[0].parts == parts
    assert len({one.id for one in found}) == len(found)


async def test_a_broken_session_still_has_its_messages(old: Redis, server: Server):
    await old.hset("sessions", "s", "{")  # type: ignore[misc]
    await add_session(old, "t", created_at="never", user_id="bob")
    await add_session(old, "u", request_count=-1, error_count="x", total_processing_time="x")
    await old.hset("sessions", b"\xff", "{}")  # type: ignore[misc]
    await old.hset("sessions", "x" * 300, "{}")  # type: ignore[misc]
    context = {"user_id": "eve", "metadata": {"k": 1}, "context_history": []}
    await old.hset("task_contexts", "s", json.dumps(context))  # type: ignore[misc]
    await push(old, "s", row(1), row(2))

    records, problems, _ = await records_of(server)

    found = {name: one.session for name, one in sessions(records).items()}
    assert (found["s"].user_id, found["s"].metadata) == ("eve", {"k": 1})
    assert [found["s"].created_at.second, found["s"].last_activity.second] == [8, 9]
    assert contents(records, "s") == ["m1", "m2"]
    assert found["t"].user_id == "bob"
    assert (found["u"].request_count, found["u"].error_count) == (0, 0)
    assert [place for place, _ in problems].count("sessions 'u'") == 3
    assert {place for place, _ in problems} == {
        "sessions", "sessions 's'", "sessions 't'", "sessions 'u'"
    }  # fmt: skip


async def test_other_broken_rows_are_told(old: Redis, server: Server):
    await add_session(old, "s")
    context = {"user_id": "ada", "chat_id": "s", "context_history": 7, "metadata": "x"}
    await old.hset("task_contexts", "s", json.dumps(context))  # type: ignore[misc]
    talks = {"bad": "{}", "worse": "[", "nobody": json.dumps({"participants": [{}]})}
    await old.hset("conversation_sessions", mapping=talks)  # type: ignore[misc]
    good = checkpoint(1)
    broken = {"a": "{", "b": "{}", "c": good.replace("data", "date"), "d": good[:-10]}
    broken |= {"e": good.replace('"n": 1', '"n": NaN'), "good": good}
    await old.hset("checkpoints:t", mapping=broken)  # type: ignore[misc]
    writes = {"checkpoint_id": "c", "task_id": "t", "writes": [["ch", 1]]}
    await old.hset(  # type: ignore[misc]
        "checkpoint_writes:t",
        mapping={
            "c:t": json.dumps(writes),
            "c:u": json.dumps(writes | {"writes": [["too", "many", 1]]}),
            "c:v": json.dumps(writes | {"task_id": 7}),
            "c:w": "nothing",
        },
    )

    records, problems, _ = await records_of(server)

    kinds = [type(one) for one in records]
    assert kinds == [SessionRecord, CheckpointRecord, WritesRecord]
    places = [place.partition(" ")[0] for place, _ in problems]
    assert {place: places.count(place) for place in places} == {
        "task_contexts": 1,
        "conversation_sessions": 3,
        "checkpoints:t": 5,
        "checkpoint_writes:t": 3,
    }


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["*", "a:b", "[x]?", "conversation:a", "é \\ %2F", "a\nb", "{s}"])
async def test_names_are_only_names(old: Redis, server: Server, name: str):
    await add_session(old, name)
    await add_session(old, "other")
    await push(old, name, row(1), row(2))
    await push(old, "other", row(3))
    await old.hset(f"checkpoints:{name}", f"{name}:1", checkpoint(1))  # type: ignore[misc]

    records, problems, _ = await records_of(server)

    assert problems == []
    assert contents(records, name) == ["m1", "m2"]
    assert contents(records, "other") == ["m3"]
    (found,) = [one for one in records if isinstance(one, CheckpointRecord)]
    assert (found.thread_id, found.session_id, found.checkpoint_id) == (name, None, f"{name}:1")
    assert records.index(found) > records.index(sessions(records)[name])


async def test_every_record_can_be_named(old: Redis, server: Server):
    await load_golden(old)

    places = {place_of(record) for record in (await records_of(server))[0]}

    assert {"session 'long'", "a message of session 'long'", "the task context of session 'long'",
            "an agent message of session 'team'", "an agent conversation of session 'team'",
            "checkpoint 'c0' of thread 't/1'"} <= places  # fmt: skip


# --- agents ---------------------------------------------------------------------------------------


async def test_conversations_that_nobody_wrote_down(old: Redis, server: Server):
    """Their hash expires a day after the last conversation was created, their lists live on."""
    ada, mc, w = ("ada", "user", ""), ("mc", "master_controller", ""), ("w", "agent", "a_to_b")
    c = ("c", "agent", "c")
    await add_session(old, "S")
    await push(old, "S", between(0, ada, mc))
    await push(old, "S_mc_to_a_to_b", between(1, mc, w))
    await push(old, "S_user_to_a_to_b", between(2, w, ada))
    await push(old, "S_c_to_a_to_b", between(3, w, c), between(4, c, w))
    await push(old, "unrelated", between(5, w, c))
    await push(old, "gone_mc_to_a_to_b", between(6, mc, w))

    records, problems, keys = await records_of(server)

    assert problems == []
    began = {
        one.session_key: one.stored["session_type"]
        for one in records
        if isinstance(one, ConversationRecord)
    }
    assert {old_name: began[key] for old_name, key in keys} == {
        "S": "user_to_mc",
        "S_mc_to_a_to_b": "mc_to_agent",
        "S_user_to_a_to_b": "user_to_agent",
        "S_c_to_a_to_b": "agent_to_agent",
        "gone_mc_to_a_to_b": "mc_to_agent",
    }
    found = [one for one in records if isinstance(one, AgentMessageRecord)]
    assert [one.stored["content"] for one in found if one.session_id == "S"] == [
        f"m{number}" for number in range(5)
    ]
    assert [one.session_id for one in found if one.stored["content"] == "m6"] == ["gone"]
    assert contents(records, "unrelated") == ["m5"]
    assert sessions(records).keys() == {"S", "gone", "unrelated"}


async def test_a_context_without_a_session_gets_one(old: Redis, server: Server):
    context = {"user_id": "anonymous", "chat_id": "s", "metadata": {}, "context_history": []}
    await old.hset("task_contexts", "s", json.dumps(context))  # type: ignore[misc]

    records, problems, _ = await records_of(server)

    assert problems == []
    assert [type(one) for one in records] == [SessionRecord, TaskContextRecord]
    assert sessions(records)["s"].session.user_id == ""
