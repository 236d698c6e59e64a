"""Conversations between agents: who takes part, under which key, and what is said."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import quote, unquote

from aiecs.core.clock import parse_time, utcnow
from aiecs.core.errors import InvalidInputError
from aiecs.core.ids import check_id
from aiecs.domain.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PREFIX = "conversation"
_DIGEST_BYTES = 20
_KEY = re.compile(rf"{_PREFIX}:([A-Za-z0-9_.~%-]+):[0-9a-f]{{{2 * _DIGEST_BYTES}}}")

_SHORT = {"participant_id": "id", "participant_type": "type", "participant_role": "role"}
_LONG = {short: long for long, short in _SHORT.items()}


@dataclass
class ConversationParticipant(Record):
    """One side of a conversation: a user, an agent, or any other type.

    As a dict: `{"id": ..., "type": ..., "role": ..., "metadata": {...}}`, the last two
    when set. Id, type and role are non-empty and at most 255 bytes, else `InvalidInputError`.
    """

    participant_id: str
    participant_type: str
    participant_role: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_id(self.participant_id, "participant id")
        check_id(self.participant_type, "participant type")
        if self.participant_role is not None:
            check_id(self.participant_role, "participant role")

    @classmethod
    def of(cls, value: ConversationParticipant | Mapping[str, Any]) -> ConversationParticipant:
        """`value` itself, or the participant that a dict describes."""
        return value if isinstance(value, ConversationParticipant) else cls.from_dict(value)

    def to_dict(self) -> dict[str, Any]:
        """The dict form; `from_dict` turns it back into an equal participant."""
        return {_SHORT.get(name, name): value for name, value in super().to_dict().items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The participant that `data` describes, with short names or those of the fields.

        `InvalidInputError` if `data` is no dict, or lacks id or type.
        """
        if not hasattr(data, "items"):
            raise InvalidInputError("a participant must be a dict or a ConversationParticipant")
        return super().from_dict({_LONG.get(name, name): value for name, value in data.items()})

    def keys(self) -> list[str]:
        """The names of the dict form; the names of the fields can be read as well."""
        return [_SHORT.get(name, name) for name in Record.keys(self)]

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(_LONG.get(name, name))


@dataclass
class ConversationSession(Record):
    """A conversation inside a session. Participants may be given as dicts; times as ISO text."""

    session_id: str
    participants: list[ConversationParticipant]
    session_type: str
    created_at: datetime
    last_activity: datetime
    metadata: dict[str, Any] = field(default_factory=dict)

    always: ClassVar[frozenset[str]] = frozenset({"metadata"})

    def __post_init__(self) -> None:
        self.participants = [ConversationParticipant.of(one) for one in self.participants]
        self.created_at = parse_time(self.created_at, "created_at")
        self.last_activity = parse_time(self.last_activity, "last_activity")

    @property
    def session_key(self) -> str:
        """The key of this conversation, see `conversation_key`."""
        return conversation_key(self.session_id, self.session_type, self.participants)

    def generate_session_key(self) -> str:
        """`session_key`, for callers of aiecs 2."""
        return self.session_key

    def get_participant_by_type_and_role(
        self, participant_type: str, participant_role: str | None = None
    ) -> ConversationParticipant | None:
        """The first participant of this type, and of this role if one is given; else None."""
        for one in self.participants:
            if one.participant_type == participant_type and participant_role in (
                None,
                one.participant_role,
            ):
                return one
        return None

    def update_activity(self) -> None:
        """Set `last_activity` to now."""
        self.last_activity = utcnow()

    def to_dict(self) -> dict[str, Any]:
        """A dict that `from_dict` turns back into an equal session."""
        return super().to_dict() | {"participants": [one.to_dict() for one in self.participants]}


@dataclass(slots=True, kw_only=True)
class AgentCommunicationMessage(Record):
    """A message of a conversation between agents; fields can be read as `message["content"]`.

    `recipient_*` may be None, `message_type` is any text. A naive `timestamp` and ISO 8601
    text are read as UTC.
    """

    message_id: str
    session_key: str
    sender_id: str
    sender_type: str
    sender_role: str
    recipient_id: str | None = None
    recipient_type: str | None = None
    recipient_role: str | None = None
    content: str
    message_type: str = "communication"
    timestamp: datetime
    metadata: dict[str, Any] = field(default_factory=dict)

    always: ClassVar[frozenset[str]] = frozenset(
        {"recipient_id", "recipient_type", "recipient_role", "message_type", "metadata"}
    )

    def __post_init__(self) -> None:
        self.timestamp = parse_time(self.timestamp, "timestamp")


def conversation_key(
    session_id: str,
    session_type: str,
    participants: Iterable[ConversationParticipant | Mapping[str, Any]],
) -> str:
    """The key of a conversation: at most 1,024 ASCII characters, its session id readable in it.

    The same session, type and participants give the same key, anything else another one.
    Of a participant id, type and role count, metadata does not, nor does their order.
    `InvalidInputError` for ids, types and roles that are empty or longer than 255 bytes.
    """
    check_id(session_id, "session_id")
    digest = blake2b(digest_size=_DIGEST_BYTES)
    _feed(digest, check_id(session_type, "session_type"))
    for party in sorted(map(_identity, map(ConversationParticipant.of, participants))):
        for part in party:
            _feed(digest, part)
    return f"{_PREFIX}:{quote(session_id, safe='')}:{digest.hexdigest()}"


def session_id_of(key: str) -> str:
    """The session that a conversation key belongs to.

    `InvalidInputError` for a text that `conversation_key` cannot have made.
    """
    found = _KEY.fullmatch(str(key))
    if found is not None:
        session_id = unquote(found[1], errors="replace")
        if quote(session_id, safe="") == found[1]:
            return check_id(session_id, "session_id")
    raise InvalidInputError("session_key is not the key of a conversation")


def _identity(one: ConversationParticipant) -> tuple[str, str, str]:
    # A role is never empty, so "" can stand for none.
    return one.participant_type, one.participant_id, one.participant_role or ""


def _feed(digest: blake2b, text: str) -> None:
    """Hash `text` with its length in front, so that no two lists of texts look the same."""
    data = text.encode()
    digest.update(len(data).to_bytes(2))
    digest.update(data)
