"""Brings events into the archive: each once, for ever trying, and off the path of every write.

A shipper holds the leases of groups of buckets and goes round them: gather what lies in the
outboxes, freeze a manifest, insert, note that it arrived, cut the outboxes. It can end anywhere;
whoever takes the lease next goes on from the manifest. What the archive's errors mean for it:
"unavailable" is waited for with a growing pause, rows that are refused go into a log of their own,
a wrong password or schema is an alarm and is tried again now and then, for somebody may mend it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from contextlib import suppress
from typing import NamedTuple

from aiecs.core.errors import ArchiveError, ArchiveUnavailableError, StoreError
from aiecs.core.interface.archive import Archive
from aiecs.core.interface.store import Store
from aiecs.infrastructure.persistence.archive import manifests
from aiecs.infrastructure.persistence.archive.delivery import MOST_BYTES, MOST_ROWS, Dead, Delivery
from aiecs.infrastructure.persistence.archive.leases import GROUPS, LEASE_SECONDS, Lease
from aiecs.infrastructure.persistence.archive.manifests import Manifest
from aiecs.infrastructure.persistence.archive.outboxes import Outboxes
from aiecs.infrastructure.persistence.archive.rows import Shipped

logger = logging.getLogger("aiecs.archive")

_SUSPECT_AFTER = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 30.0
_LOOK_AROUND = 64
"""Buckets of a group that are looked at in each round without a hint."""


class Progress(NamedTuple):
    """What a shipper has done since it was made."""

    shipped: int = 0
    dead: int = 0
    failures: int = 0
    alarm: str = ""
    """Why it cannot go on without help; "" when it can."""


class Shipper:
    """Ships the events of one store. `archive` is opened, and used, on threads of its own."""

    def __init__(
        self, store: Store, archive: Archive, store_id: str, *, linger: float = 2.0
    ) -> None:
        self._store = store
        self._archive = archive
        self._delivery = Delivery(archive, store_id)
        self._linger = linger
        self._holder = secrets.token_hex(8)
        self._hurries = [asyncio.Event() for _ in range(GROUPS)]
        self._opened = False
        self._stopping = False
        self.progress = Progress()

    async def run(self) -> None:
        """Ship until `stop` is called."""
        async with asyncio.TaskGroup() as tasks:
            for group in range(GROUPS):
                tasks.create_task(self._ship_for_ever(group))

    def stop(self) -> None:
        """End after what is under way."""
        self._stopping = True
        self.hurry()

    def hurry(self) -> None:
        """Do not wait for more events now, nor for a better moment."""
        for hurry in self._hurries:
            hurry.set()

    # --- one group ------------------------------------------------------------------------------

    async def _ship_for_ever(self, group: int) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping:
            try:
                await self._hold(group)
                pause = _FIRST_PAUSE
            except (ArchiveError, StoreError) as error:
                self._note(error)
                await self._rest(group, pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                pause = min(_LONGEST_PAUSE, pause * 2)

    async def _hold(self, group: int) -> None:
        """Ship a group as long as its lease is ours."""
        lease = await Lease.take(self._store, group, self._holder)
        if lease is None:
            await self._rest(group, LEASE_SECONDS / 3)
            return
        keeping = asyncio.create_task(_keep(lease))
        try:
            await self._open()
            outboxes = Outboxes(self._store, group)
            await self._resume(lease, outboxes)
            while not self._stopping and not keeping.done():
                if await self._round(lease, outboxes) < MOST_ROWS:
                    await self._rest(group, self._linger)
        finally:
            keeping.cancel()
            with suppress(StoreError):  # then it runs out by itself
                await lease.give_back()

    async def _open(self) -> None:
        if not self._opened:
            await asyncio.to_thread(self._archive.open)
            self._opened = True

    async def _resume(self, lease: Lease, outboxes: Outboxes) -> None:
        """Finish what an earlier holder has begun."""
        manifest = await manifests.found(self._store, lease.home)
        if manifest is not None:
            items = [] if manifest.sent else await outboxes.read(manifest.ranges)
            await self._finish(lease, outboxes, manifest, items)

    async def _round(self, lease: Lease, outboxes: Outboxes) -> int:
        """Ship what there is, up to one manifest; how many events that was."""
        hints = await outboxes.hinted()
        others = await outboxes.look_around(_LOOK_AROUND)
        buckets = list(dict.fromkeys((*hints, *others)))
        gathered = await outboxes.gather(buckets, MOST_ROWS, MOST_BYTES)
        if gathered.items:
            manifest = manifests.drawn_up(gathered.ranges)
            if not await manifests.freeze(lease, manifest):
                return 0
            await self._finish(lease, outboxes, manifest, gathered.items)
        await outboxes.emptied({b: hints[b] for b in gathered.drained if b in hints})
        return gathered.rows

    async def _finish(
        self, lease: Lease, outboxes: Outboxes, manifest: Manifest, items: list[Shipped]
    ) -> None:
        if not manifest.sent:
            dead = await self._deliver(lease.group, manifest, items)
            if not await manifests.mark_sent(lease, manifest, dead):
                return
            self._count(len(items) - len(dead), len(dead))
        await outboxes.cut(manifest.ranges)
        await manifests.close(lease)

    async def _deliver(self, group: int, manifest: Manifest, items: list[Shipped]) -> list[Dead]:
        """Insert until it is done, or until only somebody else can help."""
        pause, same, last = _FIRST_PAUSE, 0, ""
        while True:
            suspect = same >= _SUSPECT_AFTER
            try:
                return await asyncio.to_thread(
                    self._delivery.deliver, manifest.token, items, suspect=suspect
                )
            except ArchiveUnavailableError as error:
                self._note(error)
                same, last = (same + 1, last) if str(error) == last else (1, str(error))
                if self._stopping:
                    raise
            await self._rest(group, pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause = min(_LONGEST_PAUSE, pause * 2)

    # --- time and counting ----------------------------------------------------------------------

    async def _rest(self, group: int, seconds: float) -> None:
        hurry = self._hurries[group]
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await hurry.wait()
        if not self._stopping:
            hurry.clear()

    def _count(self, shipped: int, dead: int) -> None:
        now = self.progress
        self.progress = now._replace(shipped=now.shipped + shipped, dead=now.dead + dead, alarm="")

    def _note(self, error: Exception) -> None:
        now = self.progress
        alarm = "" if isinstance(error, ArchiveUnavailableError | StoreError) else str(error)
        self.progress = now._replace(failures=now.failures + 1, alarm=alarm)
        if alarm:
            self._opened = False  # its tables may have been mended, or not yet made
        logger.log(logging.ERROR if alarm else logging.WARNING, "the archive waits: %s", error)


async def _keep(lease: Lease) -> None:
    """Renew a lease; return when it has changed hands."""
    while True:
        await asyncio.sleep(LEASE_SECONDS / 3)
        if not await lease.renew():
            return
