"""Rows of aiecs 2.2.0 as our records hold them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from aiecs.core.clock import from_micros, parse_time
from aiecs.core.codec import encode, load_json
from aiecs.core.errors import InvalidInputError
from aiecs.core.ids import check_id
from aiecs.domain.context.models import ConversationMessage, SessionMetrics
from aiecs.domain.context.session_record import STATUSES, metadata_fields
from aiecs.domain.context.transfer import CheckpointRecord, WritesRecord
from aiecs.domain.task.task_context import TaskContext
from aiecs.integrations.aiecs_2.order import Said

OLD_STATUS = "aiecs_2_status"
"""The metadata key for a status that is none of ours."""

Wrong = Callable[[str], None]
"""Called with what is wrong with a part of a row; the rest of it is kept."""

_MAX_COUNT = 2**53
_NO_NAME = "anonymous"  # what 2.2.0 puts where nobody said who it is
_PAIR = 2


class Corrupt(Exception):  # noqa: N818 - reported and passed over, like `Malformed`
    """A row cannot be used; the text says why, without what the row holds."""


def name_of(raw: bytes) -> str:
    """An id out of a key or a field; `Corrupt` if it cannot be one."""
    try:
        return check_id(raw.decode(), "id")
    except UnicodeDecodeError:
        raise Corrupt("has a name that is not UTF-8") from None
    except InvalidInputError:
        raise Corrupt("has a name that cannot be an id") from None


def row_of(raw: bytes) -> dict[str, Any]:
    """The JSON object of a row."""
    try:
        found = json.loads(raw.decode())
    except (ValueError, RecursionError):
        raise Corrupt("is not JSON") from None
    if not isinstance(found, dict):
        raise Corrupt("is no JSON object")
    return found


def said(row: dict[str, Any]) -> Said:
    """When a message was said."""
    try:
        given = datetime.fromisoformat(row["timestamp"])
        return Said(parse_time(given), given.tzinfo is not None)
    except (KeyError, TypeError, ValueError):  # an InvalidInputError is a ValueError
        raise Corrupt("has no time") from None


def time_of(row: dict[str, Any], name: str) -> datetime:
    """An aware time of a row; 2.2.0 writes UTC without saying so."""
    try:
        return parse_time(row[name])
    except (KeyError, InvalidInputError):
        raise Corrupt(f"has no time in {name}") from None


def stored(value: Any) -> Any:
    """What lies in our store for a value of JSON."""
    try:
        return load_json(encode(value))
    except InvalidInputError:
        raise Corrupt("holds what cannot be kept, or more than fits") from None


def part(row: dict[str, Any], name: str) -> dict[str, Any]:
    """A dict in a row; None stands for an empty one."""
    found = {} if row.get(name) is None else row[name]
    if not isinstance(found, dict):
        raise Corrupt(f"has no dict in {name}")
    return found


# --- sessions ---------------------------------------------------------------------------------


def session_of(
    session_id: str, row: dict[str, Any], metadata: dict[str, Any], wrong: Wrong
) -> SessionMetrics:
    """A session with the metadata of its task context; counters that are no counts become 0."""
    status, user_id = row.get("status", "active"), row.get("user_id")
    if (
        not isinstance(status, str) or status not in STATUSES
    ):  # 2.2.0 takes any, and only ends give another than the first
        status, metadata = "completed", {**metadata, OLD_STATUS: status}
    seconds = row.get("total_processing_time", 0.0)
    if not isinstance(seconds, int | float) or not 0 <= seconds <= _MAX_COUNT / 1_000_000:
        wrong("total_processing_time is no duration; 0 is taken")
        seconds = 0.0
    return SessionMetrics(
        session_id=session_id,
        user_id=user_id if isinstance(user_id, str) else "",
        created_at=time_of(row, "created_at"),
        last_activity=time_of(row, "last_activity"),
        request_count=_count(row, "request_count", wrong),
        error_count=_count(row, "error_count", wrong),
        total_processing_time=float(seconds),
        status=status,
        metadata=_metadata(metadata, wrong),
    )


def _count(row: dict[str, Any], name: str, wrong: Wrong) -> int:
    value = row.get(name, 0)
    if type(value) is int and 0 <= value <= _MAX_COUNT:
        return value
    wrong(f"{name} is no count; 0 is taken")
    return 0


def _metadata(metadata: dict[str, Any], wrong: Wrong) -> dict[str, Any]:
    try:
        metadata_fields(metadata, max_keys=None)
    except InvalidInputError:
        wrong("its metadata cannot be kept on the session")
        return {}
    return metadata


def owner_of(context: dict[str, Any] | None) -> str:
    """Whose a session is that only its task context tells of; "" if nobody says."""
    found = None if context is None else context.get("user_id")
    return found if isinstance(found, str) and found != _NO_NAME else ""


# --- messages ---------------------------------------------------------------------------------


def message_of(row: dict[str, Any], at: datetime, message_id: str) -> ConversationMessage:
    """A message; a list of content parts stays one, and no content is an empty text."""
    role, content = row.get("role"), row.get("content")
    parts = content if isinstance(content, list) else None
    content = "" if content is None or parts is not None else content
    if not isinstance(role, str) or not role or not isinstance(content, str):
        raise Corrupt("has no role or no text")
    metadata = part(row, "metadata")
    return ConversationMessage(role, content, at, metadata, id=message_id, parts=parts)


# --- task contexts ----------------------------------------------------------------------------


def context_of(row: dict[str, Any]) -> Any:
    """What lies in our store for a task context: 2.2.0's times in seconds become UTC text."""
    files = {
        path: [_timed(one) for one in (used if isinstance(used, list) else [used])]
        for path, used in part(row, "file_tracker").items()
    }
    models = row.get("model_tracker")
    models = [_timed(one) for one in models] if isinstance(models, list) else models
    try:
        context = TaskContext({**row, "file_tracker": files, "model_tracker": models})
    except (InvalidInputError, OverflowError):
        raise Corrupt("is no task context") from None
    return stored(context.to_dict())


def _timed(entry: Any) -> Any:
    when = entry.get("timestamp") if isinstance(entry, dict) else None
    if not isinstance(when, int | float):
        return entry
    try:
        return entry | {"timestamp": from_micros(round(when * 1_000_000)).isoformat()}
    except (ValueError, OverflowError):  # not a number, infinite, beyond the year 9999
        raise Corrupt("has a time that is none") from None


# --- threads ----------------------------------------------------------------------------------


def checkpoint_of(thread_id: str, checkpoint_id: str, row: dict[str, Any]) -> CheckpointRecord:
    """A checkpoint of a thread."""
    if "data" not in row:
        raise Corrupt("is no checkpoint")
    kept = {
        "data": row["data"],
        "metadata": part(row, "metadata"),
        "created_at": time_of(row, "created_at").isoformat(),
    }
    return CheckpointRecord(thread_id, None, checkpoint_id, stored(kept))


def writes_of(thread_id: str, row: dict[str, Any]) -> WritesRecord:
    """What a task wrote; its ids are inside the row, for its name is ambiguous."""
    try:
        checkpoint_id = check_id(row.get("checkpoint_id"), "checkpoint_id")
        task_id = check_id(row.get("task_id"), "task_id")
    except InvalidInputError:
        raise Corrupt("does not say which task wrote for which checkpoint") from None
    pairs = row.get("writes")
    if not isinstance(pairs, list) or not all(map(_is_pair, pairs)):
        raise Corrupt("holds no list of (channel, value)")
    return WritesRecord(thread_id, None, checkpoint_id, task_id, stored([task_id, pairs]))


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == _PAIR and isinstance(pair[0], str)
