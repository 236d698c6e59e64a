"""Values of operations, each held against what it may be."""

from __future__ import annotations

import re
from typing import Any

from aiecs.core.errors import InvalidInputError
from aiecs.core.interface.operations import MAX_INTEGER, MAX_OPERATIONS

LONGEST = 10**15
SEQUENCES = (tuple, list)
MAPS = (dict,)
_LIMIT = MAX_INTEGER
_DIGITS = 16
_INTEGER = re.compile(rb"-?[0-9]{1,%d}\Z" % _DIGITS)


def refuse(message: str) -> None:
    """Raise the error of a batch that breaks a rule."""
    raise InvalidInputError(message)


def integer(value: Any, what: str, low: int = -_LIMIT, high: int = _LIMIT) -> int:
    """The value, an int within the bounds."""
    if type(value) is not int or not low <= value <= high:
        refuse(f"{what} must be an int from {low} to {high}, got {value!r}")
    return int(value)


def several(value: Any, types: tuple[type, ...], what: str, least: int = 1) -> None:
    """Refuse what is not one of these types with a number of values that is allowed."""
    if type(value) not in types or not least <= len(value) <= MAX_OPERATIONS:
        refuse(f"an operation takes {least}..{MAX_OPERATIONS} {what}")


def flag(value: Any, what: str) -> None:
    """Refuse what is no bool."""
    if type(value) is not bool:
        refuse(f"{what} is a bool, got {value!r}")


def pair(value: Any, what: str) -> tuple[Any, Any]:
    """The two values of a pair."""
    if type(value) not in SEQUENCES or len(value) != 2:  # noqa: PLR2004 - a pair
        refuse(f"{what} are pairs, got {value!r}")
    return value[0], value[1]


def bounds(op: Any, *names: str) -> None:
    """Refuse attributes that are neither None nor an integer."""
    for name in names:
        value = getattr(op, name)
        if value is not None:
            integer(value, name)


def parse_integer(value: bytes) -> int | None:
    """The integer that a field holds, or None when the bytes are none (or leave ±(2^53-1))."""
    if not (value.isdigit() and len(value) <= _DIGITS) and not _INTEGER.match(value):
        return None
    number = int(value)
    return number if abs(number) <= MAX_INTEGER else None
