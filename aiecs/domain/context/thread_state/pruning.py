"""Removing checkpoints of a thread, and whatever only they referred to.

A clean-up reads the whole thread, works out what goes, and removes it: in one batch, or, if that is
too much for one, first the checkpoints and then what they referred to. A count of clean-ups in the
head rises whenever a part goes, so that no writer goes on believing that something is stored which
is not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from aiecs.core.interface.store import Gather, Gathered, Get
from aiecs.domain.context.thread_state.names import parts_of, space_of
from aiecs.domain.context.thread_state.reach import Kept, ancestors_needed, reached
from aiecs.domain.context.thread_state.removing import VERSION, Head, Removal, Whole
from aiecs.domain.context.thread_state.thread_records import ThreadRecords, chunks

_PAGE = 200
_KNOWN = 1000
_FIELDS = 1000

Choose = Callable[[list[Kept]], set[str]]


class Pruned(NamedTuple):
    """What a clean-up removed, or would remove. `bytes` (of values) are counted when asked for."""

    checkpoints: int = 0
    bytes: int = 0


class Pruning:
    """Cleans up threads of one store."""

    def __init__(self, threads: ThreadRecords) -> None:
        self._threads = threads

    async def keep_latest(
        self, thread_id: str, keep: int = 1, *, dry: bool = False, measure: bool = False
    ) -> Pruned:
        """Keep the latest checkpoints of each namespace, and what they are rebuilt from."""

        def choose(every: list[Kept]) -> set[str]:
            of: dict[str, list[str]] = {}
            for one in every:
                of.setdefault(one.namespace, []).append(one.member)
            return {member for members in of.values() for member in members[-keep:]}

        return await self.keep(thread_id, choose, dry=dry, measure=measure)

    async def without_runs(self, thread_id: str, runs: set[str]) -> Pruned:
        """Remove what these runs have made, whatever is built on it."""

        def choose(every: list[Kept]) -> set[str]:
            return {one.member for one in every if one.record.run_id not in runs}

        return await self.keep(thread_id, choose, ancestors=False)

    async def keep(
        self,
        thread_id: str,
        choose: Choose,
        *,
        ancestors: bool = True,
        dry: bool = False,
        measure: bool = False,
    ) -> Pruned:
        """Remove all checkpoints but the chosen ones and the `ancestors` that they need.

        What is written meanwhile stays, with all that it refers to. `ConflictError` when there is
        no moment between two writes.
        """
        whole = await self._read(thread_id)
        chosen = choose(list(whole.every.values()))
        if ancestors:
            chosen |= ancestors_needed(chosen, whole.every)
        going = {member for member in whole.every if member not in chosen}
        gone = going | _overtaken(whole)
        if not gone or whole.head[0] is None:
            return Pruned()
        dead = reached(whole.names(set()), whole.nodes)
        dead -= reached(whole.names(gone), whole.nodes)
        size = await self._size(thread_id, dead) if measure else 0
        if not dry:
            removal = Removal(self._threads, thread_id, whole, gone, dead)
            going = await removal.run(going, ancestors=ancestors)
        return Pruned(len(going), size + sum(whole.every[member].size for member in going))

    # --- reading --------------------------------------------------------------------------------

    async def _read(self, thread_id: str) -> Whole:
        """All of it, page by page: what is written meanwhile may be missing."""
        whole = Whole([None, None, None], {}, {}, {})
        async for head, gathered in self._pages(thread_id):
            if not whole.every and not whole.orphans:
                whole.head[:] = head
            whole.take(gathered)
        return whole

    async def _pages(self, thread_id: str) -> AsyncIterator[tuple[Head, Gathered]]:
        page = Gather("p", ("d", "w"), space_of(None), _PAGE, links="e")
        while True:
            head, gathered = await self._threads.read(thread_id, Get("", VERSION), page)
            yield head, gathered
            if len(gathered.members) < _PAGE:
                return
            known = (*page.known, *gathered.linked)[-_KNOWN:]
            page = page._replace(after=gathered.members[-1], known=known)

    async def _size(self, thread_id: str, names: set[str]) -> int:
        total = 0
        for some in chunks(list(names), _FIELDS):
            total += sum(map(len, (await self._threads.fetch(thread_id, some)).values()))
        return total


def _overtaken(whole: Whole) -> set[str]:
    """Writes without a checkpoint, where a later checkpoint tells that none will come."""
    latest: dict[str, str] = {}
    for one in whole.every.values():
        latest[one.namespace] = max(one.checkpoint_id, latest.get(one.namespace, ""))
    found = set()
    for member in whole.orphans:
        namespace, checkpoint_id = parts_of(member)
        if checkpoint_id < latest.get(namespace, ""):
            found.add(member)
    return found
