"""What a session, and each message, is in the store: made before anything is written."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from aiecs.core.clock import to_micros
from aiecs.core.codec import check_json, dump_json
from aiecs.core.errors import InvalidInputError
from aiecs.core.ids import check_id
from aiecs.core.interface.store import MAX_INTEGER
from aiecs.domain.context.messages import MAX_MESSAGE_BYTES, encode_message, taken_over, tokens_of
from aiecs.domain.context.models import ConversationMessage, SessionMetrics
from aiecs.domain.context.session_record import check_status, metadata_fields, told_metadata


class Incoming(NamedTuple):
    """An item for a log.

    Its id and its sequence in the log where it comes from (None: unknown), and the tokens that it
    counts. An empty item stands for one that is gone.
    """

    id: str | None
    item: bytes
    seq: int | None = None
    tokens: tuple[int, int] = (0, 0)


GONE = Incoming(None, b"")


def session_head(session: SessionMetrics) -> dict[str, bytes]:
    """The head of a session as it was, but for its incarnation.

    `InvalidInputError` for what cannot be stored.
    """
    check_id(session.session_id, "session_id")
    head, _ = metadata_fields(session.metadata, max_keys=None)
    head["c"] = b"%d" % to_micros(session.created_at)
    head["l"] = b"%d" % to_micros(session.last_activity)
    if session.user_id:
        head["u"] = check_id(session.user_id, "user_id").encode()
    if check_status(session.status) != "active":
        head["st"] = session.status.encode()
    counters = {
        "q": session.request_count,
        "e": session.error_count,
        "t": _micros(session.total_processing_time),
        "ti": session.input_tokens,
        "to": session.output_tokens,
    }
    head |= {name: _count(value) for name, value in counters.items() if value}
    if unknown := session.unknown_fields:
        head["+"] = dump_json(check_json(unknown, "unknown fields"))[0]
    return head


def told_session(session: SessionMetrics) -> dict[str, Any]:
    """The session as the event of its creation tells it."""
    put, _ = metadata_fields(session.metadata, max_keys=None)
    head = session_head(session)
    counted: dict[str, Any] = {
        name: int(head[name]) for name in ("q", "e", "t", "ti", "to") if name in head
    }
    times = {"created": int(head["c"]), "active": int(head["l"])}
    told = {"user_id": session.user_id, "status": session.status, **times}
    return {**told, **counted, **told_metadata(put)}


def _micros(seconds: float) -> int:
    if not 0 <= seconds <= MAX_INTEGER / 1_000_000:  # not for NaN either
        raise InvalidInputError(f"total_processing_time is {seconds!r}")
    return round(seconds * 1_000_000)


def _count(value: int) -> bytes:
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise InvalidInputError(f"a counter of the session is {value!r}")
    return b"%d" % value


def incoming_message(message: ConversationMessage) -> Incoming:
    """A message as an item for the log; `InvalidInputError` for what cannot be stored."""
    stored = taken_over(message)
    if message.id is not None:
        check_id(message.id, "message id")
    if message.seq is not None and not 0 <= message.seq < MAX_INTEGER:
        raise InvalidInputError(f"seq is {message.seq}")
    tokens = tokens_of(stored) or (0, 0)
    return Incoming(message.id, encode_message(stored), message.seq, (tokens[0], tokens[1]))


def incoming_agent_message(stored: dict[str, Any]) -> Incoming:
    """A message between agents, as it lies in its log, on its way to another one."""
    found = stored.get("message_id")
    item = dump_json(stored)[0]
    if len(item) > MAX_MESSAGE_BYTES:
        raise InvalidInputError(f"a message has at most {MAX_MESSAGE_BYTES} bytes as JSON")
    return Incoming(found if isinstance(found, str) else None, item)


class _Identity(msgspec.Struct):
    id: str | None = None
    message_id: str | None = None


_identity = msgspec.json.Decoder(_Identity).decode


def same_item(stored: bytes, incoming: Incoming) -> bool:
    """Whether a stored item is the one that comes in: by id where there is one.

    What was erased on either side, or cannot be decoded, is not held against it.
    """
    if not stored or not incoming.item or stored == incoming.item:
        return True
    try:
        found = _identity(stored)
    except (msgspec.MsgspecError, ValueError):
        return True
    return incoming.id is not None and incoming.id == (found.id or found.message_id)
