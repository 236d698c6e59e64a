"""Where a shipper brings events to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from aiecs.core.erasure import Erasure
from aiecs.core.errors import ArchiveUnavailableError, LifecycleError
from aiecs.core.interface.archive import Archive
from aiecs.infrastructure.persistence.archive.delivery import Dead, Delivery
from aiecs.infrastructure.persistence.archive.eraser import erase
from aiecs.infrastructure.persistence.archive.leases import GROUPS
from aiecs.infrastructure.persistence.archive.owners import Owners
from aiecs.infrastructure.persistence.archive.rows import Shipped

T = TypeVar("T")


class Destination(Protocol):
    """Takes events; raises an `ArchiveError` when it cannot now."""

    async def open(self) -> None:
        """Make it ready; may be called again at any time, and then repairs what is missing."""
        ...

    async def deliver(
        self, token: str, items: Sequence[Shipped], *, suspect: bool = False
    ) -> list[Dead]:
        """Bring these events in, and return those that it will never take.

        The same token comes with the same events, and brings them in once, however often it is
        repeated. `suspect`: an unexpected refusal is to be taken for a fault of the events.
        """
        ...

    async def erase(self, erasures: Sequence[Erasure]) -> dict[str, int]:
        """Take out what these cover; how many rows, by name. May be repeated."""
        ...

    async def close(self) -> None:
        """Let go of it; what is under way may be broken off."""
        ...


class ArchiveDestination:
    """The tables of an `Archive`, which is used on threads of its own."""

    def __init__(self, archive: Archive, store_id: str, owners: Owners | None = None) -> None:
        self._archive = archive
        self._owners = owners
        self._store_id = store_id
        self._delivery = Delivery(archive, store_id)
        self._threads = ThreadPoolExecutor(GROUPS, "aiecs-archive")

    async def open(self) -> None:
        """Connect and bring the tables to this release."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._archive.open)

    async def deliver(
        self, token: str, items: Sequence[Shipped], *, suspect: bool = False
    ) -> list[Dead]:
        """An insert for each table; see `Delivery`."""
        owners = {} if self._owners is None else await self._owners.of(items)
        return await self._run(
            lambda: self._delivery.deliver(token, items, owners, suspect=suspect)
        )

    async def erase(self, erasures: Sequence[Erasure]) -> dict[str, int]:
        """Delete from every table; see `eraser`."""
        return await self._run(lambda: erase(self._archive, self._store_id, erasures))

    async def _run(self, work: Callable[[], T]) -> T:
        """Do it in a thread; an archive that somebody else has closed is one to open again."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except LifecycleError as error:
            raise ArchiveUnavailableError(str(error)) from None

    async def close(self) -> None:
        """Disconnect: an insert that waits for its answer fails."""
        await asyncio.to_thread(self._archive.close)
        self._threads.shutdown(wait=True, cancel_futures=True)
