"""Who ships the events of a group of buckets: one process at a time, by the store's clock.

The buckets are four groups, each with a home bucket whose map `_ship` holds the lease: the holder,
until when (microseconds), and a fencing number that rises with every change of hands. Every write
of a holder to its home requires the number to be its own, so that one who was away too long and
does not know it changes nothing. Cutting an outbox needs no such guard: it names the sequence up to
which everything is in the archive, and that stays true whoever says it.
"""

from __future__ import annotations

from contextlib import suppress

from aiecs.core.interface.store import (
    NOW,
    Batch,
    Clock,
    Get,
    Guard,
    GuardFailed,
    Incr,
    Op,
    Put,
    RequireAtMost,
    RequireEquals,
    Store,
    now_plus,
)
from aiecs.core.keys import bucket_of

GROUPS = 4
LEASE_SECONDS = 15.0

_KEY = "_ship"
_SPAN = round(LEASE_SECONDS * 1_000_000)


def group_of(bucket: int) -> int:
    """The group that a bucket belongs to."""
    return bucket % GROUPS


def home_of(group: int) -> int:
    """The bucket that holds a group's lease, manifest and hints."""
    return bucket_of(f"archive group {group}")


async def held(store: Store) -> int:
    """How many groups somebody ships now."""
    count = 0
    for group in range(GROUPS):
        results = await store.apply(Batch(home_of(group), "", (Get(_KEY, ("until",)), Clock())))
        (until,), now = results or ((None,), 0)
        count += int(until or 0) > now
    return count


class Lease:
    """A group that this holder ships, for at most 15 s more unless it is renewed."""

    def __init__(self, store: Store, group: int, holder: str, fence: int) -> None:
        self.group = group
        self.home = home_of(group)
        self.holder = holder
        self._store = store
        self._mine: Guard = RequireEquals(_KEY, "fence", b"%d" % fence)

    @classmethod
    async def take(cls, store: Store, group: int, holder: str) -> Lease | None:
        """The lease of a group, None while another holder has it."""
        mine = Put(_KEY, {"holder": holder.encode(), "until": now_plus(_SPAN)})
        free = RequireAtMost(_KEY, "until", NOW)
        fence = Incr(_KEY, {"fence": 1})
        home = home_of(group)
        for ops in ((free, mine, fence), (mine._replace(if_absent="abort"), fence)):
            with suppress(GuardFailed):
                results = await store.apply(Batch(home, "", ops))
                number = results[-1][0] if results else await _fence(store, home, holder)
                return None if number is None else cls(store, group, holder, number)
        return None

    async def renew(self) -> bool:
        """Have it for 15 s more; False when it has changed hands."""
        return await self.apply(Put(_KEY, {"until": now_plus(_SPAN)}))

    async def give_back(self) -> None:
        """Let the next holder have it at once."""
        await self.apply(Put(_KEY, {"until": b"0"}))

    async def apply(self, *ops: Op) -> bool:
        """Write to the group's home; False, and nothing is written, when it has changed hands."""
        try:
            await self._store.apply(Batch(self.home, "", (self._mine, *ops)))
        except GuardFailed:
            return False
        return True


async def _fence(store: Store, home: int, holder: str) -> int | None:
    """The number of this holder; None when it has changed hands again already."""
    results = await store.apply(Batch(home, "", (Get(_KEY, ("fence", "holder")),)))
    ((number, found),) = results or ((None, None),)
    return int(number) if number and found == holder.encode() else None
