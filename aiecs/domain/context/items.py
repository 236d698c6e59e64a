"""Items by namespace and key: what an agent remembers beyond one conversation.

In a namespace's group: map `i` holds the items, map `c` when each was created, map `e` when each
expires, index `u` the order of their last changes, index `x` that of their expiries. The head's `n`
counts writes; whoever removes an empty namespace requires it to be as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

from aiecs.core.clock import now_micros
from aiecs.core.codec import decode, encode
from aiecs.core.errors import ConflictError, CorruptRecordError
from aiecs.core.ids import check_id
from aiecs.core.interface.store import (
    MAX_RECORD_BYTES,
    NEW_INCARNATION,
    NOW,
    Batch,
    Clock,
    Delete,
    Get,
    GroupMissing,
    GuardFailed,
    Incr,
    IndexCount,
    IndexDelete,
    IndexPut,
    IndexRange,
    Op,
    Put,
    RequireBefore,
    RequireEquals,
    RequireFields,
    now_plus,
)
from aiecs.domain.context.groups import field_of
from aiecs.domain.context.item_places import Directory, Namespace, place_of
from aiecs.domain.context.runtime import Runtime

MAX_KEY_BYTES = 1024
_ATTEMPTS = 8
_AT_ONCE, _PAGE = 32, 500
_LOOKED_AT_FIRST = 100
_MAPS = ("i", "c", "e")

T = TypeVar("T")
Accept = Callable[[dict[str, Any]], bool]


class Item(NamedTuple):
    """An item; times in microseconds since 1970. `ttl`: microseconds that a use prolongs it by."""

    namespace: Namespace
    key: str
    value: dict[str, Any]
    created: int
    updated: int
    ttl: int | None


class Items:
    """The items of one store. Every call raises `StoreError` when the store is down."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._directory = Directory(runtime)

    def record(self, key: str, value: dict[str, Any], ttl: int | None) -> bytes:
        """What `put` stores of an item that expires `ttl` microseconds from then, None: never.

        `InvalidInputError` for a key of more than 1,024 bytes, for a value that cannot be kept and
        for one of more than 8 MiB.
        """
        _checked(key)
        return encode([ttl, now_micros(), value], what="item", max_bytes=MAX_RECORD_BYTES)

    async def put(self, namespace: Namespace, key: str, record: bytes, ttl: int | None) -> None:
        """Store an item, replacing that of the same key; one atomic write."""
        field = field_of(_checked(key))
        ops: list[Op] = [
            *(Incr("", {"n": 1}), Put("i", {field: record})),
            *(Put("c", {field: NOW}, if_absent="skip"), IndexPut("u", {key: NOW})),
        ]
        if ttl is None:
            ops += [Delete("e", (field,)), IndexDelete("x", (key,))]
        else:
            ops += _expiring(field, key, ttl)
        making: tuple[Op, ...] = ()
        for _ in range(_ATTEMPTS):
            try:
                await self._runtime.apply(Batch(*place_of(namespace), (*making, *ops)))
            except GroupMissing:
                before = await self._directory.enter(namespace)
                making = (
                    RequireBefore(before),
                    Put("", {"~i": NEW_INCARNATION}, if_absent="abort"),
                )
            except GuardFailed:  # somebody else has made it, or this took too long
                making = ()
            else:
                return
        raise ConflictError(f"namespace {namespace!r} is made and removed all the time")

    async def delete(self, namespace: Namespace, key: str) -> None:
        """Remove an item; nothing happens without one."""
        field = field_of(_checked(key))
        ops = (*(Delete(name, (field,)) for name in _MAPS), *_out_of_order(key))
        with suppress(GroupMissing):
            await self._runtime.apply(Batch(*place_of(namespace), ops))

    async def get(self, namespace: Namespace, key: str, *, use: bool) -> Item | None:
        """One item, None if there is none; `use`: it lives for its `ttl` from now on."""
        found = (await self._read(namespace, [_checked(key)]))[0]
        if use and found is not None:
            await self._use([found])
        return found

    async def search(
        self,
        prefix: Namespace,
        accept: Accept | None,
        limit: int,
        offset: int,
        *,
        use: bool,
    ) -> list[Item]:
        """Items of all namespaces that begin so, the last changed first.

        With `accept` items are looked at until there are enough, all of them if need be.
        """
        namespaces = await self._directory.under(prefix)
        size = offset + limit if accept is None else max(offset + limit, _LOOKED_AT_FIRST)
        found: list[Item] = []
        while limit:
            pages = await _few(namespaces, partial(self._newest, size))
            places = sorted((place for page in pages for place in page), reverse=True)[:size]
            items = await self._items([(space, key) for _, space, key in places])
            found = [item for item in items if accept is None or accept(item.value)]
            if len(found) >= offset + limit or all(len(page) < size for page in pages):
                break
            size *= 4
        found = found[offset : offset + limit]
        if use:
            await self._use(found)
        return found

    async def namespaces(self, prefix: Namespace) -> list[Namespace]:
        """Those that begin so and hold an item, in order."""
        names = await self._directory.under(prefix)
        counts = await _few(names, self._count)
        return [name for name, count in zip(names, counts, strict=True) if count]

    async def clear(self, prefix: Namespace) -> int:
        """Remove all items of the namespaces that begin so; how many. It can be called again."""
        return sum(await _few(await self._directory.under(prefix), self._clear))

    async def walk(self, prefix: Namespace) -> AsyncIterator[Item]:
        """All items of the namespaces that begin so, one namespace after the other."""
        for namespace in await self._directory.under(prefix):
            cursor: tuple[str, int] | None = None
            while page := await self._oldest(namespace, cursor):
                for item in await self._read(namespace, [key for key, _ in page]):
                    if item is not None:
                        yield item
                cursor = page[-1]

    async def sweep(self) -> int:
        """Remove what has expired, and namespaces that have long been empty; how many items."""
        names = await self._directory.under(())
        return sum(await _few(names, self._sweep))

    # --- one namespace --------------------------------------------------------------------------

    async def _read(self, namespace: Namespace, keys: Sequence[str]) -> list[Item | None]:
        fields = tuple(field_of(key) for key in keys)
        ops: list[Op] = [*(Get(name, fields) for name in _MAPS), Clock()]
        *columns, now = await self._runtime.read(Batch(*place_of(namespace), tuple(ops)))
        rows = zip(keys, zip(*columns, strict=True), strict=True)
        return [self._item(namespace, key, row, now) for key, row in rows]

    def _item(
        self, namespace: Namespace, key: str, stored: Sequence[bytes | None], now: int
    ) -> Item | None:
        record, created, expires = stored
        if record is None or (expires is not None and int(expires) <= now):
            return None
        try:
            ttl, updated, value = decode(record)
        except (CorruptRecordError, ValueError, TypeError):
            self._runtime.note_corrupt("item", f"{'/'.join(namespace)}/{key}")
            return None
        return Item(namespace, key, value, int(created or updated), updated, ttl)

    async def _newest(self, most: int, namespace: Namespace) -> list[tuple[int, Namespace, str]]:
        found: list[tuple[str, int]] = []
        while len(found) < most:
            size = min(_PAGE, most - len(found))
            cursor = found[-1] if found else None
            page = IndexRange("u", limit=size, reverse=True, cursor=cursor)
            (entries,) = await self._runtime.read(Batch(*place_of(namespace), (page,)))
            found += entries
            if len(entries) < size:
                break
        return [(score, namespace, key) for key, score in found]

    async def _items(self, wanted: list[tuple[Namespace, str]]) -> list[Item]:
        """These items, in order, without those that are gone."""
        keys: dict[Namespace, list[str]] = {}
        for namespace, key in wanted:
            keys.setdefault(namespace, []).append(key)
        parts = [
            (space, names[at : at + _PAGE])
            for space, names in keys.items()
            for at in range(0, len(names), _PAGE)
        ]
        read = await _few(parts, lambda part: self._read(*part))
        found = {(item.namespace, item.key): item for some in read for item in some if item}
        return [found[place] for place in wanted if place in found]

    async def _use(self, items: Sequence[Item]) -> None:
        async def prolong(item: Item) -> None:
            field = field_of(item.key)
            ops = (RequireFields("i", (field,)), *_expiring(field, item.key, item.ttl or 0))
            with suppress(GuardFailed, GroupMissing):  # deleted meanwhile
                await self._runtime.apply(Batch(*place_of(item.namespace), ops))

        await _few([item for item in items if item.ttl is not None], prolong)

    async def _oldest(
        self, namespace: Namespace, cursor: tuple[str, int] | None = None
    ) -> list[tuple[str, int]]:
        page = IndexRange("u", limit=_PAGE, cursor=cursor)
        (entries,) = await self._runtime.read(Batch(*place_of(namespace), (page,)))
        return list(entries)

    async def _clear(self, namespace: Namespace) -> int:
        removed = 0
        while page := await self._oldest(namespace):
            keys = tuple(key for key, _ in page)
            fields = tuple(map(field_of, keys))
            gone: list[Op] = [Delete(name, fields) for name in _MAPS]
            gone += [IndexDelete(name, keys) for name in ("u", "x")]
            with suppress(GroupMissing):
                results = await self._runtime.apply(Batch(*place_of(namespace), tuple(gone)))
                removed += results[0] if results else len(keys)
        await self._sweep(namespace)
        return removed

    async def _count(self, namespace: Namespace) -> int:
        ops = (IndexCount("u"), Clock())
        count, now = await self._runtime.read(Batch(*place_of(namespace), ops))
        over = (IndexCount("x", high=now),)
        (expired,) = await self._runtime.read(Batch(*place_of(namespace), over))
        return int(count) - int(expired)

    async def _sweep(self, namespace: Namespace) -> int:
        place, removed = place_of(namespace), 0
        while True:
            now, version, count = await self._runtime.read(
                Batch(*place, (Clock(), Get("", ("~i", "n")), IndexCount("u")))
            )
            page = IndexRange("x", high=now, limit=_AT_ONCE)
            (entries,) = await self._runtime.read(Batch(*place, (page,)))
            if not entries:
                break
            results = await _few(entries, lambda entry: self._expire(namespace, *entry))
            removed += sum(results)
        if not count and version[0] is not None:
            same = (RequireEquals("", "~i", version[0]), RequireEquals("", "n", version[1]))
            with suppress(GuardFailed, GroupMissing):
                await self._runtime.apply(Batch(*place, (*same, Delete(""))))
        if not count:
            await self._directory.leave(namespace, now)
        return removed

    async def _expire(self, namespace: Namespace, key: str, at: int) -> bool:
        """Remove an item, unless it has been used since it was to expire at that time."""
        field = field_of(key)
        same = RequireEquals("e", field, b"%d" % at)
        ops = (same, *(Delete(name, (field,)) for name in _MAPS), *_out_of_order(key))
        try:
            await self._runtime.apply(Batch(*place_of(namespace), ops))
        except (GuardFailed, GroupMissing):
            return False
        return True


def _expiring(field: str, key: str, ttl: int) -> tuple[Op, ...]:
    return (Put("e", {field: now_plus(ttl)}), IndexPut("x", {key: now_plus(ttl)}))


def _out_of_order(key: str) -> Iterator[Op]:
    return (IndexDelete(name, (key,)) for name in ("u", "x"))


def _checked(key: str) -> str:
    return check_id(key, "key", MAX_KEY_BYTES)


async def _few(things: Sequence[T], work: Callable[[T], Any]) -> list[Any]:
    """The results of `work` for each, some of them at a time."""
    found: list[Any] = []
    for at in range(0, len(things), _AT_ONCE):
        found += await asyncio.gather(*map(work, things[at : at + _AT_ONCE]))
    return found
