"""Our own export: one JSON object per line, written and read back without loss.

The first line is the header, `{"format": "aiecs-export", "version": 1}`; then follow records, each
session in front of what belongs to it; the last line says how many there are, so that a file that
was cut off is noticed. Several exports in one file are fine.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime
from math import isfinite
from typing import Any

from aiecs.cli.formats import values
from aiecs.cli.formats.errors import Malformed, Unsupported
from aiecs.core.errors import InvalidInputError
from aiecs.domain.context.models import ConversationMessage, SessionMetrics
from aiecs.domain.context.transfer import (
    AgentMessageRecord,
    CheckpointRecord,
    ConversationRecord,
    GraphCheckpointRecord,
    ItemRecord,
    MessageRecord,
    Record,
    SessionRecord,
    TaskContextRecord,
    UserRecord,
    WritesRecord,
)

FORMAT = "aiecs-export"
_SHOWN_ONLY = ("graph_checkpoint", "item")
VERSION = 1


# --- writing --------------------------------------------------------------------------------------


def header_line(now: datetime) -> str:
    """The first line of a file."""
    return _line({"format": FORMAT, "version": VERSION, "exported_at": now.isoformat()})


def record_line(record: UserRecord) -> str:
    """The line that holds a record."""
    kind, fields = _WRITERS[type(record)]
    return _line({"type": kind, **fields(record)})


def end_line(records: int) -> str:
    """The last line of a file."""
    return _line({"type": "end", "records": records})


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"


def _readable(value: Any) -> Any:
    """What a graph stored, with what JSON cannot hold told as text: it is not read back."""
    if isinstance(value, dict):
        return {str(key): _readable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_readable(one) for one in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if value is None or isinstance(value, (str, bool, int)):
        return value
    return value if isinstance(value, float) and isfinite(value) else str(value)


def _thread_fields(record: Any) -> dict[str, Any]:
    fields: dict[str, Any] = record._asdict()
    if record.session_id is None:
        del fields["session_id"]
    return fields


_WRITERS: dict[type, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    SessionRecord: ("session", lambda r: {"session": r.session.to_dict()}),
    MessageRecord: (
        "message",
        lambda r: {"session_id": r.session_id, "message": r.message.to_dict()},
    ),
    TaskContextRecord: ("task_context", lambda r: r._asdict()),
    ConversationRecord: ("agent_conversation", lambda r: r._asdict()),
    AgentMessageRecord: ("agent_message", lambda r: r._asdict()),
    CheckpointRecord: ("checkpoint", _thread_fields),
    WritesRecord: ("writes", _thread_fields),
    GraphCheckpointRecord: (
        "graph_checkpoint",
        lambda r: {**_thread_fields(r), "stored": _readable(r.stored)},
    ),
    ItemRecord: ("item", lambda r: _readable(r._asdict())),
}


# --- reading --------------------------------------------------------------------------------------


def _session(data: dict[str, Any]) -> Record:
    return SessionRecord(SessionMetrics.from_dict(_part(data, "session")))


def _message(data: dict[str, Any]) -> Record:
    message = ConversationMessage.from_dict(_part(data, "message"))
    return MessageRecord(_text(data, "session_id"), message)


def _task_context(data: dict[str, Any]) -> Record:
    return TaskContextRecord(_text(data, "session_id"), _part(data, "stored"))


def _conversation(data: dict[str, Any]) -> Record:
    names = _text(data, "session_id"), _text(data, "session_key")
    return ConversationRecord(*names, _part(data, "stored"))


def _agent_message(data: dict[str, Any]) -> Record:
    names = _text(data, "session_id"), _text(data, "session_key")
    return AgentMessageRecord(*names, _part(data, "stored"))


def _checkpoint(data: dict[str, Any]) -> Record:
    session_id = values.field(data, "session_id", str)
    names = _text(data, "thread_id"), session_id, _text(data, "checkpoint_id")
    return CheckpointRecord(*names, _part(data, "stored"))


def _writes(data: dict[str, Any]) -> Record:
    session_id = values.field(data, "session_id", str)
    names = _text(data, "thread_id"), session_id, _text(data, "checkpoint_id")
    return WritesRecord(*names, _text(data, "task_id"), values.field(data, "stored", list))


_READERS: dict[str, Callable[[dict[str, Any]], Record]] = {
    "session": _session,
    "message": _message,
    "task_context": _task_context,
    "agent_conversation": _conversation,
    "agent_message": _agent_message,
    "checkpoint": _checkpoint,
    "writes": _writes,
}


def _part(data: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] | None = values.field(data, name, dict)
    if found is None:
        raise Malformed(f"has no {name}")
    return found


def _text(data: dict[str, Any], name: str) -> str:
    found: str | None = values.field(data, name, str)
    if not found:
        raise Malformed(f"has no {name}")
    return found


class Reader:
    """Reads the objects of one file in order."""

    depth = 400
    """What JSON cannot hold is tagged, which takes two levels more for each."""

    def __init__(self) -> None:
        self._open = False
        self._records = 0

    def read(self, data: dict[str, Any]) -> list[Record]:
        """The record that an object holds; none for the first and the last line."""
        if data.get("format") == FORMAT:
            self._begin(data)
            return []
        kind = data.get("type")
        if kind == "end":
            self._end(data)
            return []
        self._records += 1
        if kind in _SHOWN_ONLY:
            return []
        read = _READERS.get(kind) if isinstance(kind, str) else None
        if read is None:
            raise Malformed(f"has the unknown type {kind!r}")
        try:
            return [read(data)]
        except InvalidInputError as error:
            raise Malformed(str(error)) from None

    def skip(self) -> None:
        """A line could not be read; it counts as a record all the same."""
        self._records += 1

    def finish(self) -> str | None:
        """What is wrong with the file as a whole, if anything; to be asked at its end."""
        return "the file ends early: its last line is missing" if self._open else None

    def _begin(self, data: dict[str, Any]) -> None:
        version = data.get("version")
        if type(version) is not int or not 1 <= version <= VERSION:
            raise Unsupported(
                f"was written in version {version!r} of the format; this program reads up to "
                f"{VERSION}: install a newer aiecs-context-engine"
            )
        self._open, self._records = True, 0

    def _end(self, data: dict[str, Any]) -> None:
        self._open = False
        if data.get("records") != self._records:
            raise Malformed(f"counts {data.get('records')} records, but {self._records} were found")
