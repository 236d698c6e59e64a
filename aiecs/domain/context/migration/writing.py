"""Putting a group's parts into another store: in one batch where they fit, else guarded by a mark.

The mark `mg` stands in the head of what was moved, and says which write was its last in the source:
as long as the head's own says the same, nobody has written to it here. While parts are missing,
`+n ` stands in front (`+cn ` where it was whole before), counted up by each batch, so that of two
movers only one goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from aiecs.core.errors import ConflictError
from aiecs.core.events import Events
from aiecs.core.interface.store import (
    Batch,
    Delete,
    Expire,
    GroupExpired,
    GroupMissing,
    GuardFailed,
    Op,
    Put,
    RequireBefore,
    RequireEquals,
)
from aiecs.domain.context.migration.buffer import Buffer, size_of
from aiecs.domain.context.migration.parts import Group, Part, in_parts
from aiecs.domain.context.runtime import Runtime

MARK = "mg"
#: What belongs to the store that a head lies in, and is not moved with it.
OWN = frozenset({"~i", "~x", MARK})


class Begun(Exception):  # noqa: N818 - an answer: look again
    """Somebody else has made the group in the meantime, or its remains stand in the way."""

    def __init__(self, *, expired: bool = False) -> None:
        super().__init__("begun by somebody else")
        self.expired = expired


class GroupWriter:
    """Writes one group. `before`: the head that the target has, empty for none.

    `ttl` is the group's lifetime from now in microseconds, None for ever. `deadline` is the time by
    which it has to be created (the target's clock, microseconds).
    """

    def __init__(
        self,
        runtime: Runtime,
        events: Events,
        group: Group,
        head: Mapping[str, bytes],
        before: Mapping[str, bytes],
        *,
        ttl: int | None,
        deadline: int | None,
    ) -> None:
        self._runtime = runtime
        self._events = events
        self._group = group
        self._head = head
        self._before = dict(before)
        self._ttl = ttl
        self._deadline = deadline
        self._was_whole = bool(before) and (not is_open(before) or was_whole(before))
        self._buffer = Buffer()

    async def add(self, part: Part, ids: tuple[str, ...] = ()) -> None:
        """Take up a part; it is written with others. `ids`: what events of its items name."""
        if self._buffer.is_full_with(size_of(part)):
            await self._flush(unfinished=True)
        self._buffer.add(part, ids)

    async def tell(self, events: Sequence[Op], size: int) -> None:
        """Take up events of so many bytes, for the archive of the target."""
        if events and self._buffer.is_full_with(size):
            await self._flush(unfinished=True)
        self._buffer.tell(events, size)

    def trim(self, key: str, before: int) -> None:
        """Let a log begin at that sequence, as in the source."""
        self._buffer.trim(key, before)

    def remove(self, key: str, names: Iterable[str]) -> None:
        """Take out what the source does not have."""
        self._buffer.remove(key, names)

    async def remove_log(self, key: str) -> None:
        """Remove a log that was rewound or redacted in the source, to be told anew."""
        self._buffer.remove_log(key)
        await self._flush(unfinished=True)

    async def finish(self) -> None:
        """Write what is left: now it is what the source has."""
        await self._flush(unfinished=False)

    async def _flush(self, *, unfinished: bool) -> None:
        fields, vanished = self._next(unfinished=unfinished)
        ops: list[Op] = []
        if not self._before:
            first, *rest = in_parts("", {"~i": self._head["~i"], **fields})
            before = () if self._deadline is None else (RequireBefore(self._deadline),)
            ops += [Put("", first.fields, if_absent="abort"), *before]
            ops += [Put("", part.fields) for part in rest]
        else:
            watched = (MARK, self._group.changes)
            ops += [RequireEquals("", name, self._before.get(name)) for name in watched]
            ops += [Put("", part.fields) for part in in_parts("", fields)]
            ops += [Delete("", vanished)] if vanished else []
        ops += [*self._buffer.take(len(ops), self._events), Expire(self._ttl)]
        try:
            await self._runtime.apply(Batch(*self._group.place, tuple(ops)))
        except GroupExpired:
            raise Begun(expired=True) from None
        except GroupMissing:
            raise Begun from None
        except GuardFailed:
            if not self._before:
                raise Begun from None
            kind, name = self._group.kind, self._group.name
            raise ConflictError(f"{kind} {name!r} is written to in the target meanwhile") from None
        self._before |= {"~i": self._head["~i"], **fields}

    def _next(self, *, unfinished: bool) -> tuple[dict[str, bytes], tuple[str, ...]]:
        """What the head becomes with the next batch, and what goes from it."""
        last = self._head.get(self._group.changes, b"")
        moved = {name: value for name, value in self._head.items() if name not in OWN}
        if unfinished:
            number = int(_parts(self._before)[0] or 0) + 1
            whole = b"c" if self._was_whole else b""
            return {**moved, MARK: b"+%b%d %b" % (whole, number, last)}, ()
        vanished = tuple(name for name in self._before if name not in OWN and name not in moved)
        return {**moved, MARK: last}, vanished


def is_open(head: Mapping[str, bytes]) -> bool:
    """Whether parts of what was moved here are missing."""
    return head.get(MARK, b"").startswith(b"+")


def was_whole(head: Mapping[str, bytes]) -> bool:
    """Whether what is half there now had been whole before."""
    return head.get(MARK, b"").startswith(b"+c")


def moved_at(head: Mapping[str, bytes]) -> bytes | None:
    """Which write was the last when it was moved; None for what was not moved here."""
    return _parts(head)[1] if MARK in head else None


def _parts(head: Mapping[str, bytes]) -> tuple[bytes, bytes]:
    """The number of the last batch, if parts are missing; and the write."""
    mark = head.get(MARK, b"")
    number, _, last = mark[1:].partition(b" ") if is_open(head) else (b"", b"", mark)
    return number.lstrip(b"c"), last
