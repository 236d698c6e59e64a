"""What the next batch will write, in an order that makes for few different scripts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from aiecs.core.events import Events
from aiecs.core.interface.store import (
    Append,
    Delete,
    IndexDelete,
    IndexPut,
    Op,
    Put,
    Result,
    Trim,
)
from aiecs.domain.context.migration.parts import INDEXES, Entries, Fields, Part, in_parts

_MOST = 900
_BYTES = 2 * 1024 * 1024
_OPERATIONS = 100
_ENTRY = 40


class Buffer:
    """Parts of one group, none of which is written yet."""

    def __init__(self) -> None:
        self._fields: dict[str, dict[str, bytes]] = {}
        self._entries: dict[str, dict[str, int]] = {}
        self._appends: list[tuple[Append, tuple[str, ...]]] = []
        self._trims: list[Trim] = []
        self._removals: list[Op] = []
        self._events: list[Op] = []
        self._size = 0

    def is_full_with(self, size: int) -> bool:
        """Whether so many bytes more are too much for one batch."""
        count = len(self._appends) + len(self._events) + len(self._removals)
        return bool(self._size) and (self._size + size > _BYTES or count >= _OPERATIONS)

    def add(self, part: Part, ids: tuple[str, ...] = ()) -> None:
        """Take up a part; `ids` are what the events of a log's items name."""
        self._size += size_of(part) * (2 if ids else 1)
        if isinstance(part, Fields):
            self._fields.setdefault(part.key, {}).update(part.fields)
        elif isinstance(part, Entries):
            self._entries.setdefault(part.key, {}).update(part.entries)
        elif part.items:
            log = Append(part.key, part.items, first=part.first, epoch=part.epoch)
            self._appends.append((log, ids))

    def tell(self, events: Iterable[Op], size: int) -> None:
        """Take up events of so many bytes."""
        self._events += events
        self._size += size

    def trim(self, key: str, before: int) -> None:
        """Let a log begin at that sequence."""
        self._trims.append(Trim(key, before=before))

    def remove(self, key: str, names: Iterable[str]) -> None:
        """Take fields out of a map, or members out of an index."""
        kind, left = IndexDelete if key in INDEXES else Delete, iter(names)
        while some := tuple(islice(left, _MOST)):
            self._removals.append(kind(key, some))

    def remove_log(self, key: str) -> None:
        """Remove a whole log."""
        self._removals.append(Delete(key, kind="log"))

    def take(self, before: int, events: Events) -> list[Op]:
        """The operations of everything that was taken up, which is then empty.

        So many operations stand `before` them in their batch.
        """
        ops = list(self._writes())
        for number, (log, ids) in enumerate(self._appends, before + len(ops)):
            self._events += events.several(log.items, Result(number), *ids)
        ops += [*(log for log, _ in self._appends), *self._trims, *self._events]
        self.__init__()  # type: ignore[misc]  # as new
        return ops

    def _writes(self) -> Iterator[Op]:
        for key, fields in self._fields.items():
            yield from (Put(part.key, part.fields) for part in in_parts(key, fields))
        for key, entries in self._entries.items():
            pairs = iter(entries.items())
            while some := dict(islice(pairs, _MOST)):
                yield IndexPut(key, some)
        yield from self._removals


def size_of(part: Part) -> int:
    """About how many bytes a part takes."""
    if isinstance(part, Fields):
        return sum(map(len, part.fields.values())) + sum(map(len, part.fields))
    if isinstance(part, Entries):
        return sum(map(len, part.entries)) + _ENTRY * len(part.entries)
    return sum(map(len, part.items))
