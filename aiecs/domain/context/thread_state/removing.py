"""Taking checkpoints out of a thread that others go on writing to.

Each batch is guarded by the thread's version. When somebody has written since, what is there now is
looked at once more: members that were not known stay, with what they are rebuilt from, and no name
goes that anything refers to which stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from aiecs.core.errors import ConflictError
from aiecs.core.interface.store import (
    Delete,
    Gather,
    Gathered,
    Get,
    GroupMissing,
    GuardFailed,
    Incr,
    IndexDelete,
    IndexRange,
    Op,
    Put,
    RequireEquals,
)
from aiecs.domain.context.thread_state.cache import KEY_BYTES
from aiecs.domain.context.thread_state.names import space_of
from aiecs.domain.context.thread_state.reach import (
    Kept,
    ancestors_needed,
    kept_of,
    names_of_writes,
    reached,
)
from aiecs.domain.context.thread_state.thread_records import ThreadRecords, chunks, slice_of

VERSION = ("ek", "n", "wn")
_PAGE = 200
_LISTED = 1000
_FIELDS = 1000
_MEMBERS_AT_ONCE = 500
_NAMES_AT_ONCE = 4000
_ATTEMPTS = 200
_PAUSE = 0.002

Head = list[bytes | None]


class Whole(NamedTuple):
    """What was read of a thread: its version, its checkpoints, the names in writes without one."""

    head: Head
    every: dict[str, Kept]
    orphans: dict[str, set[str]]
    nodes: dict[str, bytes]

    def take(self, gathered: Gathered) -> None:
        """Add what was gathered of maps `d` and `w`."""
        self.nodes.update(gathered.linked)
        self.every.update({found.member: kept_of(found) for found in slice_of(gathered).found})
        rows = zip(gathered.members, *gathered.values, strict=True)
        self.orphans.update({row[0]: names_of_writes(row[2]) for row in rows if row[1] is None})

    def names(self, without: set[str]) -> Iterator[str]:
        """What the others refer to."""
        for member, one in self.every.items():
            if member not in without:
                yield from one.names
        for member, names in self.orphans.items():
            if member not in without:
                yield from names


class Removal:
    """Removes `gone` members of a thread, and `dead` names, as far as that still holds."""

    def __init__(
        self, threads: ThreadRecords, thread_id: str, whole: Whole, gone: set[str], dead: set[str]
    ) -> None:
        self._threads = threads
        self._thread_id = thread_id
        self._whole = whole
        self._head = whole.head
        self._members = sorted(gone)
        self._names = sorted(dead)

    async def run(self, going: set[str], *, ancestors: bool) -> set[str]:
        """The checkpoints of `going` that were removed; others of the members are writes alone."""
        removed: set[str] = set()
        tried = 0
        try:
            while self._members or self._names:
                some = self._members[:_MEMBERS_AT_ONCE]
                few = self._names[:_NAMES_AT_ONCE] if len(self._members) <= len(some) else []
                checkpoints = [member for member in some if member in going]
                try:
                    await self._batch(some, few, checkpoints, told=not ancestors)
                except GroupMissing:
                    break  # the thread has gone
                except GuardFailed:
                    tried += 1
                    if tried == _ATTEMPTS:
                        message = f"thread {self._thread_id!r} is written to all the time"
                        raise ConflictError(message) from None
                    if not await self._catch_up(ancestors=ancestors):
                        break
                    continue
                removed.update(checkpoints)
                self._members, self._names = self._members[len(some) :], self._names[len(few) :]
                tried = 0
        finally:
            self._threads.caches.forget(self._thread_id)
        return removed

    async def _batch(
        self, members: list[str], names: list[str], checkpoints: list[str], *, told: bool
    ) -> None:
        """In a thread of the version that was seen."""
        state = self._head[0] or b""
        pairs = zip(VERSION, self._head, strict=True)
        ops: list[Op] = [RequireEquals("", field, value) for field, value in pairs]
        ops.append(Incr("", {"n": 1, "gn": -len(checkpoints)}))
        if names:
            state = state[:KEY_BYTES] + b"%d" % (int(state[KEY_BYTES:] or 0) + 1)
            ops.append(Put("", {"ek": state}))
        if members:
            fields = tuple(members)
            ops += [Delete("d", fields), Delete("w", fields), IndexDelete("p", fields)]
        ops += [Delete("e", tuple(some)) for some in chunks(names, _FIELDS)]
        wanted = checkpoints if told else []
        await self._threads.remove(self._thread_id, ops, len(checkpoints), wanted)
        self._head = [state, b"%d" % (int(self._head[1] or 0) + 1), self._head[2]]

    async def _catch_up(self, *, ancestors: bool) -> bool:
        """Look at what is there now, at one moment; False if the thread is another by now."""
        for attempt in range(_ATTEMPTS):
            listed = await self._list()
            if listed is not None:
                head, members = listed
                if (head[0] or b"")[:KEY_BYTES] != (self._head[0] or b"")[:KEY_BYTES]:
                    return False
                going = set(self._members)
                stays = await self._stays([one for one in members if one not in going], head)
                if stays is not None and not (ancestors and self._spares(stays)):
                    alive = reached(stays.names(set()), self._whole.nodes | stays.nodes)
                    self._names = [name for name in self._names if name not in alive]
                    self._head = head
                    return True
            await asyncio.sleep(_PAUSE * (attempt % 8))
        raise ConflictError(f"thread {self._thread_id!r} is written to all the time")

    def _spares(self, stays: Whole) -> bool:
        """Whether members have to stay for what stays; they are to be looked at as well then."""
        needed = ancestors_needed(stays.every, self._whole.every | stays.every)
        before = len(self._members)
        self._members = [member for member in self._members if member not in needed]
        return len(self._members) < before

    async def _list(self) -> tuple[Head, list[str]] | None:
        """The version and the members; None when they changed under way."""
        found: list[tuple[str, int]] = []
        head: Head | None = None
        while True:
            cursor = found[-1] if found else None
            page = IndexRange("p", limit=_LISTED, cursor=cursor, prefix=space_of(None))
            now, some = await self._threads.read(self._thread_id, Get("", VERSION), page)
            head = head or now
            if now != head:
                return None
            found += some
            if len(some) < _LISTED:
                return head, [member for member, _ in found]

    async def _stays(self, members: Iterable[str], head: Head) -> Whole | None:
        """What these hold; None when the thread has another version by now."""
        found = Whole(head, {}, {}, {})
        for some in chunks(list(members), _PAGE):
            wanted = Gather("p", ("d", "w"), members=tuple(some), links="e")
            now, gathered = await self._threads.read(self._thread_id, Get("", VERSION), wanted)
            if now != head:
                return None
            found.take(gathered)
        return found
