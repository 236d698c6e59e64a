"""A group's content as it lies in its store, part by part; nothing is decoded on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, NamedTuple

from aiecs.core.interface.store import (
    MAX_INTEGER,
    Batch,
    Clock,
    Get,
    IndexRange,
    LogSlice,
    Op,
    Read,
)
from aiecs.domain.context.groups import conversation_log, field_of
from aiecs.domain.context.migration.parts import (
    BYTES_AT_ONCE,
    Entries,
    Fields,
    Group,
    Items,
    in_order,
    in_parts,
)
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.thread_state import records
from aiecs.domain.context.thread_state.manifests import children_of
from aiecs.domain.context.thread_state.names import space_of
from aiecs.domain.context.thread_state.reach import names_of_writes

_PAGE = 100
_FIRST_PAGE, _LOG_PAGE, _GROWTH = 8, 500, 4
_FETCHED = 500
_SESSION_MAPS = ("a", "h", "k0", "k1", "t")
_GRAPHS = space_of(None)


class RestlessError(Exception):
    """A log was cut or rewound while it was read: what was read has a gap, or is another's."""


class _Met(NamedTuple):
    """Names that were told of in a thread: those of lists' nodes, and those of contents."""

    nodes: set[str]
    names: set[str]


class Head(NamedTuple):
    """A group's head: all its fields, expired or not; empty for none. `now` in microseconds."""

    now: int
    fields: dict[str, bytes]

    @property
    def expires_in(self) -> int | None:
        """Microseconds until it expires, 0 or less when it has; None for never."""
        ends = self.fields.get("~x")
        return None if ends is None else int(ends) - self.now


class Reader:
    """Reads one store. Raises `StoreError`, and `CorruptField` for what the store cannot read."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def head(self, group: Group) -> Head:
        """The head of a group."""
        return Head(*await self._read(group, Clock(), Get("")))

    async def maps(self, group: Group) -> AsyncIterator[Fields | Entries]:
        """Everything in maps and indexes but the head, always in the same order."""
        walk = {"session": self._session, "thread": self._thread, "namespace": self._items}
        async for part in walk[group.kind](group):
            yield part

    async def logs(self, group: Group) -> list[str]:
        """The keys of its logs."""
        if group.kind != "session":
            return []
        (conversations,) = await self._read(group, Get("a"))
        return ["m", *map(conversation_log, sorted(conversations))]

    async def log(self, group: Group, key: str, start: int | None = None) -> AsyncIterator[Items]:
        """A log from `start`, else from its beginning; `RestlessError` if it is cut meanwhile.

        The first part may hold no items: it says where the log begins.
        """
        epoch, page = None, _FIRST_PAGE
        while True:
            read = Read(key, start, None, page, newest=False)
            (found,) = await self._read(group, read)
            if not found.epoch:
                return
            if epoch not in (None, found.epoch) or start not in (None, found.first):
                raise RestlessError
            epoch = found.epoch
            for items in _runs(key, found):
                yield items
            start = found.first + len(found.items)
            if start >= found.next:
                return
            average = sum(map(len, found.items)) // max(1, len(found.items)) + 1
            page = max(1, min(_LOG_PAGE, page * _GROWTH, BYTES_AT_ONCE // average))

    async def bounds(self, group: Group, key: str) -> LogSlice:
        """Where a log begins and ends."""
        (found,) = await self._read(group, Read(key, start=MAX_INTEGER, limit=1))
        slice_: LogSlice = found
        return slice_

    async def members(self, group: Group, key: str) -> AsyncIterator[list[tuple[str, int]]]:
        """An index in pages of (member, score)."""
        cursor: tuple[str, int] | None = None
        while True:
            (page,) = await self._read(group, IndexRange(key, limit=_PAGE, cursor=cursor))
            if page:
                yield page
            if len(page) < _PAGE:
                return
            cursor = page[-1]

    # --- by kind --------------------------------------------------------------------------------

    async def _session(self, group: Group) -> AsyncIterator[Fields | Entries]:
        found = await self._read(group, *map(Get, _SESSION_MAPS))
        for key, fields in zip(_SESSION_MAPS, found, strict=True):
            for part in in_parts(key, dict(sorted(fields.items()))):
                yield part

    async def _items(self, group: Group) -> AsyncIterator[Fields | Entries]:
        for key in ("u", "x"):
            async for page in self.members(group, key):
                yield Entries(key, dict(page))
                if key == "u":
                    names = tuple(field_of(member) for member, _ in page)
                    for part in await self._columns(group, ("i", "c", "e"), names):
                        yield part

    async def _thread(self, group: Group) -> AsyncIterator[Fields | Entries]:
        async for page in self.members(group, "o"):
            yield Entries("o", dict(page))
            for part in await self._columns(group, ("d",), [field_of(name) for name, _ in page]):
                yield part
        met = _Met(set(), set())
        async for page in self.members(group, "p"):
            yield Entries("p", dict(page))
            plain = [field_of(name) for name, _ in page if not name.startswith(_GRAPHS)]
            for part in await self._columns(group, ("w",), plain):
                yield part
            graphs = [name for name, _ in page if name.startswith(_GRAPHS)]
            rows = await self._columns(group, ("d", "w"), graphs)
            async for part in self._contents(group, rows, met):
                yield part
            for part in rows:  # what refers to contents goes behind them
                yield part

    async def _contents(
        self, group: Group, rows: Sequence[Fields], met: _Met
    ) -> AsyncIterator[Fields]:
        """What checkpoints and writes refer to by name, with all that this leads to."""
        nodes, names = _named_in(rows)
        wanted = nodes - met.nodes
        while wanted:
            found = await self._fetch(group, wanted)
            met.nodes.update(wanted)
            wanted = set()
            for part in found:
                yield part
                for content in part.fields.values():
                    children, inner = children_of(content)
                    (wanted if inner else names).update(children)
            wanted -= met.nodes
        for part in await self._fetch(group, names - met.names):
            yield part
        met.names.update(names)

    async def _fetch(self, group: Group, names: set[str]) -> list[Fields]:
        every = sorted(names)
        some = [every[at : at + _FETCHED] for at in range(0, len(every), _FETCHED)]
        return [part for one in some for part in await self._columns(group, ("e",), one)]

    async def _columns(
        self, group: Group, keys: Sequence[str], names: Sequence[str]
    ) -> list[Fields]:
        if not names:
            return []
        found = await self._read(group, *(Get(key, tuple(names)) for key in keys))
        return [
            part
            for key, values in zip(keys, found, strict=True)
            for part in in_order(key, names, values)
        ]

    async def _read(self, group: Group, *ops: Op) -> list[Any]:
        return await self._runtime.read(Batch(*group.place, ops, raw=True))


def _runs(key: str, found: LogSlice) -> Iterator[Items]:
    """A slice in runs that fit into a batch each; one without items for an empty slice."""
    number = int(found.epoch.rpartition(".")[2])
    start = size = 0
    for at, item in enumerate(found.items):
        if size and size + len(item) > BYTES_AT_ONCE:
            part = tuple(found.items[start:at])
            yield Items(key, number, found.base, found.first + start, part)
            start, size = at, 0
        size += len(item)
    part = tuple(found.items[start:])
    yield Items(key, number, found.base, found.first + start, part)


def _named_in(rows: Sequence[Fields]) -> tuple[set[str], set[str]]:
    """Which nodes, and which contents, checkpoints and writes refer to."""
    nodes: set[str] = set()
    names: set[str] = set()
    for part in rows:
        for stored in part.fields.values():
            if part.key == "w":
                names |= names_of_writes(stored)
                continue
            record, manifests = records.unpack(stored)
            for channel, ref in record.channels.items():
                manifest = manifests.get(channel)
                nodes.update(manifest.nodes if manifest else ())
                names.update(records.names_of(ref))
    return nodes, names
