"""From an open engine to its threads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, NamedTuple

from aiecs.core.errors import LifecycleError
from aiecs.core.interface.store import Get, IndexRange
from aiecs.domain.context.cold import NO_ARCHIVE
from aiecs.domain.context.indexes import THREADS, pages
from aiecs.domain.context.thread_state.copying import Copying
from aiecs.domain.context.thread_state.overview import check_free, history_of, notes_of
from aiecs.domain.context.thread_state.pruning import Pruning

if TYPE_CHECKING:
    from aiecs.domain.context.context_engine import ContextEngine
    from aiecs.domain.context.runtime import Runtime
    from aiecs.domain.context.thread_state.thread_records import ThreadRecords

_PAGE = 100


class Listed(NamedTuple):
    """A thread: its checkpoints, its session ("" for none), its last write (microseconds)."""

    thread_id: str
    checkpoints: int
    session_id: str
    last: int


class Threads:
    """The threads of one engine: their records, and what is done with whole threads."""

    def __init__(
        self,
        runtime: Runtime,
        records: ThreadRecords,
        past: Callable[[], ThreadRecords] | None = None,
    ) -> None:
        self._runtime = runtime
        self._past = past
        self.records = records
        self.pruning = Pruning(records)

    def with_past(self) -> ThreadRecords:
        """Their records, and those that only the archive has; `LifecycleError` without one."""
        if self._past is None:
            raise LifecycleError(NO_ARCHIVE)
        return self._past()

    async def ids(self) -> AsyncIterator[str]:
        """The ids of all threads, the latest activity first (as it is indexed: to the minute)."""
        seen: set[str] = set()
        walk = IndexRange("", limit=_PAGE, reverse=True)
        async for page in pages(self._runtime, THREADS, walk):
            for entry in page:
                if entry.member not in seen:
                    seen.add(entry.member)
                    yield entry.member

    async def delete_runs(self, runs: set[str]) -> None:
        """Remove the checkpoints that these runs have made, wherever they are."""
        async for thread_id in self.ids():
            await self.pruning.without_runs(thread_id, runs)

    async def copy(self, source: str, target: str, *, ttl: int | None) -> None:
        """Copy all checkpoints and writes of a thread into another."""
        await Copying(self.records, source, target, ttl=ttl).copy()

    async def fork(self, source: str, checkpoint_id: str, target: str) -> int:
        """Begin a thread with a checkpoint of another and all that led to it; how many it has.

        `InvalidInputError` for an unknown checkpoint, `ConflictError` for a thread that is there.
        """
        check_free(await self.records.members(target), target)
        chosen = history_of(await notes_of(self.records, source), checkpoint_id)
        await Copying(self.records, source, target, ttl=None, only=chosen).copy()
        return len(chosen)

    async def listed(self, limit: int) -> list[Listed]:
        """The threads that were active last, at most so many; those of graphs alone."""
        found: list[Listed] = []
        async for thread_id in self.ids():
            ((count, session, last),) = await self.records.read(
                thread_id, Get("", ("gn", "s", "l"))
            )
            if int(count or 0) > 0:
                named = (session or b"").decode(errors="replace")
                found.append(Listed(thread_id, int(count), named, int(last or 0)))
            if len(found) >= limit:
                break
        return found


def threads_of(engine: ContextEngine) -> Threads:
    """Those of an open engine; `LifecycleError` when it is not open."""
    services = engine._on
    return Threads(services.runtime, services.records, services.past)
