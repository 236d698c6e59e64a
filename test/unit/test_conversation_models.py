from __future__ import annotations

from datetime import UTC, datetime

import pytest

from aiecs.core.errors import InvalidInputError
from aiecs.domain.context.conversation_models import (
    AgentCommunicationMessage,
    ConversationParticipant,
    ConversationSession,
    conversation_key,
    session_id_of,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
USER = {"id": "user_123", "type": "user", "role": "user"}
AGENT = {"id": "agent_001", "type": "agent", "role": "assistant", "metadata": {"a": [1]}}


def session(**changes) -> ConversationSession:
    given = {
        "session_id": "s",
        "participants": [USER, ConversationParticipant.from_dict(AGENT)],
        "session_type": "user_to_agent",
        "created_at": NOW,
        "last_activity": NOW,
    }
    return ConversationSession(**(given | changes))


def message(**changes) -> AgentCommunicationMessage:
    given = {
        "message_id": "m",
        "session_key": "k",
        "sender_id": "agent_001",
        "sender_type": "agent",
        "sender_role": "analyst",
        "content": "done",
        "timestamp": NOW,
    }
    return AgentCommunicationMessage(**(given | changes))


def test_a_participant_has_the_dict_form_of_the_specification() -> None:
    made = ConversationParticipant.from_dict(AGENT)

    assert made == ConversationParticipant("agent_001", "agent", "assistant", {"a": [1]})
    assert made.to_dict() == AGENT
    assert ConversationParticipant("u", "user").to_dict() == {"id": "u", "type": "user"}
    assert ConversationParticipant.from_dict(USER | {"metadata": {}}).to_dict() == USER


def test_a_participant_reads_the_names_of_its_fields_as_well() -> None:
    given = {"participant_id": "a", "participant_type": "agent", "participant_role": "r"}

    assert ConversationParticipant.from_dict(given) == ConversationParticipant("a", "agent", "r")


def test_a_participant_can_be_read_like_a_dict() -> None:
    made = ConversationParticipant("a", "agent", None, {"x": 1})

    assert (made["id"], made["type"], made["role"]) == ("a", "agent", None)
    assert made["participant_id"] == "a"
    assert made.get("nothing", 5) == 5
    assert dict(made) == {"id": "a", "type": "agent", "role": None, "metadata": {"x": 1}}


def test_unknown_keys_of_a_participant_survive() -> None:
    assert ConversationParticipant.from_dict(USER | {"colour": "red"}).to_dict() == USER | {
        "colour": "red"
    }


@pytest.mark.parametrize(
    "bad",
    [
        {"type": "agent"},
        {"id": "a"},
        {"id": "", "type": "agent"},
        {"id": "a", "type": ""},
        {"id": "a", "type": "agent", "role": ""},
        {"id": "x" * 256, "type": "agent"},
        {"id": 5, "type": "agent"},
        {"id": "a", "type": "agent", "metadata": []},
        "agent_001",
        None,
    ],
)
def test_a_bad_participant_is_refused(bad: object) -> None:
    with pytest.raises(InvalidInputError):
        ConversationParticipant.of(bad)
    with pytest.raises(InvalidInputError):
        conversation_key("s", "t", [bad])


def test_a_session_takes_participants_in_both_forms() -> None:
    made = session()

    assert made.participants == [
        ConversationParticipant("user_123", "user", "user"),
        ConversationParticipant("agent_001", "agent", "assistant", {"a": [1]}),
    ]
    assert ConversationSession.from_dict(made.to_dict()) == made
    assert made.to_dict() == {
        "session_id": "s",
        "participants": [USER, AGENT],
        "session_type": "user_to_agent",
        "created_at": "2026-01-02T03:04:05+00:00",
        "last_activity": "2026-01-02T03:04:05+00:00",
        "metadata": {},
    }


def test_times_of_a_session_are_aware_utc() -> None:
    made = session(created_at=NOW.replace(tzinfo=None), last_activity="2026-01-02T03:04:05")

    assert (made.created_at, made.last_activity) == (NOW, NOW)
    made.update_activity()
    assert made.last_activity > NOW
    assert made.created_at == NOW


def test_a_participant_is_found_by_type_and_role() -> None:
    made = session()

    assert made.get_participant_by_type_and_role("agent", "assistant") is made.participants[1]
    assert made.get_participant_by_type_and_role("user") is made.participants[0]
    assert made.get_participant_by_type_and_role("user", "assistant") is None


def test_a_session_knows_its_key() -> None:
    key = conversation_key("s", "user_to_agent", [AGENT, USER])

    assert session().session_key == session().generate_session_key() == key


def test_the_key_depends_on_session_type_and_participants_only() -> None:
    key = conversation_key("s", "t", [USER, AGENT])

    assert conversation_key("s", "t", [AGENT, USER]) == key
    assert conversation_key("s", "t", [USER, AGENT | {"metadata": {"b": 2}}]) == key
    others = [
        conversation_key("s2", "t", [USER, AGENT]),
        conversation_key("s", "t2", [USER, AGENT]),
        conversation_key("s", "t", [USER]),
        conversation_key("s", "t", []),
        conversation_key("s", "t", [USER, USER, AGENT]),
        conversation_key("s", "t", [USER, AGENT | {"id": "agent_002"}]),
        conversation_key("s", "t", [USER, AGENT | {"role": "writer"}]),
        conversation_key("s", "t", [USER, AGENT | {"role": None}]),
        conversation_key("s", "t", [USER, AGENT | {"type": "tool"}]),
        conversation_key("s", "t", [{"id": "user", "type": "user_123", "role": "user"}, AGENT]),
    ]
    assert len({key, *others}) == len(others) + 1


def test_two_pairs_with_equal_roles_do_not_share_a_key() -> None:
    first = [{"id": "a1", "type": "agent", "role": "w"}, {"id": "a2", "type": "agent", "role": "c"}]
    second = [
        {"id": "b1", "type": "agent", "role": "w"},
        {"id": "b2", "type": "agent", "role": "c"},
    ]

    assert conversation_key("s", "t", first) != conversation_key("s", "t", second)


def test_the_key_stays_what_it_is() -> None:
    """It is stored: another value here is a migration, not a refactoring."""
    assert conversation_key("user 1:a/ü", "user_to_agent", [USER, AGENT]) == (
        "conversation:user%201%3Aa%2F%C3%BC:f29090b9a699a33c6ba3be1187f27c559a961870"
    )


@pytest.mark.parametrize(
    "session_id", ["s", "a:b", "%41", "a%3Ab", "x" * 255, "\U0001f600" * 63, "\x00\n", "..", "~"]
)
def test_the_key_leads_back_to_its_session_and_is_short(session_id: str) -> None:
    key = conversation_key(session_id, "t", [USER])

    assert session_id_of(key) == session_id
    assert len(key) <= 1024
    assert key.isascii()
    assert key.isprintable()


GOOD = conversation_key("s", "t", [USER])


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "s",
        GOOD[:-1],
        GOOD + "0",
        GOOD.upper(),
        GOOD + "\n",
        "x" + GOOD,
        GOOD.replace(":s:", "::"),
        GOOD.replace(":s:", ":%73:"),
        GOOD.replace(":s:", ":%3a:"),
        GOOD.replace(":s:", ":%:"),
        GOOD.replace(":s:", ":%FF:"),
        GOOD.replace(":s:", ":%EF%BF%BD%FF:"),
        GOOD.replace(":s:", ":a b:"),
        GOOD.replace(":s:", ":" + "x" * 256 + ":"),
        None,
        5,
    ],
)
def test_what_is_no_key_is_refused(bad: object) -> None:
    with pytest.raises(InvalidInputError):
        session_id_of(bad)


@pytest.mark.parametrize(("session_id", "session_type"), [("", "t"), ("s", ""), (None, "t")])
def test_a_key_needs_a_session_and_a_type(session_id: str, session_type: str) -> None:
    with pytest.raises(InvalidInputError, match=r"session_(id|type)"):
        conversation_key(session_id, session_type, [USER])


def test_a_message_needs_no_recipient_and_takes_any_type() -> None:
    made = message(message_type="analysis_result", metadata={"confidence": 0.92})

    assert (made.recipient_id, made.recipient_type, made.recipient_role) == (None, None, None)
    assert made["message_type"] == "analysis_result"
    assert made["timestamp"] == "2026-01-02T03:04:05+00:00"
    assert made.get("content") == "done"
    assert AgentCommunicationMessage.from_dict(made.to_dict()) == made
    assert message().message_type == "communication"


def test_a_message_dict_always_has_the_same_keys() -> None:
    assert set(message().to_dict()) == set(message(recipient_id="r").to_dict())
    assert set(message().to_dict()) == {
        "message_id",
        "session_key",
        "sender_id",
        "sender_type",
        "sender_role",
        "recipient_id",
        "recipient_type",
        "recipient_role",
        "content",
        "message_type",
        "timestamp",
        "metadata",
    }


def test_unknown_keys_of_a_message_survive() -> None:
    stored = message(recipient_id="r").to_dict() | {"priority": 1}
    read = AgentCommunicationMessage.from_dict(stored)

    assert read.to_dict() == stored
    assert read.recipient_id == "r"
    assert read["priority"] == 1


def test_a_naive_message_time_is_utc() -> None:
    assert message(timestamp=NOW.replace(tzinfo=None)).timestamp == NOW
