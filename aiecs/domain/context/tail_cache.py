"""The newest messages of recently read sessions, decoded: a read then fetches only what is new.

A held tail is never trusted by itself. Each read asks the store for the items from the held last
one on; only when that item is byte for byte the same, in the same epoch, the rest is taken from
here. Whatever happened in between (a rewind, a redaction, a new incarnation, a failover to a
replica that lags) makes the comparison fail, and the tail is read anew.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import itemgetter
from typing import NamedTuple

from aiecs.core.interface.store import LogSlice
from aiecs.core.lru import SizedLru
from aiecs.domain.context.messages import Row

DEFAULT_BYTES = 32 * 1024 * 1024
MAX_ROWS = 1_000
_ROW_OVERHEAD = 640


class Tail(NamedTuple):
    """The log from sequence `first` to before `next`: `last` is the raw item before `next`.

    `rows` leaves out items that are corrupt or redacted.
    """

    epoch: str
    base: int
    first: int
    next: int
    last: bytes
    rows: list[Row]
    size: int

    def continues(self, found: LogSlice) -> bool:
        """Whether `found`, read from `next - 1` on, goes on where this tail ends."""
        return (
            found.epoch == self.epoch
            and found.first == self.next - 1
            and bool(found.items)
            and found.items[0] == self.last
        )

    def whole(self) -> bool:
        """Whether nothing older is in the log."""
        return self.first <= self.base


def tail_of(found: LogSlice, first: int, rows: list[Row]) -> Tail:
    """The tail that a read of the end of the log gave: `rows` from sequence `first` on."""
    size = _size(found.items)
    return Tail(found.epoch, found.base, first, found.next, found.items[-1], rows, size)


def extended(tail: Tail, found: LogSlice, new: list[Row]) -> Tail:
    """`tail` and what `found` adds to it (`new`), without what has been trimmed meanwhile."""
    if not new and found.base == tail.base and found.next == tail.next:
        return tail
    rows, first = tail.rows + new, tail.first
    if found.base > first:
        first = found.base
        rows = rows[bisect_left(rows, first, key=itemgetter(0)) :]
    if len(rows) > MAX_ROWS:
        rows = rows[-MAX_ROWS // 2 :]
        first = rows[0][0]
    size = tail.size + _size(found.items[1:])
    size = size * len(rows) // max(1, len(tail.rows) + len(new))
    return Tail(tail.epoch, found.base, first, found.next, found.items[-1], rows, size)


def _size(items: list[bytes]) -> int:
    return sum(map(len, items)) + _ROW_OVERHEAD * len(items)


class TailCache(SizedLru[str, Tail]):
    """Least recently used tails within a bound of bytes (of the stored form, with an allowance).

    Safe from any thread: a tail is never changed, only replaced. Clearing it leaves the counts.
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        super().__init__(max_bytes)
        self.hits = 0
        self.misses = 0

    def put(self, session_id: str, tail: Tail | None) -> None:
        """Hold this tail of a session; None: no longer any."""
        self.hold(session_id, tail, 0 if tail is None else tail.size)

    @property
    def hit_rate(self) -> float:
        """The share of reads that a tail answered, 0.0 to 1.0; 1.0 before the first read."""
        reads = self.hits + self.misses
        return self.hits / reads if reads else 1.0
