"""Time: aware UTC outside, whole microseconds since 1970 in the stores.

Nothing here rounds: a `datetime` holds microseconds, and the conversions are
integer arithmetic, so `from_micros(to_micros(t)) == t` for every `t`.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from aiecs.core.errors import InvalidInputError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utcnow() -> datetime:
    """The wall clock as an aware UTC datetime."""
    return datetime.now(UTC)


def now_micros() -> int:
    """The wall clock in microseconds since 1970 (UTC)."""
    return time.time_ns() // 1000


def as_utc(value: datetime) -> datetime:
    """The same instant in UTC; a naive `value` is read as UTC.

    `InvalidInputError` if the instant lies outside the years 1 to 9999.
    """
    if value.tzinfo is UTC:
        return value
    if value.utcoffset() is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidInputError(f"{value.isoformat()} is out of range in UTC") from None


def parse_time(value: datetime | str, what: str = "time") -> datetime:
    """An aware UTC datetime from a datetime or an ISO 8601 string.

    Naive input is read as UTC. `InvalidInputError` naming `what` for any other
    type and for text that is not ISO 8601.
    """
    if isinstance(value, datetime):
        return as_utc(value)
    if not isinstance(value, str):
        raise InvalidInputError(f"{what} must be a datetime or an ISO 8601 string")
    try:
        return as_utc(datetime.fromisoformat(value))
    except ValueError:
        raise InvalidInputError(f"{what} is not an ISO 8601 time: {value[:40]!r}") from None


def to_micros(value: datetime) -> int:
    """Microseconds since 1970 (negative before); a naive `value` is read as UTC."""
    if value.utcoffset() is None:
        value = value.replace(tzinfo=UTC)
    passed = value - EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def from_micros(micros: int) -> datetime:
    """The aware UTC datetime `micros` microseconds after 1970.

    `InvalidInputError` if that lies outside the years 1 to 9999.
    """
    try:
        return EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        raise InvalidInputError(f"{micros} microseconds is out of range") from None
