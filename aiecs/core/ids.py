"""Identifiers: what an id from outside may be, and how new ones are made."""

from __future__ import annotations

import os
import threading
import time
from itertools import count
from typing import TYPE_CHECKING

from aiecs.core.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ID_BYTES = 255

_RAND_62 = (1 << 62) - 1

_prefix: str
_next_message: Callable[[], int]
_session_ids: _SessionIds


def check_id(value: object, what: str, most: int = MAX_ID_BYTES) -> str:
    """`value` itself if it can be an id, else `InvalidInputError` naming `what`.

    An id is a non-empty `str` of at most 255 bytes (`most`) in UTF-8. Every character is
    allowed but a lone surrogate, which UTF-8 cannot hold.
    """
    if not isinstance(value, str):
        raise InvalidInputError(f"{what} must be a str, not {type(value).__name__}")
    if not value:
        raise InvalidInputError(f"{what} must not be empty")
    if len(value) <= MAX_ID_BYTES and value.isascii():
        return value
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidInputError(f"{what} holds a lone surrogate: {value[:40]!r}") from None
    if size > most:
        raise InvalidInputError(f"{what} has {size} bytes; at most {most} are allowed")
    return value


class _SessionIds:
    """UUIDv7 values that rise within the process, 62 random bits each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self) -> str:
        # Milliseconds and a 12-bit fraction (RFC 9562, method 3). Within one tick the
        # fraction runs ahead of the clock, so that order holds and no random bit is spent on it.
        now = (time.time_ns() << 12) // 1_000_000
        with self._lock:
            tick = self._last = max(now, self._last + 1)
        high = ((tick >> 12) << 16) | 0x7000 | (tick & 0xFFF)
        low = (1 << 63) | (int.from_bytes(os.urandom(8)) & _RAND_62)
        text = f"{high:016x}{low:016x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_session_id() -> str:
    """A new UUIDv7 in its usual form; later calls in this process sort after it."""
    return _session_ids.next()


def new_message_id() -> str:
    """A new id of 33 characters, unique among processes and cheap to make.

    It starts with the process's start time in milliseconds and ends in a counter:
    ids of one process sort in the order in which they were made, ids of different
    processes roughly by the start of their process.
    """
    return f"{_prefix}{_next_message()}"


def _renew() -> None:
    """Give this process its own prefix, counter and lock (a forked child shares its parent's)."""
    # Globals: an attribute look-up more would be a fifth of what a message id costs.
    global _prefix, _next_message, _session_ids  # noqa: PLW0603
    _prefix = f"{time.time_ns() // 1_000_000:011x}{os.urandom(6).hex()}"
    # Ten digits from the start on: text order is then number order for nine thousand million ids.
    _next_message = count(1_000_000_000).__next__
    _session_ids = _SessionIds()


_renew()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
