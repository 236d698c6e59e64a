"""Where sessions and threads can be found again: indexes by user and by last activity.

They are advisory supersets: an entry is written and acknowledged before what it points to is
created, a reader verifies each entry, and an entry is dropped only when it has been stale for
longer than any creation can take.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import NamedTuple

from aiecs.core.interface.store import (
    NOW,
    Batch,
    Clock,
    IndexDelete,
    IndexPut,
    IndexRange,
)
from aiecs.core.keys import bucket_of, escape, session_place, thread_place
from aiecs.domain.context.runtime import Runtime

SHARDS = 16
CREATE_WITHIN = 300_000_000
STALE_AFTER = 600_000_000
_AT_ONCE = 32
_LONGEST = 500


class IndexPlace(NamedTuple):
    """The bucket and the key of an index."""

    bucket: int
    key: str


class Entry(NamedTuple):
    """A member of an index: `score` is its last indexed activity in microseconds."""

    member: str
    score: int
    place: IndexPlace


def _shards(letter: str) -> tuple[IndexPlace, ...]:
    places = ((f"{letter}:{n}", f"_{letter}:{n}") for n in range(SHARDS))
    return tuple(IndexPlace(bucket_of(name), key) for name, key in places)


SESSIONS = _shards("a")
THREADS = _shards("b")


def sessions_of(user_id: str) -> IndexPlace:
    """The index of a user's sessions."""
    return IndexPlace(bucket_of("u:" + user_id), "_u:" + escape(user_id))


def session_shard(session_id: str) -> IndexPlace:
    """The activity shard that a session belongs to, for good."""
    return SESSIONS[session_place(session_id).bucket % SHARDS]


def thread_shard(thread_id: str) -> IndexPlace:
    """The activity shard that a thread belongs to, for good."""
    return THREADS[thread_place(thread_id).bucket % SHARDS]


async def announce_session(runtime: Runtime, session_id: str, user_id: str = "") -> int:
    """Enter a session into its indexes, at the store's present time.

    To be awaited before the session is created or given to a user. Returns the time (store's
    clock, microseconds) after which that must not happen any more: guard the creating batch with
    `RequireBefore`.
    """
    if not user_id:
        return await _announce(runtime, session_shard(session_id), session_id)
    times = await asyncio.gather(
        _announce(runtime, session_shard(session_id), session_id),
        _announce(runtime, sessions_of(user_id), session_id),
    )
    return min(times)


async def announce_thread(runtime: Runtime, thread_id: str) -> int:
    """As `announce_session`, for a thread."""
    return await _announce(runtime, thread_shard(thread_id), thread_id)


async def _announce(runtime: Runtime, place: IndexPlace, member: str) -> int:
    put = IndexPut(place.key, {member: NOW}, greater=True)
    results = await runtime.apply(Batch(place.bucket, "", (put, Clock())))
    now = results[1] if results is not None else await store_time(runtime)
    return int(now) + CREATE_WITHIN


async def store_time(runtime: Runtime) -> int:
    """The store's clock in microseconds."""
    return int((await runtime.read(Batch(0, "", (Clock(),))))[0])


async def entries(
    runtime: Runtime, places: tuple[IndexPlace, ...], wanted: IndexRange
) -> list[Entry]:
    """One page of several indexes together, in order of (score, member).

    `wanted` says which (its key is not looked at); its `cursor` may be the last entry of a page
    of any of them.
    """
    pages = await asyncio.gather(*(_entries(runtime, place, wanted) for place in places))
    found = [entry for page in pages for entry in page]
    found.sort(key=lambda entry: (entry.score, entry.member), reverse=wanted.reverse)
    return found[: wanted.limit]


async def pages(
    runtime: Runtime, places: tuple[IndexPlace, ...], wanted: IndexRange
) -> AsyncIterator[list[Entry]]:
    """All of what `entries` gives, page by page. Entries that move meanwhile may come twice."""
    while True:
        page = await entries(runtime, places, wanted)
        yield page
        if len(page) < wanted.limit:
            return
        wanted = wanted._replace(cursor=(page[-1].member, page[-1].score))


async def _entries(runtime: Runtime, place: IndexPlace, wanted: IndexRange) -> list[Entry]:
    ops = (wanted._replace(key=place.key),)
    (page,) = await runtime.read(Batch(place.bucket, "", ops))
    return [Entry(member, score, place) for member, score in page]


async def drop_stale(runtime: Runtime, gone: Iterable[Entry], now: int) -> None:
    """Remove the entries of groups that are gone, but for young and for renewed ones.

    `now` is the store's time when, or before, they were seen to be gone.
    """
    old = now - STALE_AFTER
    members: dict[IndexPlace, list[str]] = defaultdict(list)
    for entry in gone:
        if entry.score < old:
            members[entry.place].append(entry.member)
    drops = (
        Batch(place.bucket, "", (IndexDelete(place.key, tuple(part), old),))
        for place, names in members.items()
        for part in (names[start : start + _LONGEST] for start in range(0, len(names), _LONGEST))
    )
    while some := list(islice(drops, _AT_ONCE)):
        await asyncio.gather(*map(runtime.apply, some))
        await asyncio.sleep(0)  # a store in memory never yields by itself
