"""One conversation of a chat log as records, whatever format it came in."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aiecs.cli.formats import values
from aiecs.cli.formats.errors import Malformed
from aiecs.cli.formats.values import Defaults
from aiecs.domain.context.models import ConversationMessage, SessionMetrics
from aiecs.domain.context.transfer import MessageRecord, Record, SessionRecord


def conversation(
    data: dict[str, Any], messages: list[dict[str, Any]], defaults: Defaults
) -> list[Record]:
    """A session and its messages; fields that nobody asks for go into the metadata.

    Ids that the log lacks are made from the content: reading the same conversation again gives
    the same ids.
    """
    rest = dict(data)
    made_from = values.digest(data, messages)
    session_id = values.take_session_id(rest) or f"chat-{made_from}"
    user_id = values.take_user(rest) or defaults.user_id
    start = values.take_time(rest)
    found = [_message(session_id, n, m, start or defaults.now) for n, m in enumerate(messages)]
    session = SessionMetrics(
        session_id,
        user_id,
        created_at=start or (found[0].timestamp if found else defaults.now),
        last_activity=max((m.timestamp for m in found), default=start or defaults.now),
        metadata=_metadata(rest, ""),
        input_tokens=sum(_count(m, "input_tokens") for m in found),
        output_tokens=sum(_count(m, "output_tokens") for m in found),
    )
    return [SessionRecord(session), *(MessageRecord(session_id, m) for m in found)]


def _count(message: ConversationMessage, name: str) -> int:
    value = message.metadata.get(name)
    return value if type(value) is int and value >= 0 else 0


def _message(
    session_id: str, number: int, data: dict[str, Any], default: datetime
) -> ConversationMessage:
    where = f"message {number + 1}: "
    rest = dict(data)
    identity = values.digest(session_id, number, data)
    role = values.field(rest, "role", str, where)
    if not role:
        raise Malformed(f"{where}has no role")
    content, parts = _content(rest.pop("content", None), where)
    fields = {
        "name": values.field(rest, "name", str, where) or None,
        "tool_calls": values.field(rest, "tool_calls", list, where),
        "tool_call_id": values.field(rest, "tool_call_id", str, where) or None,
    }
    for name in ("role", *fields):
        rest.pop(name, None)
    return ConversationMessage(
        role,
        content,
        values.take_time(rest) or default,
        metadata=_metadata(rest, where),
        id=identity,
        parts=parts,
        **fields,
    )


def _content(value: Any, where: str) -> tuple[str, list[Any] | None]:
    if value is None:
        return "", None
    if isinstance(value, str):
        return value, None
    if not isinstance(value, list):
        raise Malformed(
            f"{where}content is {values.kind(value)}; expected text, a list of parts or null"
        )
    return "\n".join(filter(None, map(_part_text, value))), value


def _part_text(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else part
    return text if isinstance(text, str) else ""


def _metadata(rest: dict[str, Any], where: str) -> dict[str, Any]:
    named = values.field(rest, "metadata", dict, where) or {}
    other = {k: v for k, v in rest.items() if k != "metadata" and v is not None}
    return {**other, **named}
