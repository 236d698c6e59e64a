"""Which archive is meant, and what brings a store's events there."""

from __future__ import annotations

from aiecs.core.interface.storage_interface import IPermanentStorageBackend
from aiecs.core.interface.store import Store
from aiecs.core.settings import Settings
from aiecs.infrastructure.persistence.archive.clickhouse import ClickHouseArchive
from aiecs.infrastructure.persistence.archive.connection import require_driver
from aiecs.infrastructure.persistence.archive.destination import ArchiveDestination, Destination
from aiecs.infrastructure.persistence.archive.injected import InjectedDestination
from aiecs.infrastructure.persistence.archive.owners import Owners
from aiecs.infrastructure.persistence.archive.service import (
    LINGER,
    ArchiveService,
    Bounds,
    store_id,
)
from aiecs.infrastructure.persistence.archive.url import address_of


def archive_at(url: str) -> ClickHouseArchive:
    """The archive of a URL; `InvalidInputError`, `MissingExtraError`; nothing is connected yet."""
    address = address_of(url)
    require_driver(address)
    return ClickHouseArchive(address)


def archiving_to(
    archive: str | IPermanentStorageBackend,
    store: Store,
    settings: Settings,
    *,
    linger: float = LINGER,
) -> ArchiveService:
    """What ships a store's events to an archive as the settings want it.

    A backend that has the archive's own tables behind it only names them: they are shipped to
    without it. `linger`: seconds between rounds, in which events gather for one insert.
    `InvalidInputError`, `MissingExtraError`.
    """
    if isinstance(archive, str):
        return _into(archive_at(archive), store, settings, linger)
    tables = getattr(archive, "archive", None)
    if isinstance(tables, ClickHouseArchive):
        require_driver(tables.address)
        return _into(tables, store, settings, linger)

    def make(store: Store, _: str) -> Destination:
        return InjectedDestination(archive, store)

    return ArchiveService(
        store,
        make,
        name=type(archive).__name__,
        bounds=bounds_of(settings),
        ship=settings.archive_ship,
        linger=linger,
    )


def _into(
    tables: ClickHouseArchive, store: Store, settings: Settings, linger: float
) -> ArchiveService:
    def make(store: Store, store_id: str) -> Destination:
        return ArchiveDestination(tables, store_id, Owners(store))

    return ArchiveService(
        store,
        make,
        name=tables.name,
        archive=tables,
        bounds=bounds_of(settings),
        ship=settings.archive_ship,
        linger=linger,
    )


async def destination_in(archive: ClickHouseArchive, store: Store) -> ArchiveDestination:
    """What brings events of a store into an archive; closing it closes the archive."""
    return ArchiveDestination(archive, await store_id(store), Owners(store))


def bounds_of(settings: Settings) -> Bounds:
    """How much may wait."""
    return Bounds(
        settings.archive_outbox_bytes,
        settings.archive_outbox_seconds,
        drop=settings.archive_when_full == "drop_oldest",
    )
