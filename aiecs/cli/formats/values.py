"""JSON objects from text, and the fields that chat logs have in common."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import blake2b
from math import isfinite
from typing import Any, NamedTuple, NoReturn

from aiecs.cli.formats.errors import Malformed
from aiecs.core.clock import parse_time
from aiecs.core.errors import InvalidInputError
from aiecs.core.ids import check_id

CHAT_DEPTH = 80
"""How deep a chat log may be nested: what a message may be, and the objects around it."""

_MILLISECONDS = 100_000_000_000
_SESSION_IDS = ("session_id", "conversation_id", "chat_id", "id")
_USERS = ("user_id", "user")
_KINDS = {bool: "a boolean", str: "text", list: "a list", dict: "an object"}
_TIMES = ("timestamp", "created_at", "create_time", "created")


class Defaults(NamedTuple):
    """What a chat log does not tell: whose it is, and when it was."""

    now: datetime
    user_id: str = ""


def decode(text: str, depth: int = CHAT_DEPTH) -> dict[str, Any]:
    """The JSON object that `text` holds, else `Malformed` with the reason."""
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        reason = f"is not JSON: {error.msg} at column {error.colno}"
        raise Malformed(reason, error.lineno - 1) from None
    except Malformed:
        raise
    except RecursionError:
        raise Malformed(f"is nested deeper than {depth} levels") from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise Malformed(f"is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Malformed(f"holds {kind(found)}; expected an object")
    _check(found, depth)
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise Malformed(f"is not JSON: {name} is no JSON number")


def _check(value: Any, depth: int) -> None:
    """`Malformed` for too many levels, and for numbers beyond what a float can hold."""
    level: list[Any] = [value]
    for _ in range(depth + 1):
        level = [inner for outer in level for inner in _children(outer)]
        if not level:
            return
        if any(type(one) is float and not isfinite(one) for one in level):
            raise Malformed("holds a number that is too large")
    raise Malformed(f"is nested deeper than {depth} levels")


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def kind(value: Any) -> str:
    """What a JSON value is, for an error message."""
    if value is None:
        return "null"
    return _KINDS.get(type(value), "a number")


def field(data: dict[str, Any], name: str, expected: type, where: str = "") -> Any:
    """`data[name]` of the `expected` type, None when it is absent or null."""
    value = data.get(name)
    if value is not None and not isinstance(value, expected):
        raise Malformed(f"{where}{name} is {kind(value)}; expected {_KINDS[expected]}")
    return value


def take_session_id(data: dict[str, Any]) -> str | None:
    """Remove and return the id that a conversation was logged under; None when there is none."""
    for name in _SESSION_IDS:
        value = data.get(name)
        if isinstance(value, str) and value:
            return _checked_id(data.pop(name), name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(data.pop(name))
    return None


def _checked_id(value: str, what: str) -> str:
    try:
        return check_id(value, what)
    except InvalidInputError as error:
        raise Malformed(str(error)) from None


def take_user(data: dict[str, Any]) -> str | None:
    """Remove and return the owner of a conversation, if it names one."""
    for name in _USERS:
        value = data.get(name)
        if isinstance(value, str) and value:
            return _checked_id(data.pop(name), name)
    return None


def take_time(data: dict[str, Any]) -> datetime | None:
    """Remove and return the time in one of the usual fields; what is no time stays where it is."""
    for name in _TIMES:
        found = _time(data.get(name))
        if found is not None:
            del data[name]
            return found
    return None


def _time(value: Any) -> datetime | None:
    try:
        if isinstance(value, str):
            return parse_time(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            seconds = value / 1000 if value > _MILLISECONDS else value
            return datetime.fromtimestamp(seconds, UTC)
    except (InvalidInputError, OverflowError, ValueError, OSError):
        pass
    return None


def digest(*parts: Any) -> str:
    """The same text for the same JSON values, in every process and on every day."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return blake2b(canonical.encode(), digest_size=12).hexdigest()
