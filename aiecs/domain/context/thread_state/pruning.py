"""Removing checkpoints of a thread, and whatever only they referred to.

A clean-up reads the whole thread, works out what goes, and removes it under the thread's version:
in one batch, or, if that is too much for one, first the checkpoints and then what they referred to.
The count of clean-ups in the head rises with each, so that no writer goes on believing that
something is stored which is not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import NamedTuple

from aiecs.core.errors import ConflictError
from aiecs.core.interface.store import (
    Delete,
    Gather,
    Gathered,
    Get,
    GuardFailed,
    Incr,
    IndexDelete,
    Op,
    Put,
    RequireEquals,
)
from aiecs.domain.context.thread_state.cache import KEY_BYTES
from aiecs.domain.context.thread_state.names import parts_of, space_of
from aiecs.domain.context.thread_state.reach import (
    Kept,
    ancestors_needed,
    kept_of,
    names_of_writes,
    reached,
)
from aiecs.domain.context.thread_state.thread_records import ThreadRecords, chunks, slice_of

_PAGE = 200
_KNOWN = 1000
_FIELDS = 1000
_MEMBERS_AT_ONCE = 500
_ATTEMPTS = 16
_NAMES_AT_ONCE = 4000
_VERSION = ("ek", "n", "wn")

Choose = Callable[[list[Kept]], set[str]]
Head = list[bytes | None]


class Pruned(NamedTuple):
    """What a clean-up removed, or would remove. `bytes` (of values) are counted when asked for."""

    checkpoints: int = 0
    bytes: int = 0


class _Whole(NamedTuple):
    """Everything of a thread: its version, its checkpoints, the names in writes without one."""

    head: Head
    every: dict[str, Kept]
    orphans: dict[str, set[str]]
    nodes: dict[str, bytes]

    def names(self, without: set[str]) -> Iterator[str]:
        """What the others refer to."""
        for member, one in self.every.items():
            if member not in without:
                yield from one.names
        for member, names in self.orphans.items():
            if member not in without:
                yield from names


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
        """Remove all checkpoints but the chosen ones and the `ancestors` that they need."""
        for _ in range(_ATTEMPTS):
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
            if dry or await self._remove(thread_id, whole, gone, going, dead, wanted=not ancestors):
                return Pruned(len(going), size + sum(whole.every[member].size for member in going))
        raise ConflictError(f"thread {thread_id!r} is written to all the time")

    # --- reading --------------------------------------------------------------------------------

    async def _read(self, thread_id: str) -> _Whole:
        for _ in range(_ATTEMPTS):
            pages = [page async for page in self._pages(thread_id)]
            if all(head == pages[0][0] for head, _ in pages):
                break  # nothing was written between them
        else:
            raise ConflictError(f"thread {thread_id!r} is written to all the time")
        whole = _Whole(pages[0][0], {}, {}, {})
        for _, gathered in pages:
            whole.nodes.update(gathered.linked)
            whole.every.update({found.member: kept_of(found) for found in slice_of(gathered).found})
            rows = zip(gathered.members, *gathered.values, strict=True)
            orphans = {row[0]: names_of_writes(row[2]) for row in rows if row[1] is None}
            whole.orphans.update(orphans)
        return whole

    async def _pages(self, thread_id: str) -> AsyncIterator[tuple[Head, Gathered]]:
        page = Gather("p", ("d", "w"), space_of(None), _PAGE, links="e")
        while True:
            head, gathered = await self._threads.read(thread_id, Get("", _VERSION), page)
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

    # --- removing -------------------------------------------------------------------------------

    async def _remove(
        self,
        thread_id: str,
        whole: _Whole,
        gone: set[str],
        going: set[str],
        dead: set[str],
        *,
        wanted: bool,
    ) -> bool:
        """Whether the thread was as it had been read; else nothing is removed, or names are left.

        Names that are left, because somebody wrote meanwhile, are worked out and removed anew.
        """
        members, names = sorted(gone), sorted(dead)
        head, first = whole.head, True
        try:
            while members or names:
                some = members[:_MEMBERS_AT_ONCE]
                members = members[_MEMBERS_AT_ONCE:]
                few = [] if members else names[: _NAMES_AT_ONCE - 3 * len(some)]
                names = names[len(few) :]
                checkpoints = [member for member in some if member in going]
                head, ops = _removing(head, some, few, len(checkpoints))
                told = checkpoints if wanted else []
                await self._threads.remove(thread_id, ops, len(checkpoints), told)
                first = False
        except GuardFailed:
            return False
        finally:
            if not first:
                self._threads.caches.forget(thread_id)
        return True


def _removing(
    head: Head, members: list[str], names: list[str], checkpoints: int
) -> tuple[Head, list[Op]]:
    """What removes these from a thread of that version, and the version that it has then."""
    state = _next(head[0] or b"")
    ops: list[Op] = [
        *(RequireEquals("", field, value) for field, value in zip(_VERSION, head, strict=True)),
        Incr("", {"n": 1, "gn": -checkpoints}),
        Put("", {"ek": state}),
    ]
    if members:
        fields = tuple(members)
        ops += [Delete("d", fields), Delete("w", fields), IndexDelete("p", fields)]
    ops += [Delete("e", tuple(some)) for some in chunks(names, _FIELDS)]
    return [state, b"%d" % (int(head[1] or 0) + 1), head[2]], ops


def _next(state: bytes) -> bytes:
    return state[:KEY_BYTES] + b"%d" % (int(state[KEY_BYTES:] or 0) + 1)


def _overtaken(whole: _Whole) -> set[str]:
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
