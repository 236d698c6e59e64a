"""Agent conversations: keys that never meet, the latest messages of the types asked for."""

from __future__ import annotations

import asyncio

import pytest

from aiecs.core.errors import InvalidInputError
from aiecs.domain.context import ContextEngine
from aiecs.domain.context.conversation_models import ConversationParticipant

IDS = ("a:b", "a", "b:c", "*", "../x", "{x}", "😀", "\x00", "~i", "é" * 127 + "x")
PARTIES = [
    {"id": "user_123", "type": "user", "role": "user"},
    {"id": "agent_001", "type": "agent", "role": "assistant", "metadata": {}},
]


async def say(engine: ContextEngine, key: str, text: str, kind: str = "communication") -> None:
    await engine.add_agent_communication_message(
        key, "agent_001", "agent", "assistant", content=text, message_type=kind
    )


async def said(engine: ContextEngine, key: str, *args, **kwargs) -> list[str]:
    found = await engine.get_agent_conversation_history(key, *args, **kwargs)
    return [message.content for message in found]


async def test_the_example_of_the_specification(engine: ContextEngine):
    key = await engine.create_conversation_session(
        session_id="session_001",
        participants=PARTIES,
        session_type="user_to_agent",
        metadata={"project": "sales_analysis", "priority": "high"},
    )
    added = await engine.add_agent_communication_message(
        session_key=key,
        sender_id="agent_001",
        sender_type="agent",
        sender_role="data_analyst",
        content="I've analyzed your sales data and found some interesting patterns.",
        message_type="analysis_result",
        metadata={"analysis_id": "analysis_001", "confidence": 0.92},
    )
    (message,) = await engine.get_agent_conversation_history(session_key=key, limit=20)

    assert added is True
    assert message.sender_role == message["sender_role"] == "data_analyst"
    assert message["content"].startswith("I've analyzed")
    assert message["recipient_id"] is None
    assert message.metadata == {"analysis_id": "analysis_001", "confidence": 0.92}
    assert message.session_key == key
    assert message.message_id


async def test_the_arguments_of_aiecs_2_by_position(engine: ContextEngine):
    key = await engine.create_conversation_session("s", PARTIES, "user_to_agent")
    await engine.add_agent_communication_message(
        key, "a", "agent", "x", "b", "agent", "y", "hello", "feedback", {"n": 1}
    )

    (message,) = await engine.get_agent_conversation_history(key)

    assert (message.recipient_id, message.recipient_role) == ("b", "y")
    assert (message.content, message.message_type, message.metadata) == (
        "hello",
        "feedback",
        {"n": 1},
    )


async def test_the_same_conversation_has_the_same_key(engine: ContextEngine):
    participants = [ConversationParticipant.from_dict(one) for one in PARTIES]

    first = await engine.create_conversation_session("s", PARTIES, "user_to_agent")
    again = await engine.create_conversation_session("s", participants, "user_to_agent", {"n": 1})

    assert first == again
    assert len(await engine.list_conversation_sessions("s")) == 1


async def test_any_other_conversation_has_another_key(engine: ContextEngine):
    roles = [{"type": "agent", "role": "writer"}, {"type": "agent", "role": "critic"}]

    def pair(*ids: str) -> list[dict]:
        return [{"id": one, **role} for one, role in zip(ids, roles, strict=True)]

    keys = [
        await engine.create_conversation_session(session, participants, kind)
        for session, participants, kind in (
            ("s", pair("a1", "a2"), "agent_to_agent"),
            ("s", pair("a3", "a4"), "agent_to_agent"),  # the same roles, other agents
            ("s", pair("a1", "a2"), "user_to_agent"),
            ("s", pair("a1", "a2")[:1], "agent_to_agent"),
            ("s2", pair("a1", "a2"), "agent_to_agent"),
        )
    ]
    for key in keys:
        await say(engine, key, key)

    assert len(set(keys)) == len(keys)
    assert [await said(engine, key) for key in keys] == [[key] for key in keys]


async def test_it_is_apart_from_the_sessions_own_messages(engine: ContextEngine):
    key = await engine.create_conversation_session("s", PARTIES, "user_to_mc")
    await engine.add_conversation_message("s", "user", "to the session")
    await say(engine, key, "to the agents")

    assert key != "s"
    assert [one.content for one in await engine.get_conversation_history("s")] == ["to the session"]
    assert await said(engine, key) == ["to the agents"]


async def test_the_latest_messages_come_oldest_first(engine: ContextEngine):
    key = await engine.create_conversation_session("s", PARTIES, "user_to_agent")
    for number in range(60):
        await say(engine, key, str(number))

    assert await said(engine, key) == [str(number) for number in range(10, 60)]
    assert await said(engine, key, 3) == ["57", "58", "59"]
    assert len(await said(engine, key, 0)) == 60


async def test_types_are_filtered_before_the_limit(engine: ContextEngine):
    key = await engine.create_conversation_session("s", PARTIES, "user_to_agent")
    for number in range(30):
        await say(engine, key, str(number), "rare" if number % 10 == 0 else "anything at all")

    assert await said(engine, key, 2, ["rare"]) == ["10", "20"]
    assert await said(engine, key, 50, message_types=["rare", "other"]) == ["0", "10", "20"]
    assert await said(engine, key, message_types=["other"]) == []


async def test_many_at_once_are_all_there(engine: ContextEngine):
    key = await engine.create_conversation_session("s", PARTIES, "user_to_agent")

    await asyncio.gather(*(say(engine, key, str(number)) for number in range(64)))

    assert sorted(map(int, await said(engine, key, None))) == list(range(64))


async def test_a_session_is_created_for_it(engine: ContextEngine):
    await engine.create_conversation_session("s", PARTIES, "user_to_agent")

    assert await engine.get_session("s") is not None


async def test_who_takes_part_can_be_read(engine: ContextEngine):
    key = await engine.create_conversation_session("s", PARTIES, "user_to_agent", {"n": 1})

    found = await engine.get_conversation_session(key)

    assert found is not None
    assert found.session_key == key
    assert (found.session_id, found.session_type, found.metadata) == (
        "s",
        "user_to_agent",
        {"n": 1},
    )
    assert [one["id"] for one in found.participants] == ["user_123", "agent_001"]
    assert await engine.list_conversation_sessions("s") == [found]


async def test_what_is_unknown_is_none_or_empty(engine: ContextEngine):
    key = await engine.create_conversation_session("s", PARTIES, "user_to_agent")
    await engine.delete_session("s")

    for unknown in (key, "s", "nonsense"):
        assert await engine.get_agent_conversation_history(unknown) == []
        assert await engine.get_conversation_session(unknown) is None
    assert await engine.list_conversation_sessions("s") == []


async def test_a_message_to_no_conversation_is_refused(engine: ContextEngine):
    with pytest.raises(InvalidInputError):
        await say(engine, "nonsense", "hello")
    with pytest.raises(InvalidInputError):
        await say(engine, "s", "hello")


async def test_a_late_message_is_not_lost(engine: ContextEngine):
    key = await engine.create_conversation_session("s", PARTIES, "user_to_agent")
    await engine.delete_session("s")

    await say(engine, key, "late")

    assert await said(engine, key) == ["late"]
    assert await engine.get_session("s") is not None


async def test_any_id_is_only_itself(engine: ContextEngine):
    keys = {}
    for name in IDS:
        parties = [{"id": name, "type": "agent", "role": "x"}]
        keys[name] = await engine.create_conversation_session(name, parties, "agent_to_agent")
        await say(engine, keys[name], name)

    assert len(set(keys.values())) == len(IDS)
    assert [await said(engine, keys[name]) for name in IDS] == [[name] for name in IDS]


async def test_it_goes_with_its_session(engine: ContextEngine):
    key = await engine.create_conversation_session("s", PARTIES, "user_to_agent")
    await say(engine, key, "hello")

    report = await engine.delete_session("s")

    assert (report.conversations, report.messages) == (1, 1)
    assert await said(engine, key) == []
