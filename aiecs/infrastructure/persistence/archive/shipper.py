"""Brings events into the archive: each once, for ever trying, and off the path of every write.

A shipper holds the leases of groups of buckets and goes round them: gather what lies in the
outboxes, freeze a manifest, deliver, note that it arrived, cut the outboxes. It can end anywhere;
whoever takes the lease next goes on from the manifest. What the archive's errors mean for it:
"unavailable" is waited for, rows that are refused go into a log of their own, a wrong password or
schema is an alarm and is tried again now and then, for somebody may mend it. While the archive does
not answer no lease is held: another process may be able to reach it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from aiecs.core.errors import (
    ArchiveError,
    ArchiveUnavailableError,
    ContextEngineError,
    StoreError,
)
from aiecs.core.interface.store import Store
from aiecs.infrastructure.persistence.archive import backlog, erasing, manifests
from aiecs.infrastructure.persistence.archive.delivery import MOST_BYTES, MOST_ROWS, Dead
from aiecs.infrastructure.persistence.archive.destination import Destination
from aiecs.infrastructure.persistence.archive.gate import Gate
from aiecs.infrastructure.persistence.archive.leases import GROUPS, LEASE_SECONDS, Lease, group_of
from aiecs.infrastructure.persistence.archive.manifests import Manifest
from aiecs.infrastructure.persistence.archive.outboxes import Outboxes
from aiecs.infrastructure.persistence.archive.rows import Shipped

logger = logging.getLogger("aiecs.archive")

_SUSPECT_AFTER = 5
_STORE_PAUSE = 1.0
_FORGOTTEN = 60.0
"""Seconds after which a deletion is looked for that no event has led to."""
_SETTLED_EVERY = 60.0
"""Seconds between two counts that are set right under way."""
_GIVEN_UP = 0.05
"""The share of what waits that is given up at once for want of room."""
_LOOK_AROUND = 64
"""Buckets of a group that are looked at in each round without a hint."""


class Progress(NamedTuple):
    """What a shipper has done since it was made."""

    shipped: int = 0
    dead: int = 0
    dropped: int = 0
    failures: int = 0
    alarm: str = ""
    """Why it cannot go on without help; "" when it can."""
    trouble: str = ""
    """What went wrong last; "" since something arrived."""


class Shipper:
    """Ships the events of one store.

    `excess` tells whether so much waits that the oldest has to be given up.
    """

    def __init__(
        self,
        store: Store,
        destination: Destination,
        *,
        linger: float = 2.0,
        excess: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self._destination = destination
        #: Set when nothing more is to be waited for.
        self._ending = asyncio.Event()
        self._stopping = False
        self._opening = asyncio.Lock()
        self._opened = False
        self._groups = [_Group(store, number) for number in range(GROUPS)]
        self._store = store
        self._linger = linger
        self._excess = excess
        self._holder = secrets.token_hex(8)
        self.gate = Gate()
        self.progress = Progress()

    async def run(self) -> None:
        """Ship until `stop` or `finish` is called."""
        async with asyncio.TaskGroup() as tasks:
            for group in self._groups:
                tasks.create_task(self._ship_for_ever(group))

    def stop(self) -> None:
        """End after what is under way."""
        self._stopping = True
        self.finish()

    def finish(self) -> None:
        """End when nothing is left, or when it cannot be brought in now."""
        self._ending.set()
        self.hurry()

    def hurry(self) -> None:
        """Do not wait for more events now."""
        for group in self._groups:
            group.hurry.set()

    def note(self, buckets: Iterable[int]) -> set[int]:
        """Look into these buckets; those that this shipper does not hold are returned."""
        left = set()
        for bucket in buckets:
            group = self._groups[group_of(bucket)]
            if group.held:
                group.noted.add(bucket)
            else:
                left.add(bucket)
        return left

    # --- one group ------------------------------------------------------------------------------

    async def _ship_for_ever(self, group: _Group) -> None:
        while not self._stopping:
            try:
                await self._relieve(group)
                await self._open()
                await self._hold(group)
            except Exception as error:  # noqa: BLE001 - nobody else would ship on
                self._failed(error)
                if not self._ending.is_set():
                    of_archive = isinstance(error, ArchiveError)
                    await self._pause(self.gate.pause if of_archive else _STORE_PAUSE)
            if self._ending.is_set():
                return

    async def _open(self) -> None:
        """Make sure that the archive is there; one asks for all."""
        async with self._opening:
            if not self._opened:
                await self._destination.open()
                self._opened = True

    async def _hold(self, group: _Group) -> None:
        """Ship a group as long as its lease is ours."""
        lease = await Lease.take(self._store, group.number, self._holder)
        if lease is None:
            await group.wait(LEASE_SECONDS / 3)
            return
        keeping = asyncio.create_task(_keep(lease))
        group.held = True
        try:
            await self._resume(lease, group)
            while not self._stopping and not keeping.done():
                await self._give_up(lease, group)
                if await self._round(lease, group):
                    continue
                if self._ending.is_set():
                    return
                await group.wait(self._linger)
        finally:
            group.held = False
            keeping.cancel()
            with suppress(StoreError):  # then it runs out by itself
                await lease.give_back()

    async def _resume(self, lease: Lease, group: _Group) -> None:
        """Finish what an earlier holder has begun."""
        manifest = await manifests.found(self._store, lease.home)
        if manifest is not None:
            items = await group.outboxes.read(manifest.ranges)
            await self._finish(lease, group, manifest, items)

    async def _round(self, lease: Lease, group: _Group) -> bool:
        """Ship what there is, up to one manifest; whether there is more."""
        sums = await backlog.counted(self._store, group.number)
        noted, group.noted = group.noted, set()
        left = noted
        try:
            hints = await group.outboxes.hinted()
            places = group.outboxes.next_places(group.may_look(self._linger))
            seen = await group.outboxes.look(places)
            await self._erase(seen.deletions, older=_FORGOTTEN)
            left = noted = noted.union(seen.holding)
            buckets = list(dict.fromkeys((*hints, *noted)))
            gathered = await group.outboxes.gather(buckets, MOST_ROWS, MOST_BYTES, sums.average)
            if gathered.items:
                manifest = gathered.drawn_up()
                if not await manifests.freeze(lease, manifest):
                    return False
                if not await self._finish(lease, group, manifest, gathered.items):
                    return False
            left = noted.difference(gathered.drained)
            await group.outboxes.emptied({b: hints[b] for b in gathered.drained if b in hints})
        finally:
            group.noted |= left
        if not buckets:
            await backlog.settle(lease, sums)
        elif gathered.is_all and group.may_settle():
            await backlog.all_gone(lease, sums)
        return not gathered.is_all

    async def _finish(
        self, lease: Lease, group: _Group, manifest: Manifest, items: list[Shipped]
    ) -> bool:
        """Whether it was brought to its end; else somebody else has to."""
        if not manifest.sent:
            dead = await self._deliver(group, manifest, items)
            if not await manifests.mark_sent(lease, manifest, dead):
                return False
            self._arrived(len(items) - len(dead), len(dead))
        await self._erase(erasing.deletions_in(items))
        await group.outboxes.cut(manifest.ranges)
        return await manifests.close(lease, manifest)

    async def _erase(self, buckets: Collection[int], older: float = 0.0) -> None:
        """Take out of the archive what was deleted in these buckets, at least so long ago."""
        requested = await erasing.requested_in(self._store, buckets, older)
        erasures = [one for ones in requested.values() for one in ones]
        if not erasures:
            return
        await erasing.forget(self._store, erasures)
        rows = await self._destination.erase(erasures)
        for bucket, ones in requested.items():
            await erasing.note_done(self._store, bucket, {one: rows[one.name] for one in ones})

    async def _deliver(self, group: _Group, manifest: Manifest, items: list[Shipped]) -> list[Dead]:
        """Deliver until it is done, or until it seems better to let go."""
        while True:
            suspect = group.is_stuck(manifest.token)
            try:
                async with self.gate.turn():
                    dead = await self._destination.deliver(manifest.token, items, suspect=suspect)
            except ArchiveUnavailableError as error:
                group.note_failure(manifest.token, str(error))
                self.gate.failed()
                if self.gate.is_open or self._ending.is_set():
                    raise
                self._note(error)
            else:
                self.gate.succeeded()
                return dead
            await self._pause(self.gate.pause)

    async def _relieve(self, group: _Group) -> None:
        """Make room while nothing can be shipped."""
        if self._excess is None or not await self._excess():
            return
        lease = await Lease.take(self._store, group.number, self._holder)
        if lease is None:
            return
        try:
            await self._give_up(lease, group)
        finally:
            with suppress(StoreError):
                await lease.give_back()

    async def _give_up(self, lease: Lease, group: _Group) -> None:
        """Give up the oldest events of a group, as long as there are too many."""
        lost = 0
        try:
            while self._excess and await self._excess() and not self._stopping:
                manifest = await manifests.found(self._store, lease.home)
                if manifest is None:
                    manifest = await self._oldest(group)
                if manifest is None:
                    return
                if not manifest.sent and not await manifests.give_up(lease, manifest):
                    return
                await group.outboxes.cut(manifest.ranges)
                await manifests.close(lease, manifest)
                lost += 0 if manifest.sent else manifest.events
        finally:
            self._dropped(lost)

    async def _oldest(self, group: _Group) -> Manifest | None:
        """Some of the oldest events of a group, None when it has none that are known."""
        sums = await backlog.counted(self._store, group.number)
        buckets = dict.fromkeys((*await group.outboxes.hinted(), *group.noted))
        least = max(1, round(sums.waiting_size * _GIVEN_UP))
        gathered = await group.outboxes.gather(buckets, MOST_ROWS, least, sums.average)
        return gathered.drawn_up() if gathered.items else None

    # --- time and counting ----------------------------------------------------------------------

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()

    def _arrived(self, shipped: int, dead: int) -> None:
        now = self.progress
        self.progress = now._replace(
            shipped=now.shipped + shipped, dead=now.dead + dead, alarm="", trouble=""
        )

    def _dropped(self, events: int) -> None:
        if not events:
            return
        self.progress = self.progress._replace(dropped=self.progress.dropped + events)
        logger.error("%d events were given up: too many wait for the archive", events)

    def _failed(self, error: Exception) -> None:
        """What ends a hold: the archive has to be opened again."""
        if isinstance(error, ArchiveError):
            self._opened = False
            if not self.gate.is_open:
                self.gate.failed()
        self._note(error)

    def _note(self, error: Exception) -> None:
        now = self.progress
        passing = isinstance(error, ArchiveUnavailableError | StoreError)
        trouble = _told(error)
        if trouble != now.trouble:
            level = logging.WARNING if passing else logging.ERROR
            logger.log(level, "the archive waits: %s", trouble)
        alarm = "" if passing else trouble
        self.progress = now._replace(failures=now.failures + 1, alarm=alarm, trouble=trouble)


class _Group:
    """What a shipper knows of one group of buckets."""

    def __init__(self, store: Store, number: int) -> None:
        self.number = number
        self.outboxes = Outboxes(store, number)
        self.hurry = asyncio.Event()
        self.held = False
        #: Buckets that this process has written to.
        self.noted: set[int] = set()
        self._looked = 0.0
        self._settled = time.monotonic()
        self._stuck = ("", "", 0)

    async def wait(self, seconds: float) -> None:
        """Wait, unless there is a hurry."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.hurry.wait()
        self.hurry.clear()

    def may_look(self, every: float) -> int:
        """How many buckets to look at without a hint now."""
        now = time.monotonic()
        if now - self._looked < every:
            return 0
        self._looked = now
        return _LOOK_AROUND

    def may_settle(self) -> bool:
        """Whether to set the sums right although something is written all the time."""
        now = time.monotonic()
        due = now - self._settled >= _SETTLED_EVERY
        self._settled = now if due else self._settled
        return due

    def note_failure(self, token: str, reason: str) -> None:
        """Remember how often a manifest has failed for the same reason."""
        same = self._stuck[:2] == (token, reason)
        self._stuck = (token, reason, self._stuck[2] + 1 if same else 1)

    def is_stuck(self, token: str) -> bool:
        """Whether it failed so often that its rows may be the cause."""
        return self._stuck[0] == token and self._stuck[2] >= _SUSPECT_AFTER


def _told(error: Exception) -> str:
    """Of a mistake of ours the place: its text may quote what is stored."""
    if isinstance(error, ContextEngineError):
        return f"{type(error).__name__}: {error}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"


async def _keep(lease: Lease) -> None:
    """Renew a lease; return when it has changed hands, or nobody knows."""
    with suppress(StoreError):
        while await lease.renew():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(LEASE_SECONDS / 3)
