"""Taking away what has expired or lies idle, found by the indexes of last activity."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import NamedTuple

from aiecs.core.interface.store import CorruptField, IndexRange
from aiecs.domain.context.groups import Retired, retire_session, retire_thread
from aiecs.domain.context.indexes import (
    SESSIONS,
    THREADS,
    Entry,
    IndexPlace,
    drop_stale,
    pages,
    sessions_of,
    store_time,
)
from aiecs.domain.context.plain_sessions import retire_plain
from aiecs.domain.context.runtime import Runtime

_PAGE = 1_000
_AT_ONCE = 64
_REMEMBERED = 4_000
_MARGIN = 60_000_000


class _Sweep(NamedTuple):
    """What to look at, and what removes one group of it when it is due."""

    places: tuple[IndexPlace, ...]
    retire: Callable[[str], Awaitable[Retired]]
    damaged: Callable[[str], None]
    high: int
    now: int


async def sweep_sessions(runtime: Runtime, idle: int | None = None) -> int:
    """Remove sessions that have expired or had no write for `idle` microseconds; how many.

    Their threads go with them when they are due by the same measure. Whatever is written to in
    the meantime stays.
    """
    ttl = runtime.session_ttl
    spans = [span for span in (idle, ttl) if span is not None]
    if not spans:
        return 0
    now = await store_time(runtime)
    idle_before = None if idle is None else now - idle
    sooner = None if ttl is not None and ttl == min(spans) != idle else idle_before

    async def retire(session_id: str) -> Retired:
        found = await retire_plain(runtime, session_id, sooner)
        return found or await retire_session(runtime, session_id, idle_before=idle_before)

    # An entry may be a little younger than the write that it stands for.
    high = now - min(spans) + _MARGIN
    return await _run(
        runtime, _Sweep(SESSIONS, retire, partial(runtime.note_corrupt, "session"), high, now)
    )


async def sweep_threads(runtime: Runtime) -> int:
    """Remove threads that have expired; what was counted of them is settled. Returns 0."""
    if runtime.checkpoint_ttl is None:
        return 0

    def retire(thread_id: str) -> Awaitable[Retired]:
        return retire_thread(runtime, thread_id)

    now = await store_time(runtime)
    high = now - runtime.checkpoint_ttl + _MARGIN
    return await _run(
        runtime, _Sweep(THREADS, retire, partial(runtime.note_corrupt, "thread"), high, now)
    )


async def _run(runtime: Runtime, sweep: _Sweep) -> int:
    removed = 0
    gone: list[Entry] = []
    for place in sweep.places:
        async for page in _pages(runtime, sweep, place):
            for entry, retired in await _retired(sweep, page):
                removed += retired.removed.sessions
                gone += _entries(entry, retired)
            if len(gone) > _REMEMBERED:  # together they make few batches
                await drop_stale(runtime, gone, sweep.now)
                gone.clear()
    await drop_stale(runtime, gone, sweep.now)
    return removed


async def _pages(runtime: Runtime, sweep: _Sweep, place: IndexPlace) -> AsyncIterator[list[Entry]]:
    """The entries of one index that are old enough; none of an index that is damaged."""
    wanted = IndexRange("_", high=sweep.high, limit=_PAGE)
    try:
        async for page in pages(runtime, (place,), wanted):
            yield page
    except CorruptField:
        sweep.damaged(place.key)


async def _retired(sweep: _Sweep, page: list[Entry]) -> list[tuple[Entry, Retired]]:
    """What became of each, many at a time: neither this process nor the server waits long."""
    left = (entry for entry in page)
    done: list[tuple[Entry, Retired]] = []

    async def work() -> None:
        for entry in left:
            try:
                done.append((entry, await sweep.retire(entry.member)))
            except CorruptField:
                sweep.damaged(entry.member)
            except BaseException:
                left.close()
                raise
            await asyncio.sleep(0)  # a store in memory never yields by itself

    # No one is left running when another fails: nobody would wait for them.
    for end in await asyncio.gather(*(work() for _ in range(_AT_ONCE)), return_exceptions=True):
        if isinstance(end, BaseException):
            raise end
    return done


def _entries(entry: Entry, retired: Retired) -> Iterator[Entry]:
    """What the indexes hold of a group that is gone."""
    if retired.gone:
        yield entry
    if retired.gone and retired.user_id:
        yield entry._replace(place=sessions_of(retired.user_id))
