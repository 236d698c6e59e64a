"""Messages as they lie in a session's log: JSON of the fields that are set, one item each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from aiecs.core.clock import utcnow
from aiecs.core.codec import check_json, clean_text
from aiecs.core.errors import InvalidInputError
from aiecs.core.ids import new_message_id
from aiecs.domain.context.models import ConversationMessage
from aiecs.domain.record import copied

MAX_MESSAGE_BYTES = 1024 * 1024
MAX_TOKENS = 10**12
REPAIRED = "surrogates_replaced"
"""The metadata key that is True on a message whose text held lone surrogates."""

_NONE: dict[str, Any] = {}
_FLAT = frozenset({str, int, bool, float, type(None)})


class StoredMessage(msgspec.Struct, omit_defaults=True, gc=False):
    """A message in the log. Never handed out: `to_messages` makes what callers get."""

    role: str
    content: str
    timestamp: datetime
    metadata: dict[str, Any] = {}
    id: str | None = None
    name: str | None = None
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None
    parts: list[Any] | None = None
    pinned: bool = False
    unknown: dict[str, Any] | None = msgspec.field(default=None, name="+")


Row = tuple[int, StoredMessage, bool]
"""A sequence, the message there, and whether its values hold lists or dicts."""


class Tokens(NamedTuple):
    """What a message adds to its session's counters."""

    read: int
    written: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(StoredMessage).decode
_decode_all = msgspec.json.Decoder(list[StoredMessage]).decode


# --- writing --------------------------------------------------------------------------------------


def new_message(role: str, content: str, metadata: dict[str, Any] | None = None) -> StoredMessage:
    """A message of now, checked; `InvalidInputError` for what cannot be stored."""
    if type(role) is not str or type(content) is not str or not role:
        role, content = _text(role, "role"), _text(content, "content", empty=True)
    if metadata:
        metadata = _plain_metadata(metadata)
    return StoredMessage(role, content, utcnow(), metadata or _NONE, new_message_id())


def complete(
    stored: StoredMessage,
    name: str | None,
    tool_calls: list[Any] | None,
    tool_call_id: str | None,
    parts: list[Any] | None,
    *,
    pinned: bool,
) -> None:
    """Set what few messages have, checked as `new_message` does."""
    stored.name = None if name is None else _text(name, "name")
    stored.tool_calls = _plain_list(tool_calls, "tool_calls")
    stored.tool_call_id = None if tool_call_id is None else _text(tool_call_id, "tool_call_id")
    stored.parts = _plain_list(parts, "parts")
    stored.pinned = bool(pinned)


def taken_over(message: ConversationMessage | Mapping[str, Any]) -> StoredMessage:
    """As `new_message`, from a whole message: it keeps its time and its id where it has them."""
    if isinstance(message, Mapping):
        message = ConversationMessage.from_dict({"timestamp": utcnow(), **message})
    elif not isinstance(message, ConversationMessage):
        raise InvalidInputError(f"a message is no {type(message).__name__}")
    stored = new_message(message.role, message.content, message.metadata)
    calls, call_id = message.tool_calls, message.tool_call_id
    complete(
        stored, message.name or None, calls, call_id or None, message.parts, pinned=message.pinned
    )
    stored.timestamp = message.timestamp
    stored.id = message.id or stored.id
    stored.unknown = check_json(message.unknown_fields, "unknown fields") or None
    return stored


def encode_message(stored: StoredMessage) -> bytes:
    """The item for the log; `InvalidInputError` beyond 1 MiB."""
    try:
        item = _encode(stored)
    except UnicodeEncodeError:
        item = _encode(repaired(stored))
    except ValueError as error:
        raise InvalidInputError(f"message: {error}") from None
    if len(item) > MAX_MESSAGE_BYTES:
        raise InvalidInputError(
            f"a message has at most {MAX_MESSAGE_BYTES} bytes as JSON, this one {len(item)}"
        )
    return item


def tokens_of(stored: StoredMessage) -> Tokens | None:
    """What `input_tokens` and `output_tokens` in the metadata count, None for nothing.

    Only non-negative ints count; anything else is plain metadata.
    """
    metadata = stored.metadata
    if "input_tokens" not in metadata and "output_tokens" not in metadata:
        return None
    read = _tokens(metadata.get("input_tokens"))
    written = _tokens(metadata.get("output_tokens"))
    return Tokens(read, written) if read or written else None


def _tokens(value: Any) -> int:
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else 0


def _text(value: Any, what: str, *, empty: bool = False) -> str:
    if not isinstance(value, str):
        raise InvalidInputError(f"{what} is a str, got {type(value).__name__}")
    if not value and not empty:
        raise InvalidInputError(f"{what} must not be empty")
    return str.__str__(value)


def _plain_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    if type(metadata) is dict:
        for key, value in metadata.items():
            kind = type(value)
            if kind not in _FLAT or type(key) is not str:
                break
            if kind is float and value - value != 0.0:  # inf and nan
                break
        else:
            return metadata
    if not isinstance(metadata, dict):
        raise InvalidInputError(f"metadata is a dict, got {type(metadata).__name__}")
    plain: dict[str, Any] = check_json(metadata, "metadata")
    return plain


def _plain_list(value: list[Any] | None, what: str) -> list[Any] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)):
        raise InvalidInputError(f"{what} is a list, got {type(value).__name__}")
    plain: list[Any] = check_json(list(value), what)
    return plain


def repaired(stored: StoredMessage) -> StoredMessage:
    """The message with its lone surrogates replaced, and flagged so in its metadata."""
    fields = {name: _cleaned(getattr(stored, name)) for name in stored.__struct_fields__}
    made = StoredMessage(**fields)
    made.metadata = {**made.metadata, REPAIRED: True}
    return made


def _cleaned(value: Any) -> Any:
    if type(value) is str:
        return clean_text(value)[0]
    if type(value) is list:
        return [_cleaned(inner) for inner in value]
    if type(value) is dict:
        return {clean_text(key)[0]: _cleaned(inner) for key, inner in value.items()}
    return value


# --- reading --------------------------------------------------------------------------------------


def decode_items(first: int, items: list[bytes]) -> tuple[list[Row], list[int]]:
    """The messages of log items that begin at sequence `first`, and which were corrupt.

    Corrupt items and redacted ones (empty) are left out.
    """
    try:
        found = _decode_all(b"[" + b",".join(items) + b"]")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _decode_each(first, items)
    if len(found) != len(items):
        return _decode_each(first, items)
    return [(seq, message, _is_deep(message)) for seq, message in enumerate(found, first)], []


def _decode_each(first: int, items: list[bytes]) -> tuple[list[Row], list[int]]:
    rows: list[Row] = []
    corrupt: list[int] = []
    for seq, item in enumerate(items, first):
        if not item:
            continue
        try:
            message = _decode(item)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            corrupt.append(seq)
        else:
            rows.append((seq, message, _is_deep(message)))
    return rows, corrupt


def _is_deep(stored: StoredMessage) -> bool:
    metadata = stored.metadata
    if metadata and not _FLAT.issuperset(map(type, metadata.values())):
        return True
    rare = (stored.tool_calls, stored.parts, stored.unknown)
    return rare != _UNSET


_UNSET = (None, None, None)
_blank = ConversationMessage.__new__


def to_messages(rows: Iterable[Row]) -> list[ConversationMessage]:
    """Messages of the caller's own: nothing in them is shared with the rows."""
    made: list[ConversationMessage] = []
    for seq, stored, deep in rows:
        # Field by field past the constructor, whose checks the stored form has behind it: this
        # runs for every message of every read.
        message = _blank(ConversationMessage)
        message.role = stored.role
        message.content = stored.content
        message.timestamp = stored.timestamp
        message.id = stored.id
        message.seq = seq
        message.name = stored.name
        message.tool_call_id = stored.tool_call_id
        message.pinned = stored.pinned
        if deep:
            message = _deepened(message, stored)
        else:
            message.metadata = stored.metadata.copy()
            message.tool_calls = message.parts = None
        made.append(message)
    return made


def _deepened(message: ConversationMessage, stored: StoredMessage) -> ConversationMessage:
    message.metadata = copied(stored.metadata)
    message.tool_calls = copied(stored.tool_calls)
    message.parts = copied(stored.parts)
    if stored.unknown is not None:
        return ConversationMessage.from_dict(copied(stored.unknown) | message.to_dict())
    return message
