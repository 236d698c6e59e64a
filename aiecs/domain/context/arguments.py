"""What services make of arguments that several of them take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from aiecs.core.errors import InvalidInputError

Item = TypeVar("Item")
_LONGEST_WAIT = 86_400


def wanted_count(limit: int | None) -> int | None:
    """How many a `limit` asks for: None, for all, unless it is 1 or more."""
    if limit is None:
        return None
    if type(limit) is not int:
        raise InvalidInputError(f"limit is an int or None, got {type(limit).__name__}")
    return limit if limit > 0 else None


def listed(items: Iterable[Item], what: str) -> list[Item]:
    """The items as a list; `InvalidInputError` naming `what` for what has none."""
    try:
        found = iter(items)
    except TypeError:
        raise InvalidInputError(f"{what} is a list, got {type(items).__name__}") from None
    return list(found)


def seconds_of(value: float, what: str) -> float:
    """A time to wait, in seconds; `InvalidInputError` for what is none."""
    if type(value) not in (int, float) or not 0 < value <= _LONGEST_WAIT:  # nor NaN
        raise InvalidInputError(f"{what} is seconds above 0, got {value!r}")
    return float(value)
