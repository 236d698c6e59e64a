"""Erasures of a store: what lies in outboxes and dead letters goes at once, then the archive."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress

from aiecs.core.erasure import GONE, GONE_BY, GONE_ROWS, KEPT_SECONDS, Erasure, erasure_of
from aiecs.core.errors import CorruptRecordError
from aiecs.core.events import OUTBOX, About, Told, told
from aiecs.core.interface.store import (
    Batch,
    Clock,
    Delete,
    Get,
    GuardFailed,
    LogSlice,
    Op,
    Put,
    Read,
    Redact,
    RequireEquals,
    Store,
)
from aiecs.core.keys import bucket_of
from aiecs.infrastructure.persistence.archive import letters
from aiecs.infrastructure.persistence.archive.delivery import Dead
from aiecs.infrastructure.persistence.archive.rows import Shipped

_PAGE = 200
_ENDINGS = (About.SESSION, About.THREAD, About.USER)
_DELETED = "deleted"


class Requested:
    """The erasures that somebody has asked for, to be matched with events."""

    def __init__(self, erasures: Iterable[Erasure]) -> None:
        self._by_name = {one.name: one for one in erasures}

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def takes(self, item: bytes) -> bool:
        """Whether an event goes; what only says that something was deleted stays."""
        try:
            event = told(item)
        except CorruptRecordError:
            return False
        one = self._of(event)
        gone = one is not None and not one.owner and one.covers(event.incarnation)
        return gone and not is_deletion(event)

    def _of(self, event: Told) -> Erasure | None:
        found = self._by_name.get(f"t:{event.thread}") if event.thread else None
        if found is None and event.session:
            return self._by_name.get(f"s:{event.session}")
        return found


def is_deletion(event: Told) -> bool:
    """Whether an event says that a session, thread or user was deleted on purpose."""
    return event.kind in _ENDINGS and event.ids[1] == _DELETED


async def forget(store: Store, erasures: Sequence[Erasure]) -> None:
    """Blank what waits in the outboxes of their buckets, and drop it from the dead letters."""
    requested = Requested(erasures)
    for bucket in {bucket_of(one.id) for one in erasures}:
        await _blank(store, bucket, requested)
    await _drop_letters(store, requested)


async def _blank(store: Store, bucket: int, requested: Requested) -> None:
    at = 0
    while True:
        read = Read(OUTBOX, start=at, limit=_PAGE, newest=False)
        results = await store.apply(Batch(bucket, "", (read,)))
        log: LogSlice = (results or [LogSlice("", 0, 0, 0, [])])[0]
        if not log.items:
            return
        gone = [n for n, item in enumerate(log.items, log.first) if item and requested.takes(item)]
        if gone:
            await store.apply(Batch(bucket, "", (Redact(OUTBOX, tuple(gone)),)))
        at = log.first + len(log.items)


async def _drop_letters(store: Store, requested: Requested) -> None:
    async def kept(found: Sequence[Dead]) -> Sequence[Dead]:
        return [one for one in found if not requested.takes(one.shipped.item)]

    if any([requested.takes(one.shipped.item) async for one in letters.all_of(store)]):
        await letters.sort(store, kept)


async def requested_in(
    store: Store, buckets: Iterable[int], older: float = 0.0
) -> dict[int, list[Erasure]]:
    """The erasures of these buckets that the archive has not done, asked for so long ago."""
    names = list(buckets)
    found = await asyncio.gather(*(_open_in(store, bucket, older) for bucket in names))
    return {bucket: ones for bucket, ones in zip(names, found, strict=True) if ones}


async def _open_in(store: Store, bucket: int, older: float) -> list[Erasure]:
    gone, owners, done, now = await _maps(store, bucket)
    return [
        erasure_of(name, until, owners.get(name))
        for name, until in gone.items()
        if now - int(until) >= (KEPT_SECONDS if name in done else older) * 1_000_000
    ]


async def _maps(
    store: Store, bucket: int
) -> tuple[dict[str, bytes], dict[str, bytes], dict[str, bytes], int]:
    ops = (Get(GONE), Get(GONE_BY), Get(GONE_ROWS), Clock())
    gone, owners, done, now = (await store.apply(Batch(bucket, "", ops))) or ({}, {}, {}, 0)
    return gone, owners, done, now


async def note_done(store: Store, bucket: int, done: dict[Erasure, int]) -> None:
    """Tell how many rows there were; what was done ten minutes ago already is forgotten."""
    _, _, earlier, now = await _maps(store, bucket)
    for one, rows in done.items():
        same: Op = RequireEquals(GONE, one.name, b"%d" % one.until)
        old = now - one.until >= KEPT_SECONDS * 1_000_000
        ops: tuple[Op, ...] = (Put(GONE_ROWS, {one.name: b"%d" % rows}),)
        if old and one.name in earlier:
            ops = tuple(Delete(key, (one.name,)) for key in (GONE, GONE_BY, GONE_ROWS))
        with suppress(GuardFailed):  # deleted once more meanwhile: that is still to be done
            await store.apply(Batch(bucket, "", (same, *ops)))


async def rows_of(store: Store, erasures: Iterable[Erasure]) -> dict[Erasure, int | None]:
    """How many rows each has taken out of the archive; None while it is not done."""
    names = list(erasures)
    batches = (Batch(bucket_of(one.id), "", (Get(GONE_ROWS, (one.name,)),)) for one in names)
    found = await asyncio.gather(*map(store.apply, batches))
    counts = [results[0][0] if results else None for results in found]
    return {
        one: None if count is None else int(count) for one, count in zip(names, counts, strict=True)
    }


def deletions_in(items: Iterable[Shipped]) -> set[int]:
    """The buckets in which something was deleted, by what is being shipped."""
    found = set()
    for bucket, _, item in items:
        try:
            if item and is_deletion(told(item)):
                found.add(bucket)
        except CorruptRecordError:
            continue
    return found
