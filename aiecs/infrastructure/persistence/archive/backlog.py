"""How much waits in the outboxes of a store, as writers and shippers have counted it.

Each group's home has a map for it. Writers add what they have noted a few times a second, shippers
what they have taken away. A writer that is killed, or a write that is refused, puts the sums wrong
by that much, until a shipper finds nothing left in the group and sets them equal; while there is
always something, what had been counted before a round that left nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import NamedTuple

from aiecs.core.events import Noted
from aiecs.core.interface.store import (
    NOW,
    Batch,
    Clock,
    Delete,
    Get,
    GuardFailed,
    Incr,
    Op,
    Put,
    Read,
    RequireEquals,
    Store,
)
from aiecs.infrastructure.persistence.archive.leases import GROUPS, Lease, home_of

DEAD = "_dead"

_KEY = "_flow"
_FIELDS = ("events in", "bytes in", "events out", "bytes out", "oldest", "dropped")


class Backlog(NamedTuple):
    """What waits. `oldest` is the age, in seconds, of the oldest of it; 0 for nothing.

    `dead` events are set aside: the archive does not take them. `dropped` is how many were ever
    given up for want of room.
    """

    events: int = 0
    size: int = 0
    oldest: float = 0.0
    dead: int = 0
    dropped: int = 0

    def __add__(self, other: object) -> Backlog:
        """Of several groups together."""
        if not isinstance(other, Backlog):
            return NotImplemented
        return Backlog(
            self.events + other.events,
            self.size + other.size,
            max(self.oldest, other.oldest),
            self.dead + other.dead,
            self.dropped + other.dropped,
        )


async def waiting(store: Store) -> Backlog:
    """What waits in all groups."""
    found = await asyncio.gather(*(waiting_in(store, group) for group in range(GROUPS)))
    return sum(found, Backlog())


async def waiting_in(store: Store, group: int) -> Backlog:
    """What waits in one group."""
    ops = (Get(_KEY, _FIELDS), Read(DEAD, stop=0), Clock())
    results = await store.apply(Batch(home_of(group), "", ops))
    fields, dead, now = results or ([None] * len(_FIELDS), None, 0)
    come, come_size, gone, gone_size, oldest, dropped = (int(field or 0) for field in fields)
    return Backlog(
        max(0, come - gone),
        max(0, come_size - gone_size) if come > gone else 0,
        max(0, now - oldest) / 1_000_000 if oldest else 0.0,
        dead.next - dead.base if dead else 0,
        dropped,
    )


async def add(store: Store, group: int, noted: Noted) -> None:
    """Count what has been written."""
    come = Incr(_KEY, {"events in": noted.events, "bytes in": noted.size})
    since = Put(_KEY, {"oldest": NOW}, if_absent="skip")
    await store.apply(Batch(home_of(group), "", (come, since)))


# --- for whoever holds the lease ------------------------------------------------------------------


def since(oldest: int) -> Op:
    """Note the time, in microseconds, of the oldest event that waits."""
    return Put(_KEY, {"oldest": b"%d" % oldest})


def done(events: int, size: int) -> Op:
    """Count what has been taken away."""
    return Incr(_KEY, {"events out": events, "bytes out": size})


def dropped(events: int) -> Op:
    """Count what is about to be given up."""
    return Incr(_KEY, {"dropped": events})


class Sums(NamedTuple):
    """What has come and gone in one group, for `settle`; sizes in bytes."""

    come: int
    come_size: int
    gone: int
    gone_size: int
    oldest: int

    @property
    def waiting_size(self) -> int:
        """Bytes that wait."""
        return max(0, self.come_size - self.gone_size)

    @property
    def average(self) -> int:
        """Bytes of an event that waits, about."""
        waiting = self.come - self.gone
        return self.waiting_size // waiting if waiting > 0 else self.come_size // max(1, self.come)


async def counted(store: Store, group: int) -> Sums:
    """The sums as they are."""
    results = await store.apply(Batch(home_of(group), "", (Get(_KEY, _FIELDS[:5]),)))
    return Sums(*(int(field or 0) for field in (results or [[0] * 5])[0]))


async def all_gone(lease: Lease, sums: Sums) -> None:
    """Set the sums right though they never rest: nothing that was counted then still waits."""
    await lease.apply(*_even(sums))


async def settle(lease: Lease, sums: Sums) -> None:
    """Set the sums right: nothing waits. In vain when something has been counted since."""
    if sums[:2] == sums[2:4] and not sums.oldest:
        return
    same = RequireEquals(_KEY, "events in", b"%d" % sums.come)
    with suppress(GuardFailed):
        await lease.apply(same, *_even(sums))


def _even(sums: Sums) -> tuple[Op, ...]:
    even = {"events out": b"%d" % sums.come, "bytes out": b"%d" % sums.come_size}
    return (Put(_KEY, even), Delete(_KEY, ("oldest",)))
