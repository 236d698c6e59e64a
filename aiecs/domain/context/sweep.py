"""Taking away what has expired or lies idle, found by the indexes of last activity."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiecs.core.interface.store import Batch, Clock, Get, IndexDelete, IndexRange
from aiecs.core.keys import Place, session_place, thread_place
from aiecs.domain.context.groups import Retired, retire_session, retire_thread
from aiecs.domain.context.indexes import (
    SESSIONS,
    STALE_AFTER,
    THREADS,
    Entry,
    IndexPlace,
    entries,
    pages,
    sessions_of,
    store_time,
)
from aiecs.domain.context.runtime import Runtime

_PAGE = 200
_AT_ONCE = 16
_MARGIN = 60_000_000


class _Found(NamedTuple):
    """An index entry and what its group's head says; `user_id` is "" for none."""

    entry: Entry
    now: int
    there: bool
    due: bool
    user_id: str


class _Sweep(NamedTuple):
    """What to look at, and what removes one group of it when it is due."""

    places: tuple[IndexPlace, ...]
    place_of: Callable[[str], Place]
    retire: Callable[[str], Awaitable[Retired]]
    idle_before: int | None
    high: int


async def sweep_sessions(runtime: Runtime, idle: int | None = None) -> int:
    """Remove sessions that have expired or had no write for `idle` microseconds; how many.

    Their threads go with them when they are due by the same measure. Whatever is written to in
    the meantime stays.
    """
    spans = [span for span in (idle, runtime.session_ttl) if span is not None]
    if not spans:
        return 0
    now = await store_time(runtime)
    idle_before = None if idle is None else now - idle

    def retire(session_id: str) -> Awaitable[Retired]:
        return retire_session(runtime, session_id, idle_before=idle_before)

    # An entry may be a little younger than the write that it stands for.
    high = now - min(spans) + _MARGIN
    return await _run(runtime, _Sweep(SESSIONS, session_place, retire, idle_before, high))


async def sweep_threads(runtime: Runtime) -> int:
    """Remove threads that have expired; what was counted of them is settled. Returns 0."""
    if runtime.checkpoint_ttl is None:
        return 0

    def retire(thread_id: str) -> Awaitable[Retired]:
        return retire_thread(runtime, thread_id)

    high = await store_time(runtime) - runtime.checkpoint_ttl + _MARGIN
    return await _run(runtime, _Sweep(THREADS, thread_place, retire, None, high))


async def _run(runtime: Runtime, sweep: _Sweep) -> int:
    removed = 0
    ask = IndexRange("_", high=sweep.high, limit=_PAGE)
    async for page in pages(runtime, sweep.places, ask):
        for start in range(0, len(page), _AT_ONCE):
            part = page[start : start + _AT_ONCE]
            done = await asyncio.gather(*(_one(runtime, sweep, entry) for entry in part))
            removed += sum(count for _, count in done)
            await _forget(runtime, [found for found, _ in done if not found.there])
            await asyncio.sleep(0)  # a store in memory never yields by itself
    return removed


async def _one(runtime: Runtime, sweep: _Sweep, entry: Entry) -> tuple[_Found, int]:
    found = await _look(runtime, sweep, entry)
    if not found.due:
        return found, 0
    retired = await sweep.retire(entry.member)
    return found._replace(there=not retired.gone), retired.removed.sessions


async def _look(runtime: Runtime, sweep: _Sweep, entry: Entry) -> _Found:
    ops = (Clock(), Get("", ("~i", "~x", "l", "u")))
    place = sweep.place_of(entry.member)
    now, (incarnation, expires, last, user) = await runtime.read(Batch(*place, ops, raw=True))
    due = _passed(expires, now) or (
        sweep.idle_before is not None and _passed(last, sweep.idle_before)
    )
    there = incarnation is not None
    return _Found(entry, now, there, there and due, (user or b"").decode(errors="replace"))


def _passed(micros: bytes | None, limit: int) -> bool:
    return micros is not None and micros.isdigit() and int(micros) <= limit


async def _forget(runtime: Runtime, gone: list[_Found]) -> None:
    """Drop the entries of groups that are gone, as far as they are old enough for that."""
    stale: dict[IndexPlace, list[Entry]] = defaultdict(list)
    owned: dict[str, set[str]] = defaultdict(set)
    for found in gone:
        if found.now - found.entry.score > STALE_AFTER:
            stale[found.entry.place].append(found.entry)
            if found.user_id:
                owned[found.user_id].add(found.entry.member)
    for user_id, members in owned.items():
        place = sessions_of(user_id)
        ask = IndexRange("_", high=gone[0].now - STALE_AFTER, limit=1_000)
        page = await entries(runtime, (place,), ask)
        stale[place] = [entry for entry in page if entry.member in members]
    for place, old in stale.items():
        ops = tuple(IndexDelete(place.key, (e.member,), if_score=e.score) for e in old)
        if ops:
            await runtime.apply(Batch(place.bucket, "", ops))
