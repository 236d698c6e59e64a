"""Putting the store-wide totals right by counting everything again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from aiecs.core.interface.store import CorruptField, IndexRange
from aiecs.domain.context.groups import read_session, read_thread
from aiecs.domain.context.indexes import SESSIONS, THREADS, IndexPlace, pages
from aiecs.domain.context.models import RecountReport
from aiecs.domain.context.runtime import Runtime

Group = TypeVar("Group")

_PAGE = 500


async def recount(runtime: Runtime) -> RecountReport:
    """Count everything again and set the store-wide totals to it.

    Reads the whole store. What is written meanwhile may be missing from the totals, and what is
    too damaged to be read is.
    """
    believed = await runtime.counters.totals()
    found = {"sessions": 0, "ended": 0, "messages": 0, "checkpoints": 0}
    async for session_id in _members(runtime, SESSIONS):
        session = await _sound(runtime, read_session, session_id)
        if session is not None:
            found["sessions"] += session.holds.sessions
            found["ended"] += session.holds.sessions if "st" in session.head else 0
            found["messages"] += session.holds.messages
    async for thread_id in _members(runtime, THREADS):
        thread = await _sound(runtime, read_thread, thread_id)
        if thread is not None:
            found["checkpoints"] += thread.holds.checkpoints
    await runtime.counters.replace(found)
    drift = {name: count - believed.get(name, 0) for name, count in found.items()}
    return RecountReport(**found, drift={name: off for name, off in drift.items() if off})


async def _sound(
    runtime: Runtime, read: Callable[[Runtime, str], Awaitable[Group | None]], name: str
) -> Group | None:
    try:
        return await read(runtime, name)
    except CorruptField:
        runtime.note_corrupt("group", name)
        return None


async def _members(runtime: Runtime, places: tuple[IndexPlace, ...]) -> AsyncIterator[str]:
    seen: set[str] = set()
    async for page in pages(runtime, places, IndexRange("_", limit=_PAGE)):
        new = [entry.member for entry in page if entry.member not in seen]
        seen.update(new)
        for member in new:
            yield member
