"""Which outboxes hold events, what they hold, and how they are cut.

Writers leave hints: the buckets that they have written to, a few times a second, in an index of the
group's home. A writer that is killed leaves none for its last moments, so every bucket is looked at
now and then as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from aiecs.core.erasure import GONE
from aiecs.core.errors import CorruptRecordError
from aiecs.core.events import OUTBOX, told
from aiecs.core.interface.store import (
    BUCKETS,
    MAX_INTEGER,
    NOW,
    Batch,
    Call,
    Get,
    IndexDelete,
    IndexPut,
    IndexRange,
    LogSlice,
    Now,
    Op,
    Plan,
    Read,
    Store,
    Trim,
)
from aiecs.infrastructure.persistence.archive import manifests
from aiecs.infrastructure.persistence.archive.leases import GROUPS, group_of, home_of
from aiecs.infrastructure.persistence.archive.manifests import Manifest, Range
from aiecs.infrastructure.persistence.archive.rows import Shipped

_HINTS = "_hints"
_AT_ONCE = 32
_FIRST_OF_EACH = 16
"""Events of a bucket that are read before anything is known of their size."""
_LOOK = Plan("look at an outbox", Read(OUTBOX, limit=1, newest=False), Get(GONE))
_PAGE = 1_000


async def leave_hints(store: Store, buckets: Iterable[int]) -> None:
    """Note that these buckets have been written to."""
    groups: dict[int, dict[str, Now]] = {}
    for bucket in buckets:
        groups.setdefault(group_of(bucket), {})[str(bucket)] = NOW
    for group, entries in groups.items():
        for part in _parts(entries):
            await store.apply(Batch(home_of(group), "", (IndexPut(_HINTS, part, greater=True),)))


def _parts(entries: dict[str, Now]) -> Iterable[dict[str, Now]]:
    pairs = list(entries.items())
    return (dict(pairs[at : at + _PAGE]) for at in range(0, len(pairs), _PAGE))


class Seen(NamedTuple):
    """Buckets with events, and buckets that remember deletions."""

    holding: list[int]
    deletions: list[int]


class Outboxes:
    """The outboxes of one group."""

    def __init__(self, store: Store, group: int) -> None:
        self._store = store
        self._home = home_of(group)
        self._all = range(group, BUCKETS, GROUPS)
        self._next = 0

    async def hinted(self) -> dict[int, int]:
        """Buckets with a hint, the oldest first, and the time of each hint."""
        found = await self._own(IndexRange(_HINTS, limit=_PAGE))
        return {int(member): time for member, time in found}

    async def emptied(self, hints: dict[int, int]) -> None:
        """Take back the hints of buckets that hold nothing more, unless there are newer ones."""
        by_time: dict[int, list[str]] = {}  # those that were left together go together
        for bucket, time in hints.items():
            by_time.setdefault(time, []).append(str(bucket))
        for time, members in by_time.items():
            for at in range(0, len(members), _PAGE):
                part = tuple(members[at : at + _PAGE])
                await self._own(IndexDelete(_HINTS, part, at_most=time))

    def next_places(self, count: int) -> list[int]:
        """The next `count` buckets of the group; round and round."""
        places = [
            (self._next + step) % len(self._all) for step in range(min(count, len(self._all)))
        ]
        self._next = (self._next + len(places)) % len(self._all)
        return [self._all[place] for place in places]

    async def look(self, buckets: Sequence[int]) -> Seen:
        """What of these buckets somebody should see to, hinted or not."""
        seen = Seen([], [])
        for at in range(0, len(buckets), _AT_ONCE):
            part = buckets[at : at + _AT_ONCE]
            calls = (Call(_LOOK, bucket, "", ()) for bucket in part)
            results = await asyncio.gather(*map(self._store.apply, calls))
            for bucket, found in zip(part, results, strict=True):
                log, gone = found or (LogSlice("", 0, 0, 0, []), {})
                if log.items:
                    seen.holding.append(bucket)
                if gone:
                    seen.deletions.append(bucket)
        return seen

    async def gather(self, buckets: Iterable[int], rows: int, size: int, average: int) -> Gathered:
        """The oldest events of these buckets: about `rows` of them, about `size` bytes.

        `average` is how many bytes an event is likely to have: what is read at once is in memory.
        """
        found = Gathered()
        left: dict[int, int | None] = dict.fromkeys(buckets)
        while left and found.rows < rows and found.size < size:
            part = list(left)[:_AT_ONCE]
            likely = max(1, average, found.size // max(1, found.rows))
            room = min(rows - found.rows, (size - found.size) // likely)
            each = max(1, min(room // len(part), rows if found.rows else _FIRST_OF_EACH))
            reads = (self._read(bucket, start=left.pop(bucket), limit=each) for bucket in part)
            for bucket, log in zip(part, await asyncio.gather(*reads), strict=True):
                stop = found.take(bucket, log, size)
                if stop is not None:
                    left[bucket] = stop
        found.is_all = not left
        return found

    async def read(self, ranges: Iterable[Range]) -> list[Shipped]:
        """What a manifest names, as far as it is still there."""
        items: list[Shipped] = []
        for bucket, start, stop in ((one.bucket, one.start, one.stop) for one in ranges):
            log = await self._read(bucket, start=start, stop=stop)
            items += [
                Shipped(bucket, number, item) for number, item in enumerate(log.items, log.first)
            ]
        return items

    async def cut(self, ranges: Sequence[Range]) -> None:
        """Drop what is in the archive. Harmless when it is done again, by whomever."""
        for at in range(0, len(ranges), _AT_ONCE):
            part = ranges[at : at + _AT_ONCE]
            trims = (Batch(one.bucket, "", (Trim(OUTBOX, before=one.stop),)) for one in part)
            await asyncio.gather(*map(self._store.apply, trims))

    async def _read(
        self, bucket: int, *, start: int | None = None, stop: int | None = None, limit: int = 0
    ) -> LogSlice:
        read = Read(OUTBOX, start=start, stop=stop, limit=limit, newest=False)
        results = await self._store.apply(Batch(bucket, "", (read,)))
        log: LogSlice = (results or [LogSlice("", 0, 0, 0, [])])[0]
        return log

    async def _own(self, op: Op) -> Any:
        results = await self._store.apply(Batch(self._home, "", (op,)))
        return results[0] if results else None


class Gathered:
    """Events that were read together."""

    def __init__(self) -> None:
        self.items: list[Shipped] = []
        self.size = 0
        #: The times of the oldest and the newest event, in microseconds; 0 for none.
        self.oldest = 0
        self.newest = 0
        #: Buckets of which nothing is left to read.
        self.drained: list[int] = []
        #: Whether nothing is left in any.
        self.is_all = True
        self._ranges: dict[int, Range] = {}

    @property
    def rows(self) -> int:
        """How many events."""
        return len(self.items)

    @property
    def ranges(self) -> list[Range]:
        """Where they are from."""
        return list(self._ranges.values())

    def drawn_up(self) -> Manifest:
        """A manifest of them."""
        return manifests.drawn_up(
            self.ranges, size=self.size, oldest=self.oldest, newest=self.newest
        )

    def take(self, bucket: int, log: LogSlice, most: int) -> int | None:
        """Add what was read of a bucket, until there are `most` bytes in all.

        Where to go on; None when nothing is left.
        """
        items = log.items[: self._fitting(log.items, most)]
        stop = log.first + len(items)
        if items:
            self.items += [Shipped(bucket, n, item) for n, item in enumerate(items, log.first)]
            known = self._ranges.get(bucket)
            self._ranges[bucket] = Range(bucket, known.start if known else log.first, stop)
            self.size += sum(map(len, items))
            self.oldest = min(self.oldest or MAX_INTEGER, _time_of(items[0]))
            self.newest = max(self.newest, _time_of(items[-1]))
        if stop < log.next and log.items:
            return stop
        self.drained.append(bucket)
        return None

    def _fitting(self, items: list[bytes], most: int) -> int:
        sizes = accumulate(map(len, items), initial=self.size)
        return sum(before < most for _, before in zip(items, sizes, strict=False))


def _time_of(item: bytes) -> int:
    """When an event was written, in microseconds; as late as can be for what is no event."""
    try:
        return told(item).now
    except CorruptRecordError:
        return MAX_INTEGER
