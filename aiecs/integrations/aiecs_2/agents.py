"""Conversations between agents: which ones there were, and which message belongs to which.

2.2.0 makes the name of a conversation of its session and of roles: other agents with the same roles
share its list, the same two agents have a list for each direction, and the name of one between a
user and the master controller is its session's. Ours goes by who takes part. So each message is
given to the conversation of those who exchanged it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from aiecs.core.codec import load_json
from aiecs.core.errors import InvalidInputError
from aiecs.domain.context.agent_messages import encode_conversation, encode_message
from aiecs.domain.context.conversation_models import (
    AgentCommunicationMessage,
    ConversationParticipant,
    ConversationSession,
)
from aiecs.domain.context.transfer import AgentMessageRecord, ConversationRecord, Record
from aiecs.integrations.aiecs_2.lines import Line
from aiecs.integrations.aiecs_2.rows import Corrupt, part, time_of

_MARKS = ("message_id", "sender_id", "sender_type", "recipient_id", "recipient_type")
_ROLES = ("sender_role", "recipient_role")
_OWN = frozenset({*_MARKS, *_ROLES, "message_type"})


class Guess(NamedTuple):
    """The session and the type of a conversation that no row tells of any more."""

    session_id: str
    session_type: str


def is_between_agents(line: Line) -> bool:
    """Whether a message was sent with `add_agent_communication_message`."""
    marks = line.row.get("metadata")
    return isinstance(marks, dict) and all(
        isinstance(marks.get(name), str) and marks[name] for name in _MARKS
    )


def guess(name: str, line: Line) -> Guess | None:
    """What a message and the name of its list tell of its conversation; None: not enough."""
    marks = line.row["metadata"]
    kinds = {marks["sender_type"], marks["recipient_type"]}
    roles = [marks.get(role) for role in _ROLES]
    of_agent = [r for r, k in zip(roles, ("sender_type", "recipient_type"), strict=True)
                if marks[k] == "agent"]  # fmt: skip
    if kinds == {"user", "master_controller"}:
        return Guess(name, "user_to_mc")
    if kinds == {"master_controller", "agent"}:
        return _cut(name, "mc_to_agent", f"_mc_to_{of_agent[0]}")
    if kinds == {"user", "agent"}:
        return _cut(name, "user_to_agent", f"_user_to_{of_agent[0]}")
    if kinds == {"agent"}:
        one, other = of_agent
        there = _cut(name, "agent_to_agent", f"_{one}_to_{other}")
        return there or _cut(name, "agent_to_agent", f"_{other}_to_{one}")
    return None


def _cut(name: str, session_type: str, ending: str) -> Guess | None:
    session_id = name.removesuffix(ending)
    return Guess(session_id, session_type) if session_id not in ("", name) else None


def conversation_of(row: dict[str, Any]) -> ConversationSession:
    """What a row of `conversation_sessions` tells."""
    parties = row.get("participants")
    if not isinstance(parties, list):
        raise Corrupt("does not say who takes part")
    try:
        found = ConversationSession(
            session_id=row.get("session_id", ""),
            participants=[_party(one) for one in parties],
            session_type=row.get("session_type", ""),
            created_at=time_of(row, "created_at"),
            last_activity=time_of(row, "created_at"),
            metadata=part(row, "metadata"),
        )
        if found.session_key and encode_conversation(found):  # both refuse what cannot be kept
            return found
    except (InvalidInputError, TypeError):
        pass
    raise Corrupt("is no agent conversation")


def _party(row: Any) -> ConversationParticipant:
    if not isinstance(row, dict):
        raise Corrupt("does not say who takes part")
    who, kind, role = (row.get(f"participant_{name}") for name in ("id", "type", "role"))
    metadata = part(row, "metadata")
    return ConversationParticipant(who, kind, role, metadata)  # type: ignore[arg-type]  # it checks


class Talks:
    """The conversations of one session, filled message by message."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self._found: dict[str, ConversationSession] = {}
        self._guessed: set[str] = set()
        self._said: dict[str, list[tuple[datetime, Any]]] = {}

    def begin(self, conversation: ConversationSession, *, guessed: bool = False) -> str:
        """Take a conversation up; its key. What a row tells of it goes before what is guessed."""
        key = conversation.session_key
        known = self._found.get(key)
        if known is None:
            self._found[key], self._said[key] = conversation, []
            self._guessed |= {key} if guessed else set()
            return key
        first = min(known.created_at, conversation.created_at)
        if guessed is (key in self._guessed):
            kept = known if known.created_at == first else conversation
        else:
            kept = known if guessed else conversation
            self._guessed.discard(key)
        self._found[key] = replace(kept, created_at=first)
        return key

    def add(self, line: Line, name: str, known: ConversationSession | None) -> str:
        """Give a message to the conversation of those who exchanged it; that one's key.

        `known` is the one that was created under the name of the list, if there still is a row.
        """
        item = _message(line)
        one, other = _parties(line)
        if known is not None and _takes_part(one, known) and _takes_part(other, known):
            key = self.begin(known)
        else:
            at, kind = line.said.at, _type_of(line, name, known)
            theirs = ConversationSession(self.session_id, [one, other], kind, at, at)
            key = self.begin(theirs, guessed=True)
        self._said[key].append((line.said.at, item))
        return key

    @property
    def times(self) -> list[datetime]:
        """When something was said or begun."""
        begun = [one.created_at for one in self._found.values()]
        return begun + [at for said in self._said.values() for at, _ in said]

    def records(self) -> list[Record]:
        """The conversations, oldest first, each in front of its messages, oldest first."""
        found: list[Record] = []
        in_order = sorted(self._found.items(), key=lambda one: (one[1].created_at, one[0]))
        for key, conversation in in_order:
            told = load_json(encode_conversation(conversation))
            found.append(ConversationRecord(self.session_id, key, told))
            said = sorted(self._said[key], key=lambda one: one[0])
            found += [AgentMessageRecord(self.session_id, key, item) for _, item in said]
        return found


def _type_of(line: Line, name: str, known: ConversationSession | None) -> str:
    if known is not None:
        return known.session_type
    found = guess(name, line)
    return "" if found is None else found.session_type


def _takes_part(party: ConversationParticipant, conversation: ConversationSession) -> bool:
    """By type and id: 2.2.0 does not compare the role that a message names with anything."""
    return any(
        (one.participant_type, one.participant_id) == (party.participant_type, party.participant_id)
        for one in conversation.participants
    )


def _parties(line: Line) -> tuple[ConversationParticipant, ConversationParticipant]:
    marks = line.row["metadata"]
    try:
        one, other = (
            ConversationParticipant(
                marks[f"{side}_id"], marks[f"{side}_type"], marks.get(f"{side}_role") or None
            )
            for side in ("sender", "recipient")
        )
    except InvalidInputError:
        raise Corrupt("does not say who sent it to whom") from None
    return one, other


def _message(line: Line) -> Any:
    marks = line.row["metadata"]
    sender_type = marks["sender_type"]
    try:
        message = AgentCommunicationMessage(
            session_key="",
            content=_text(line.row.get("content")),
            timestamp=line.said.at,
            sender_role=_text(marks.get("sender_role") or sender_type),  # ours always has one
            recipient_role=marks.get("recipient_role"),
            message_type=_text(marks.get("message_type") or "communication"),
            metadata={name: value for name, value in marks.items() if name not in _OWN},
            **{name: marks[name] for name in _MARKS},
        )
        return load_json(encode_message(message))
    except InvalidInputError:
        raise Corrupt("holds what cannot be kept, or more than fits") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Corrupt("has no text")
    return value
