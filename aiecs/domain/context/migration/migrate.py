"""The whole migration: every group, then every group again to compare."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from aiecs.core.errors import ContextEngineError, InvalidInputError, StoreError
from aiecs.core.events import Events
from aiecs.core.interface.store import Batch, CorruptField, IndexCount, IndexRange
from aiecs.domain.context.indexes import SESSIONS, THREADS, IndexPlace, pages
from aiecs.domain.context.item_places import Directory
from aiecs.domain.context.migration import parts
from aiecs.domain.context.migration.comparing import digest_of
from aiecs.domain.context.migration.moving import Mover, Outcome
from aiecs.domain.context.migration.parts import Group
from aiecs.domain.context.migration.reading import RestlessError
from aiecs.domain.context.migration.report import MigrationReport, Progress, Trouble
from aiecs.domain.context.runtime import Runtime

if TYPE_CHECKING:
    from aiecs.domain.context.context_engine import ContextEngine

_PAGE = 500
_AT_ONCE = 32
_COMPARED_AGAIN = 3

OnProgress = Callable[[Progress], None]


async def migrate(
    source: ContextEngine,
    target: ContextEngine,
    *,
    verify: bool = True,
    tell_archive: bool | None = None,
    on_progress: OnProgress | None = None,
) -> MigrationReport:
    """Bring everything of an engine's store into that of another; what was done.

    Sessions, messages, task contexts, agent conversations, checkpoints with their writes, states of
    graphs and items are moved as bytes: ids, incarnations, sequences, times, counters, metadata.
    Lifetimes go on where both stores expire; else they are the target's. Totals are the target's.

    Can be ended at any time, by a kill too, and called again: it goes on with what is missing.
    Writers may stay on the source meanwhile; a last call without them brings their last writes.
    What is in the target under the same name and not from there stays, as does what was written to
    on both sides: each is one of the report's `troubles`. What was removed from the source between
    two calls stays in the target. `verify`: everything is then read again from both and compared.

    With an archive, bring what waits for it there first (`archive_barrier`, `aiecs archive ship`).
    `tell_archive`: let the target's archive know of all that is moved; by default unless the source
    has the same one, which would count everything twice.

    Raises `StoreError` when a store is down, `LifecycleError` when an engine is not open,
    `InvalidInputError` for twice the same store.
    """
    from_, to = source._on.runtime, target._on.runtime
    if from_.store is to.store:
        raise InvalidInputError("a store cannot be moved into itself: name two")
    names = [engine._on.cold.name for engine in (source, target)]
    told = names[0] != names[1] if tell_archive is None else tell_archive
    return await _Migration(from_, to, on_progress, tell=told).run(verify=verify)


class _Migration:
    def __init__(
        self, source: Runtime, target: Runtime, on_progress: OnProgress | None, *, tell: bool
    ) -> None:
        self._source = source
        self._mover = Mover(source, target, target.events if tell else Events())
        self._tell = on_progress or (lambda _: None)
        self._report = MigrationReport()
        self._total = 0
        self._done = 0
        self._stopped = False
        self._known: set[Group] = set()

    async def run(self, *, verify: bool) -> MigrationReport:
        report, tally = self._report, self._mover.tally
        await self._each("moving", self._move)
        report.messages, report.checkpoints = tally.messages, tally.checkpoints
        report.items = tally.items
        if verify:
            await self._each("comparing", self._compare)
        return report

    # --- one group ------------------------------------------------------------------------------

    async def _move(self, group: Group) -> None:
        outcome = await self._mover.move(group)
        kinds: dict[str, Counter[str]] = {
            "session": self._report.sessions,
            "thread": self._report.threads,
            "namespace": self._report.namespaces,
        }
        kinds[group.kind][outcome.value] += 1

    async def _compare(self, group: Group) -> None:
        """Both may still be in use: what differs is moved once more and looked at again."""
        for _ in range(_COMPARED_AGAIN):
            if await self._is_same(group):
                self._report.compared += 1
                return
            # Who wrote to a namespace last cannot be told: what differs stays, and is told.
            outcome = await self._mover.move(group, again=group.kind != "namespace")
            if outcome in (Outcome.NEWER, Outcome.ABSENT):
                return
        self._trouble(group, "it is not the same in both stores")

    async def _is_same(self, group: Group) -> bool:
        readers = self._mover.source, self._mover.target
        try:
            there, here = [await digest_of(reader, group) for reader in readers]
        except RestlessError:
            return False
        return there == here

    def _trouble(self, group: Group, reason: str) -> None:
        if group in self._known:
            return
        self._known.add(group)
        name = "/".join(group.namespace) if group.kind == "namespace" else group.name
        self._report.note(Trouble(group.kind, name, reason))

    # --- all of them ----------------------------------------------------------------------------

    async def _each(self, phase: str, work: Callable[[Group], Awaitable[None]]) -> None:
        """`work` for every group of the source, many at a time."""
        self._done, self._total = 0, await self._count()
        groups = aiter(self._groups())
        taking = asyncio.Lock()

        async def worker() -> None:
            while not self._stopped:
                async with taking:
                    group = await anext(groups, None)
                if group is None:
                    return
                try:
                    await self._one(group, work)
                except BaseException:
                    self._stopped = True
                    raise
                self._done += 1
                self._total = max(self._total, self._done)
                self._tell(Progress(phase, self._done, self._total))  # type: ignore[arg-type]

        self._tell(Progress(phase, 0, self._total))  # type: ignore[arg-type]
        # No one is left running when another fails: the caller may try again at once.
        ends = await asyncio.gather(*(worker() for _ in range(_AT_ONCE)), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    async def _one(self, group: Group, work: Callable[[Group], Awaitable[None]]) -> None:
        try:
            await work(group)
        except StoreError:
            raise
        except ContextEngineError as error:
            self._trouble(group, str(error))
        except CorruptField:
            self._trouble(group, "it cannot be read")
        await asyncio.sleep(0)  # a store in memory never yields by itself

    async def _groups(self) -> AsyncIterator[Group]:
        """Sessions, then threads, then items; what moves meanwhile may come twice."""
        for places, group_of in ((SESSIONS, parts.session), (THREADS, parts.thread)):
            for place in places:
                async for page in pages(self._source, (place,), IndexRange("_", limit=_PAGE)):
                    for entry in page:
                        yield group_of(entry.member)
        for labels in await Directory(self._source).under(()):
            yield parts.namespace(labels)

    async def _count(self) -> int:
        counts = await asyncio.gather(*map(self._count_of, (*SESSIONS, *THREADS)))
        return sum(counts) + len(await Directory(self._source).under(()))

    async def _count_of(self, place: IndexPlace) -> int:
        ops = (IndexCount(place.key),)
        return int((await self._source.read(Batch(place.bucket, "", ops)))[0])
