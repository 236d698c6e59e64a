"""What an `IPermanentStorageBackend` is told, as rows of the archive's tables.

It is told as Python values. They become the records that the engine itself would have stored, so
that the same columns follow from them. Nothing names such an event: its id is a digest of what it
says, its time and its place are those that it brings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec

from aiecs.core.clock import from_micros, now_micros, parse_time, to_micros
from aiecs.core.codec import MAX_BYTES, check_json, dump_json, encode, load_json
from aiecs.core.errors import CorruptRecordError, InvalidInputError
from aiecs.core.events import About, Told
from aiecs.core.ids import check_id
from aiecs.infrastructure.persistence.archive import tables
from aiecs.infrastructure.persistence.archive.group_writer import Written
from aiecs.infrastructure.persistence.archive.rows import Row, event_id_of, row_of, stamps

_PAIR = 2
_MOST_KEY = 1_024
_MOST_COUNT = 2**53
_AGENT = ("sender_type", "sender_role", "message_id", "message_type")
_STAMPS = ("seq", "incarnation")
_NAMES = ("session_id", "session_key")
_COUNTS = ("request_count", "error_count", "input_tokens", "output_tokens")
_sorted = msgspec.json.Encoder(order="sorted").encode


def session_event(session_id: str, event_type: str, session: Mapping[str, Any]) -> Written:
    """A session's state after an event; the counters are totals."""
    names = (check_id(session_id, "session_id"), check_id(event_type, "event_type"))
    state = _plain(session, "session")
    record = _json(state, "session")
    now = _time(state, "last_activity", "created_at")
    event = Told(About.SESSION, names, _word(state, "incarnation"), 0, now or now_micros(), record)
    row: Row = {name: _count(state.get(name)) for name in _COUNTS} | {
        "session_id": session_id,
        "event_type": event_type,
        "payload": record,
        "user_id": _word(state, "user_id"),
        "status": _word(state, "status"),
        "processing_time_us": _micros(state.get("total_processing_time")),
    }
    return _written(event, (tables.SESSIONS, row), state)


def message(session_id: str, said: Mapping[str, Any]) -> Written:
    """A message of a session, or of a conversation between agents when it names its sender."""
    name = _key(session_id, "session_id")
    fields = _plain(said, "message")
    now = _time(fields, "timestamp") or now_micros()
    if fields.get("timestamp") is None and fields.get("id") is None:
        fields["timestamp"] = _iso(now)  # or else two of the same text would be one
    if fields.get("metadata") is None:
        fields["metadata"] = {}
    if not isinstance(fields.get("content"), str) or not isinstance(fields["metadata"], dict):
        raise InvalidInputError("a message has a content (str), and its metadata is a dict")
    event = _said(name, fields, now)
    return _written(event, _row(event), fields)


def _said(name: str, fields: dict[str, Any], now: int) -> Told:
    stored = {key: value for key, value in fields.items() if key not in _STAMPS}
    stored["timestamp"] = _iso(now)
    ids: tuple[str, ...] = (name,)
    kind = About.MESSAGE
    if all(_word(stored, part) for part in _AGENT):
        ids, kind = (_word(stored, "session_id"), name), About.AGENT_MESSAGE
        stored = {key: value for key, value in stored.items() if key not in _NAMES}
    elif not _word(stored, "role"):
        raise InvalidInputError("a message has a role (str)")
    # Messages are read in the order of their sequence; a time puts one without where it belongs.
    place = _count(fields.get("seq")) or max(0, now)
    return Told(kind, ids, _word(fields, "incarnation"), place, now, _json(stored, "message"))


def task_context(session_id: str, context: Mapping[str, Any]) -> Written:
    """A task context as it was stored."""
    names = (check_id(session_id, "session_id"),)
    record = encode(_mapping(context, "context"), what="context")
    event = Told(About.CONTEXT, names, "", 0, now_micros(), record)
    return _written(event, _row(event), load_json(record))


def checkpoint(
    thread_id: str, checkpoint_id: str, data: Any, metadata: Mapping[str, Any] | None
) -> Written:
    """A checkpoint; its time is that of LangGraph's `ts` where it has one."""
    names = (check_id(thread_id, "thread_id"), check_id(checkpoint_id, "checkpoint_id"), None)
    now = now_micros()
    with suppress(InvalidInputError):
        now = (_time(data, "ts") if isinstance(data, Mapping) else 0) or now
    known = {"data": data, "metadata": {} if metadata is None else _mapping(metadata, "metadata")}
    record = encode(known | {"created_at": _iso(now)}, what="checkpoint")
    event = Told(About.CHECKPOINT, names, "", 0, now, record)
    said = load_json(record)
    del said["created_at"]
    return _written(event, _row(event), said)


def checkpoint_writes(
    thread_id: str, checkpoint_id: str, task_id: str, pairs: Sequence[Sequence[Any]]
) -> Written:
    """What a task has written for a checkpoint, as (channel, value) pairs."""
    names = (
        check_id(thread_id, "thread_id"),
        check_id(checkpoint_id, "checkpoint_id"),
        check_id(task_id, "task_id"),
    )
    if not isinstance(pairs, list | tuple) or not all(map(_is_pair, pairs)):
        raise InvalidInputError("writes_data is a list of (channel, value) pairs")
    record = encode([task_id, [list(pair) for pair in pairs]], what="writes")
    event = Told(About.WRITES, names, "", 0, now_micros(), record)
    return _written(event, _row(event), load_json(record))


def conversation(session_key: str, fields: Mapping[str, Any]) -> Written:
    """Who takes part in a conversation between agents."""
    known = dict(_mapping(fields, "conversation"))
    names = (_word(known, "session_id"), _key(session_key, "session_key"))
    begun = _time(known, "created_at")
    now = begun or now_micros()
    known |= {"session_type": _word(known, "session_type"), "created_at": _iso(now)}
    record = encode(known, what="conversation")
    event = Told(About.CONVERSATION, names, "", 0, now, record)
    said = load_json(record) | {"created_at": begun}
    said.pop("last_activity", None)  # it changes while the conversation stays the same
    return _written(event, _row(event), said)


# --- rows -----------------------------------------------------------------------------------------


def _row(event: Told) -> tuple[tables.Table, Row]:
    """As `row_of`, of an event that comes from a caller."""
    try:
        return row_of(event)
    except CorruptRecordError:
        raise InvalidInputError("this has not the fields of such an event") from None


def _written(event: Told, made: tuple[tables.Table, Row], said: Any) -> Written:
    """`said` is all that makes this event the one that it is."""
    table, row = made
    name = _sorted([event.kind, event.ids, said])
    stamped = stamps(event, event_id_of(name), max(0, event.now)) | row
    return Written(table.name, stamped, len(event.record))


# --- values ---------------------------------------------------------------------------------------


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"{what} is a dict, got {type(value).__name__}")
    return dict(value)


def _plain(value: Any, what: str) -> dict[str, Any]:
    """A dict as JSON holds it; times in it become text."""
    known = _mapping(value, what)
    texts = {key: v.isoformat() for key, v in known.items() if isinstance(v, datetime)}
    plain: dict[str, Any] = check_json(known | texts, what, max_bytes=MAX_BYTES)
    clean: dict[str, Any] = load_json(_json(plain, what))  # without halves of characters
    return clean


def _json(value: dict[str, Any], what: str) -> bytes:
    record = dump_json(value, what)[0]
    if len(record) > MAX_BYTES:
        raise InvalidInputError(f"{what} has {len(record)} bytes; at most {MAX_BYTES} are allowed")
    return record


def _key(value: Any, what: str) -> str:
    """A session's id or a conversation's key, which is longer."""
    if isinstance(value, str) and value.isascii() and 0 < len(value) <= _MOST_KEY:
        return value
    return check_id(value, what)


def _time(fields: Mapping[str, Any], *names: str) -> int:
    """Microseconds of the first of these times that is there; 0 for none."""
    for name in names:
        if fields.get(name) is not None:
            return to_micros(parse_time(fields[name], name))
    return 0


def _iso(micros: int) -> str:
    return from_micros(micros).isoformat()


def _word(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value < _MOST_COUNT else 0


def _micros(seconds: Any) -> int:
    is_number = isinstance(seconds, int | float) and abs(seconds) < _MOST_COUNT
    return _count(round(seconds * 1_000_000)) if is_number else 0


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list | tuple) and len(pair) == _PAIR and isinstance(pair[0], str)
