"""Agent conversations and their messages as they are stored: what `codec` makes of their dicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiecs.core.clock import utcnow
from aiecs.core.codec import check_json, decode, encode, encode_flagged
from aiecs.core.errors import CorruptRecordError, InvalidInputError
from aiecs.core.ids import check_id, new_message_id
from aiecs.core.interface.store import MAX_RECORD_BYTES
from aiecs.domain.context.conversation_models import (
    AgentCommunicationMessage,
    ConversationParticipant,
    ConversationSession,
)
from aiecs.domain.context.messages import MAX_MESSAGE_BYTES, REPAIRED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_CONVERSATION_BYTES = MAX_RECORD_BYTES - 8192
"""What participants and metadata of a conversation may take when encoded: 8 MiB less 8 KiB."""


def new_message(session_key: str, fields: dict[str, Any]) -> AgentCommunicationMessage:
    """A message of now, checked; `InvalidInputError` for what cannot be stored."""
    for name in ("sender_id", "sender_type", "sender_role", "message_type"):
        check_id(fields[name], name)
    for name in ("recipient_id", "recipient_type", "recipient_role"):
        if fields[name] is not None:
            check_id(fields[name], name)
    if not isinstance(fields["content"], str):
        raise InvalidInputError(f"content is a str, got {type(fields['content']).__name__}")
    return AgentCommunicationMessage(
        message_id=new_message_id(),
        session_key=session_key,
        timestamp=utcnow(),
        **fields | {"metadata": _metadata(fields["metadata"])},
    )


def encode_message(message: AgentCommunicationMessage) -> bytes:
    """The item for the log; `InvalidInputError` beyond 1 MiB."""
    fields = message.to_dict()
    del fields["session_key"]
    item, replaced = encode_flagged(fields, what="message", max_bytes=MAX_MESSAGE_BYTES)
    if replaced:
        fields["metadata"] = {**fields["metadata"], REPAIRED: True}
        item = encode(fields, what="message", max_bytes=MAX_MESSAGE_BYTES)
    return item


def decode_message(session_key: str, item: bytes) -> AgentCommunicationMessage:
    """The message of a log item; `CorruptRecordError` if it is none."""
    fields = decode(item)
    try:
        return AgentCommunicationMessage.from_dict({**fields, "session_key": session_key})
    except (InvalidInputError, TypeError):
        raise CorruptRecordError("stored value is no agent message") from None


def new_conversation(
    session_id: str,
    participants: Iterable[ConversationParticipant | Mapping[str, Any]],
    session_type: str,
    metadata: dict[str, Any] | None,
) -> ConversationSession:
    """A conversation of now, checked; `InvalidInputError` for what cannot be stored."""
    if not hasattr(participants, "__iter__"):
        raise InvalidInputError("participants is a list of dicts or ConversationParticipants")
    now = utcnow()
    return ConversationSession(
        session_id=check_id(session_id, "session_id"),
        participants=[ConversationParticipant.of(one) for one in participants],
        session_type=check_id(session_type, "session_type"),
        created_at=now,
        last_activity=now,
        metadata=_metadata(metadata),
    )


def encode_conversation(conversation: ConversationSession) -> bytes:
    """The record of who takes part; `InvalidInputError` beyond 8 MiB less 8 KiB."""
    fields = conversation.to_dict()
    del fields["session_id"], fields["last_activity"]
    return encode(fields, what="conversation", max_bytes=MAX_CONVERSATION_BYTES)


def decode_conversation(session_id: str, record: bytes) -> ConversationSession:
    """The conversation of a record, last active when it was created; `CorruptRecordError`."""
    fields = decode(record)
    try:
        last = fields["created_at"]
        return ConversationSession.from_dict(
            {**fields, "session_id": session_id, "last_activity": last}
        )
    except (InvalidInputError, TypeError, KeyError):
        raise CorruptRecordError("stored value is no agent conversation") from None


def _metadata(metadata: dict[str, Any] | None) -> dict[str, Any]:
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise InvalidInputError(f"metadata is a dict, got {type(metadata).__name__}")
    plain: dict[str, Any] = check_json(metadata, "metadata")
    return plain
