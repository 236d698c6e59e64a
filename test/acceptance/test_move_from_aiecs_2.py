"""What PyPI's `aiecs` 2.2.0 has written arrives on every store, once, wherever the move ends."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis
from support.aiecs_2 import add_session, load_golden, old_redis, push, records_of, row
from support.servers import Server
from support.transfer import exported, imported

from aiecs.domain.context import ContextEngine
from aiecs.domain.context.transfer import (
    ConversationRecord,
    Counts,
    MessageRecord,
    Record,
    importer_of,
)

EXPECTED = Counts(
    sessions=11,
    messages=87,
    task_contexts=9,
    conversations=5,
    agent_messages=8,
    checkpoints=4,
    writes=3,
)
LONG = [f"m{number}" for number in range(60)]


@pytest.fixture
async def old(server: Server) -> Any:
    """The old server with the recorded data."""
    async with old_redis(server) as client:
        await load_golden(client)
        yield client


def by_kind(records: list[Record]) -> dict[str, list[str]]:
    """Records in a form that can be compared: the store chooses the order between some of them."""
    found = defaultdict(list)
    for one in records:
        known = one
        if isinstance(one, MessageRecord):
            known = one._replace(message=replace(one.message, seq=None))
        found[type(one).__name__].append(repr(known))
    return {kind: sorted(texts) for kind, texts in found.items()}


@pytest.mark.usefixtures("old")
async def test_all_of_it_arrives(server: Server, engine: ContextEngine):
    records, problems, _ = await records_of(server)

    counts, refused = await imported(engine, records)

    assert (counts, problems, refused) == (EXPECTED, [], [])
    assert by_kind(await exported(engine)) == by_kind(records)
    await sessions_are_there(engine)
    await order_is_repaired(engine)
    await threads_are_there(engine)


async def sessions_are_there(engine: ContextEngine) -> None:
    long = await engine.get_session("long")
    assert long is not None
    assert (long.user_id, long.status, long.request_count) == ("ada", "active", 1)
    assert (long.error_count, long.total_processing_time) == (1, 1.25)
    assert long.metadata == {"source": "web", "tags": ["a", {"b": None}]}
    assert long.created_at.tzinfo is UTC
    assert long.created_at < long.last_activity < datetime.now(UTC)
    ended, cancelled = [await engine.get_session(name) for name in ("ended", "cancelled")]
    assert ended is not None
    assert cancelled is not None
    assert (ended.status, ended.metadata) == ("failed", {})
    assert (cancelled.status, cancelled.metadata) == (
        "completed",
        {"aiecs_2_status": "cancelled"},
    )
    context = await engine.get_task_context("long")
    assert context is not None
    assert context.context_history[0].update_type == "message"
    assert [one["operation"] for one in context.file_tracker["a/b.py"]] == ["read"]
    assert [one["model_id"] for one in context.model_tracker] == ["m"]
    used = [context.file_tracker["a/b.py"][0]["timestamp"], context.model_tracker[0]["timestamp"]]
    assert all(datetime.fromisoformat(time).tzinfo is not None for time in used)


async def order_is_repaired(engine: ContextEngine) -> None:
    async def said(session_id: str) -> list[str]:
        found = await engine.get_conversation_history(session_id, None)
        assert [one.timestamp for one in found] == sorted(one.timestamp for one in found)
        return [one.content.partition("\n")[0] for one in found]

    assert await said("long") == LONG
    assert await said("odd: *[x]? {y} é") == LONG[:3]
    assert await said("without a session") == LONG[:2]
    assert await said("truncated") == LONG[8:14]
    assert await said("summarized") == ["[Summary of 8 previous messages]", *LONG[8:14]]
    marker, summary, *rest = await said("compressed on append")
    assert (marker, rest) == ("[Compact boundary marker]", LONG[6:11])
    assert summary.startswith("This session is being continued")
    assert [one.content for one in await engine.get_conversation_history("long", 2)] == LONG[58:]


async def threads_are_there(engine: ContextEngine) -> None:
    found = await engine.list_checkpoints("t/1")
    assert [(one["checkpoint_id"], one["data"]["at"]) for one in found] == [
        ("c0", 2),
        ("c1", 1),
        ("c2", 0),
    ]
    latest = await engine.get_checkpoint("t/1")
    assert latest is not None
    assert latest["data"]["channel_values"] == {"n": [1, [2, {"~": "no tag"}]], "big": 2**70}
    assert latest["metadata"] == {"step": 1}
    assert datetime.fromisoformat(latest["created_at"]).tzinfo is not None
    writes = [("ch", "text"), ("ch", {"x": [1]}), ("other", None)]
    assert await engine.get_writes("t/1", "c0") == writes
    assert await engine.get_writes("only writes", "c") == [("ch", 1)]
    assert (await engine.get_checkpoint("long"))["data"] == {"thread": "of the session"}  # type: ignore[index]
    assert (await engine.delete_session("long")).checkpoints == 1


@pytest.mark.usefixtures("old")
async def test_conversations_between_agents_are_those_of_who_takes_part(
    server: Server, engine: ContextEngine
):
    records, _, keys = await records_of(server)
    await imported(engine, records)

    async def said(session_id: str, kind: str, *parties: dict[str, str]) -> tuple[str, list[str]]:
        # What the application calls anyway: it finds what is there.
        key = await engine.create_conversation_session(session_id, list(parties), kind)
        return key, [one.content for one in await engine.get_agent_conversation_history(key)]

    ada = {"id": "ada", "type": "user"}
    planner = {"id": "mc-1", "type": "master_controller", "role": "planner"}
    w1, w2, c1, c2 = (
        {"id": f"{role[0]}-{n}", "type": "agent", "role": role}
        for role in ("writer", "critic")
        for n in (1, 2)
    )
    own, texts = await said("team", "user_to_mc", ada, planner)
    assert texts == ["write it", "it is written"]
    first, texts = await said("team", "agent_to_agent", w1, c1)
    assert texts == ["here", "no", "and now?"]
    second, texts = await said("team", "agent_to_agent", w2, c2)
    assert texts == ["ours"]
    # Its first messages are in a list whose row has been replaced; the other direction's tells.
    (told,) = [
        one.stored
        for one in records
        if isinstance(one, ConversationRecord) and one.session_key == first
    ]
    assert told["metadata"] == {"for": "agent_to_agent"}
    assert told["participants"][1]["metadata"] == {"model": "m"}
    hurried, texts = await said("team", "mc_to_agent", planner, w1)
    assert texts == ["hurry"]
    lost, texts = await said("forgotten", "user_to_agent", ada, w1)
    assert texts == ["who are we?"]
    assert sorted(keys) == sorted(
        [
            ("team", own),
            ("team_writer_to_critic", first),
            ("team_critic_to_writer", first),
            ("team_writer_to_critic", second),
            ("team_mc_to_writer", hurried),
            ("forgotten_user_to_writer", lost),
        ]
    )
    plain = await engine.get_conversation_history("team_mc_to_writer")
    assert [one.content for one in plain] == ["plain, in a conversation's list"]
    assert [one.content for one in await engine.get_conversation_history("team")] == ["plain"]
    (one,) = await engine.get_agent_conversation_history(lost)
    assert (one["sender_role"], one["metadata"]) == ("user", {"said by": "ada"})


@pytest.mark.usefixtures("old")
async def test_again_adds_nothing(server: Server, engine: ContextEngine):
    await imported(engine, (await records_of(server))[0])
    before = await exported(engine)

    counts, refused = await imported(engine, (await records_of(server))[0])

    assert (counts, refused) == (Counts(known=11), [])
    assert await exported(engine) == before


async def test_what_came_since_is_added(old: Redis, server: Server, engine: ContextEngine):
    await imported(engine, (await records_of(server))[0])
    late = row(60).replace("2026-03", "2036-03")
    await push(old, "long", late)

    counts, refused = await imported(engine, (await records_of(server))[0])

    assert (counts, refused) == (Counts(known=10, extended=1, messages=1), [])
    assert [one.content for one in await engine.get_conversation_history("long", None)] == [
        *LONG,
        "m60",
    ]


class _Cut(Exception):  # noqa: N818 - ends an import
    pass


async def cut(engine: ContextEngine, records: list[Record], after: int) -> None:
    """An import that ends after so many records, with what is under way."""
    with suppress(_Cut):
        async with importer_of(engine, lambda *_: None) as importer:
            for record in records[:after]:
                await importer.add(record)
            raise _Cut


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize("share", [0.3, 0.7])
async def test_an_import_cut_short_goes_on(server: Server, engine: ContextEngine, share: float):
    records, _, _ = await records_of(server)
    await cut(engine, records, int(len(records) * share))

    _, refused = await imported(engine, (await records_of(server))[0])

    assert refused == []
    assert by_kind(await exported(engine)) == by_kind(records)


@pytest.mark.usefixtures("old")
async def test_an_import_cut_short_anywhere_goes_on(server: Server):
    records, _, _ = await records_of(server)
    for after in range(0, len(records), 5):
        async with ContextEngine(store="memory://") as engine:
            await cut(engine, records, after)
            _, refused = await imported(engine, records)
            assert refused == []
            assert by_kind(await exported(engine)) == by_kind(records), f"cut after {after}"


async def test_a_full_list_keeps_what_the_old_one_kept(server: Server, engine: ContextEngine):
    async with old_redis(server) as client:
        await add_session(client, "full")
        for start in range(0, 1100, 100):
            await push(client, "full", *(row(number) for number in range(start, start + 100)))
        records, problems, _ = await records_of(server)

    assert (await imported(engine, records))[1] == problems == []

    found = await engine.get_conversation_history("full", None)
    assert [one.content for one in found] == [f"m{number}" for number in range(1000)]
