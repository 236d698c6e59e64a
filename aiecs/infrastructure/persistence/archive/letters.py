"""Dead letters: events that the archive does not take, kept in a log of each group's home."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import accumulate

import msgspec

from aiecs.core.interface.store import (
    Append,
    Batch,
    Get,
    GuardFailed,
    LogSlice,
    Op,
    Put,
    Read,
    RequireEquals,
    Store,
    Trim,
)
from aiecs.infrastructure.persistence.archive.backlog import DEAD
from aiecs.infrastructure.persistence.archive.delivery import Dead
from aiecs.infrastructure.persistence.archive.leases import GROUPS, home_of
from aiecs.infrastructure.persistence.archive.rows import Shipped

_KEY, _FIELD = "_letters", "turns"
_PAGE = 50
_PAGE_BYTES = 4 * 1024 * 1024


class Head(msgspec.Struct, frozen=True):
    """What stands in front of the event in a letter."""

    bucket: int
    number: int
    table: str
    reason: str


Sort = Callable[[Sequence[Dead]], Awaitable[Sequence[Dead]]]
"""Of the given letters, those that are to be kept."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Head).decode


def put(dead: Sequence[Dead]) -> Op:
    """The operation that sets events aside, in the group's home."""
    return Append(DEAD, tuple(map(_written, dead)))


async def all_of(store: Store) -> AsyncIterator[Dead]:
    """Every letter, group by group, the oldest first."""
    for group in range(GROUPS):
        at = 0
        while (log := await _page(store, group, at)).items:
            for item in log.items:
                yield _read(item)
            at = log.first + len(log.items)


async def sort(store: Store, choose: Sort) -> int:
    """Let `choose` say, page by page, which letters are kept; how many were removed.

    A page goes in one batch; what somebody else sorts at the same time is chosen from again.
    """
    removed = 0
    for group in range(GROUPS):
        end = (await _page(store, group, 0, limit=1)).next
        at = 0
        while (log := await _page(store, group, at)).items and log.first < end:
            done = await _sort_page(store, group, log, choose)
            if done is not None:
                removed += done
                at = log.first + len(log.items)
    return removed


async def _sort_page(store: Store, group: int, log: LogSlice, choose: Sort) -> int | None:
    home = home_of(group)
    results = await store.apply(Batch(home, "", (Get(_KEY, (_FIELD,)),)))
    ((turns,),) = results or ((None,),)
    again = await _page(store, group, log.first, limit=len(log.items))
    if (again.first, again.items) != (log.first, log.items):
        return 0  # sorted by somebody else meanwhile
    kept = await choose([_read(item) for item in log.items])
    same = RequireEquals(_KEY, _FIELD, turns)
    turn = Put(_KEY, {_FIELD: b"%d" % (int(turns or 0) + 1)})
    back: tuple[Op, ...] = (put(kept),) if kept else ()
    cut = Trim(DEAD, before=log.first + len(log.items))
    with suppress(GuardFailed):
        await store.apply(Batch(home, "", (same, turn, *back, cut)))
        return len(log.items) - len(kept)
    return None


async def _page(store: Store, group: int, at: int, limit: int = _PAGE) -> LogSlice:
    """Deads from sequence `at` on, as many as are read gladly together."""
    read = Read(DEAD, start=at, limit=limit, newest=False)
    results = await store.apply(Batch(home_of(group), "", (read,)))
    log: LogSlice = (results or [LogSlice("", 0, 0, 0, [])])[0]
    sizes = accumulate(map(len, log.items))
    fitting = sum(size <= _PAGE_BYTES for size in sizes)
    return log._replace(items=log.items[: max(1, fitting)])


def _written(letter: Dead) -> bytes:
    bucket, number, item = letter.shipped
    return _encode(Head(bucket, number, letter.table, letter.reason)) + b"\n" + item


def _read(item: bytes) -> Dead:
    line, _, event = item.partition(b"\n")
    try:
        head = _decode(line)
    except msgspec.MsgspecError:
        return Dead(Shipped(0, 0, item), "", "this letter cannot be read")
    return Dead(Shipped(head.bucket, head.number, event), head.table, head.reason)
