"""Moving one group: what is to be done with it, and doing it until both sides agree."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from aiecs.core.errors import ConflictError, CorruptRecordError
from aiecs.core.events import Events
from aiecs.core.interface.store import (
    Batch,
    CorruptField,
    IndexPut,
    LogSlice,
)
from aiecs.domain.context.groups import make_room, retire_thread
from aiecs.domain.context.indexes import (
    announce_session,
    announce_thread,
    session_shard,
    sessions_of,
    thread_shard,
)
from aiecs.domain.context.item_places import Directory
from aiecs.domain.context.migration.counting import Tally
from aiecs.domain.context.migration.parts import Group, names_in
from aiecs.domain.context.migration.reading import Head, Reader, RestlessError
from aiecs.domain.context.migration.telling import Telling
from aiecs.domain.context.migration.writing import (
    OWN,
    Begun,
    GroupWriter,
    is_open,
    moved_at,
    was_whole,
)
from aiecs.domain.context.runtime import Runtime

_ATTEMPTS = 8
_SESSION_BYTES = 512
ABSENT_LOG = LogSlice("", 0, 0, 0, [])


class Outcome(StrEnum):
    """What became of a group."""

    MOVED = "moved"
    """It was not in the target, or not all of it."""
    CONTINUED = "continued"
    """The target had it as it was; the source has changed since."""
    KNOWN = "known"
    """The target has it as the source does."""
    NEWER = "newer"
    """It was moved before, and has been written to in the target since: it stays as it is there."""
    ABSENT = "absent"
    """The source has it no more: expired, or removed meanwhile."""


class Mover:
    """Moves groups from one store into another, byte by byte."""

    def __init__(self, source: Runtime, target: Runtime, events: Events) -> None:
        self.source = Reader(source)
        self.target = Reader(target)
        self._runtime = target
        self._events = events
        self._directory = Directory(target)
        self.tally = Tally(target.counters)

    async def move(self, group: Group, *, again: bool = False) -> Outcome:
        """Bring a group to the target as the source has it.

        `again`: even where the heads say that it is there, for not all that changes shows in them.
        `ConflictError` when the target has another one of that name, or when both have been
        written to; it stays as it is there. `CorruptRecordError` for what a store cannot read.
        """
        moved = False
        for _ in range(_ATTEMPTS):
            try:
                head = await self.source.head(group)
                if not _is_there(head):
                    return Outcome.ABSENT
                held = await self.target.head(group)
                outcome = _due(group, head.fields, held)
                if outcome is Outcome.NEWER or (outcome is Outcome.KNOWN and not again):
                    return Outcome.MOVED if moved else outcome
                await self._copy(group, head, held)
                moved, again = True, False
                if _same(head.fields, (await self.source.head(group)).fields):
                    return outcome
            except RestlessError:
                moved = True
            except Begun as answer:
                if answer.expired:
                    await self._clear(group)
            except CorruptField:
                raise CorruptRecordError(f"{group.kind} {group.name!r} cannot be read") from None
        raise ConflictError(f"{group.kind} {group.name!r} changes all the time")

    async def _copy(self, group: Group, head: Head, held: Head) -> None:
        is_new = not held.fields
        writer = GroupWriter(
            self._runtime,
            self._events,
            group,
            head.fields,
            held.fields,
            ttl=self._lifetime(group, head),
            deadline=await self._announce(group, head.fields) if is_new else None,
        )
        is_half = is_open(held.fields) and not was_whole(held.fields)
        counted = self.tally.of(group, head.fields, {} if is_half else held.fields)
        telling = Telling(self._runtime, self._events, group, head.fields)
        await writer.tell(telling.begin(is_new=is_new), _SESSION_BYTES)
        surplus = {} if is_new else await self._kept(group)
        counted.before = 0 if is_half else len(surplus.get("d", ()))
        async for part in self.source.maps(group):
            surplus.get(part.key, set()).difference_update(names_in(part))
            counted.see(part)
            for events, size in telling.parts(part):
                await writer.tell(events, size)
            await writer.add(part)
        for key in await self.source.logs(group):
            ids = telling.ids(key) if self._events.wanted else ()
            there = ABSENT_LOG if is_new else await self.target.bounds(group, key)
            counted.messages += await self._log(writer, group, key, ids, there)
            counted.messages += there.next - there.base if is_half else 0
        for key, names in surplus.items():
            writer.remove(key, sorted(names))
        await writer.finish()
        counted.done()
        await self._index(group, head.fields)

    async def _log(
        self, writer: GroupWriter, group: Group, key: str, ids: tuple[str, ...], there: LogSlice
    ) -> int:
        """Continue a log in the target with what it lacks; by how many items it grew."""
        start, grown = None, 0
        if there.epoch:
            wanted = await self.source.bounds(group, key)
            if _continues(wanted, there):
                start = max(there.next, wanted.base)
                if wanted.base > there.base:
                    writer.trim(key, wanted.base)
                    grown -= min(wanted.base, there.next) - there.base
            else:
                await writer.remove_log(key)
                grown -= there.next - there.base
        async for items in self.source.log(group, key, start):
            await writer.add(items, ids)
            grown += len(items.items)
        return grown

    async def _kept(self, group: Group) -> dict[str, set[str]]:
        """What the target has in maps and indexes, by key; without the contents of threads."""
        found: dict[str, set[str]] = {}
        async for part in self.target.maps(group):
            if (group.kind, part.key) != ("thread", "e"):
                found.setdefault(part.key, set()).update(names_in(part))
        return found

    # --- around it ------------------------------------------------------------------------------

    def _lifetime(self, group: Group, head: Head) -> int | None:
        """What is left of it, if groups expire in both stores; else as new ones live there."""
        target = self._runtime
        own = target.session_ttl if group.kind == "session" else target.checkpoint_ttl
        if group.kind == "namespace" or own is None:
            return None
        left = head.expires_in
        return own if left is None else max(1, left)

    async def _announce(self, group: Group, head: Mapping[str, bytes]) -> int:
        if group.kind == "session":
            return await announce_session(self._runtime, group.name, _owner(head))
        if group.kind == "thread":
            return await announce_thread(self._runtime, group.name)
        return await self._directory.enter(group.namespace)

    async def _index(self, group: Group, head: Mapping[str, bytes]) -> None:
        """Let the indexes say when it was last active: it stands there as of now."""
        last = head.get("l", b"")
        if group.kind == "namespace" or not last.isdigit():
            return
        places = [(session_shard if group.kind == "session" else thread_shard)(group.name)]
        if group.kind == "session" and _owner(head):
            places.append(sessions_of(_owner(head)))
        for place in places:
            entry = IndexPut(place.key, {group.name: int(last)})
            await self._runtime.apply(Batch(place.bucket, "", (entry,)))

    async def _clear(self, group: Group) -> None:
        """Do away with an expired one of that name in the target."""
        if group.kind == "session":
            await make_room(self._runtime, group.name)
        elif group.kind == "thread":
            await retire_thread(self._runtime, group.name)


def _due(group: Group, head: Mapping[str, bytes], held: Head) -> Outcome:
    """What is to be done about what the target has."""
    if not held.fields:
        return Outcome.MOVED
    ends = held.expires_in
    if ends is not None and ends <= 0 and "gone" not in head:
        raise Begun(expired=True)
    if held.fields.get("~i") != head["~i"]:
        raise ConflictError(f"the target has another {group.kind} {group.name!r}; it stays")
    last, here = head.get(group.changes), held.fields.get(group.changes)
    if is_open(held.fields):
        if here == moved_at(held.fields):
            return Outcome.MOVED
        raise ConflictError(
            f"{group.kind} {group.name!r} was written to in the target before all of it was there: "
            "remove it there, and move it again"
        )
    if _same(head, held.fields):
        return Outcome.KNOWN
    if here in (moved_at(held.fields), moved_at(head)):
        return Outcome.CONTINUED
    if last == moved_at(held.fields):
        return Outcome.NEWER
    raise ConflictError(f"both have written to {group.kind} {group.name!r}; it stays in the target")


def _is_there(head: Head) -> bool:
    """Whether there is something to move: alive, or kept for the sake of its threads."""
    left = head.expires_in
    return "~i" in head.fields and (left is None or left > 0 or "gone" in head.fields)


def _same(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> bool:
    return {k: v for k, v in one.items() if k not in OWN or k == "~i"} == {
        k: v for k, v in other.items() if k not in OWN or k == "~i"
    }


def _continues(source: LogSlice, there: LogSlice) -> bool:
    """Whether what the target has is the beginning of what the source has."""
    reaches = there.base <= source.base <= there.next <= source.next
    return reaches and source.epoch == there.epoch


def _owner(head: Mapping[str, bytes]) -> str:
    return head.get("u", b"").decode(errors="replace")
