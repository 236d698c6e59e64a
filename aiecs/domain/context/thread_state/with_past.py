"""A thread's records together with those that only the archive has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aiecs.core.cold import ColdCheckpoint, WantedCheckpoints
from aiecs.core.interface.store import Gather, Op
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.thread_state import records
from aiecs.domain.context.thread_state.cache import Caches, ThreadCache
from aiecs.domain.context.thread_state.names import member_of, parts_of
from aiecs.domain.context.thread_state.past import Past, Pasts
from aiecs.domain.context.thread_state.thread_records import Found, Slice, ThreadRecords
from aiecs.domain.context.threads import Threads

_CACHE_BYTES = 16 * 1024 * 1024
_ALL = 1_000_000


class WithPast(ThreadRecords):
    """Reads threads as if nothing had ever been pruned or had expired. For one caller's call.

    What it remembers is its own: nobody is to rely on it when writing. Reads raise
    `ArchiveUnavailableError` when the archive does not answer.
    """

    def __init__(self, runtime: Runtime, threads: Threads, pasts: Pasts) -> None:
        super().__init__(runtime, threads, Caches(_CACHE_BYTES))
        self._pasts = pasts
        self._past: Past | None = None

    async def gather(
        self, thread_id: str, wanted: Gather, *others: Op
    ) -> tuple[ThreadCache, Slice, list[object]]:
        """As of the thread alone; archived checkpoints stand in their places among the others."""
        cache, some, results = await super().gather(thread_id, wanted, *others)
        self._past = await self._pasts.of(thread_id)
        cold = await self._past.checkpoints(_asked(wanted))
        there = {found.member for found in some.found}
        added = [found for found in map(_found, cold) if found.member not in there]
        if added:
            manifests = [m for one in added for m in records.unpack(one.record)[1].values()]
            nodes = [node for manifest in manifests for node in manifest.nodes]
            await self.load_nodes(thread_id, cache.nodes, nodes)
        return cache, _merged(wanted, some, added), results

    async def before(
        self, thread_id: str, wanted: Gather, space: str, most: int
    ) -> tuple[ThreadCache, Slice, list[str]]:
        """As of the thread alone, with archived ones."""
        cache, some, members = await super().before(thread_id, wanted, space, most)
        if not some.found or self._past is None:
            return cache, some, members
        namespace, checkpoint_id = parts_of(some.found[0].member)
        older = WantedCheckpoints("", (), namespace, checkpoint_id, limit=most, bare=True)
        archived = map(_member, await self._past.checkpoints(older))
        return cache, some, sorted({*members, *archived}, reverse=True)[:most]

    async def rows(
        self, thread_id: str, members: Sequence[str]
    ) -> dict[str, tuple[bytes | None, bytes | None]]:
        """As of the thread alone, with archived ones."""
        found = await super().rows(thread_id, members)
        names = tuple(parts_of(member) for member, row in found.items() if row[0] is None)
        if names and self._past is not None:
            wanted = WantedCheckpoints("", (), names=names, limit=len(names))
            for one in await self._past.checkpoints(wanted):
                found[_member(one)] = one.record, one.writes or None
        return found

    async def fetch(self, thread_id: str, names: Sequence[str]) -> dict[str, bytes]:
        """What is stored under names, here or in the archive."""
        found = await super().fetch(thread_id, names)
        missing = [name for name in names if name not in found]
        if missing and self._past is not None:
            found |= await self._past.parts(missing)
        return found

    async def members(self, thread_id: str) -> list[str]:
        """The members of all checkpoints of a thread, in their order."""
        members = await super().members(thread_id)
        past = await self._pasts.of(thread_id)
        archived = await past.checkpoints(WantedCheckpoints("", (), limit=_ALL, bare=True))
        return sorted({*members, *map(_member, archived)})


def _asked(wanted: Gather) -> WantedCheckpoints:
    if wanted.members:
        names = tuple(parts_of(member) for member in wanted.members)
        return WantedCheckpoints("", (), names=names, limit=len(names))
    namespace, _ = parts_of(wanted.prefix)
    before = parts_of(wanted.after)[1] if wanted.after else ""
    return WantedCheckpoints("", (), namespace, before, limit=wanted.limit)


def _merged(wanted: Gather, some: Slice, added: Iterable[Found]) -> Slice:
    waiting = dict(zip(some.members, some.waiting, strict=True))
    found = {one.member: one for one in some.found}
    for one in added:
        found[one.member] = one
        waiting[one.member] = one.writes
    members = sorted(waiting, reverse=True)[: wanted.limit]
    if wanted.members:
        members = [member for member in wanted.members if member in waiting]
    return Slice(
        members, [found[m] for m in members if m in found], [waiting[member] for member in members]
    )


def _member(one: ColdCheckpoint) -> str:
    return member_of(one.namespace, one.checkpoint_id)


def _found(one: ColdCheckpoint) -> Found:
    return Found(_member(one), one.record, one.writes or None)
