"""Which archive a command works on, and opening it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiecs.cli.render import Output
from aiecs.cli.running import CommandError, check_there, quieten_the_driver
from aiecs.cli.target import choose_store
from aiecs.core import registry
from aiecs.core.settings import load_settings

if TYPE_CHECKING:
    from aiecs.core.interface.store import Store
    from aiecs.infrastructure.persistence.archive import ClickHouseArchive

OPTION = "--archive"
_PATIENCE = 10.0

ArchiveOption = Annotated[
    str | None,
    typer.Option(
        OPTION,
        metavar="URL",
        help="The archive: clickhouse://user:password@host:8123/database, chdb:///directory "
        "(chdb:////absolute/directory). "
        "Without it: AIECS_ARCHIVE_URL, or CLICKHOUSE_* when CLICKHOUSE_ENABLED is true.",
    ),
]


def choose_archive(option: str | None) -> tuple[str, str]:
    """The archive's URL with its secrets, and where that comes from."""
    if option:
        return option, OPTION
    settings = load_settings()
    url = settings.archive_url
    if url is None:
        raise CommandError(
            f"no archive is named: {OPTION} URL, AIECS_ARCHIVE_URL, or CLICKHOUSE_ENABLED=true "
            "with the CLICKHOUSE_* settings"
        )
    named = settings.named_archive is not None
    return url, "AIECS_ARCHIVE_URL" if named else "the CLICKHOUSE_* settings"


@asynccontextmanager
async def open_store(option: str | None, output: Output) -> AsyncIterator[Store]:
    """The store whose events are meant, answering; says on standard error which one that is."""
    target = choose_store(option)
    output.remark(f"store: {target.shown} ({target.source})")
    if target.scheme == "memory":
        raise CommandError("a store in memory can be seen by its own process only")
    check_there(target)
    settings = replace(load_settings(), operation_timeout=_PATIENCE)
    store = registry.open_store(target.url, settings)
    try:
        await store.ping()
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def open_archive(
    option: str | None, output: Output, *, must_exist: bool = False
) -> AsyncIterator[ClickHouseArchive]:
    """The archive that the user means, opened; says on standard error which one that is.

    Its calls block: make them in a thread. `must_exist`: do not make a directory for an embedded
    archive only to find it empty.
    """
    from aiecs.infrastructure.persistence.archive import ClickHouseArchive

    url, source = choose_archive(option)
    archive = ClickHouseArchive.from_url(url)
    output.remark(f"archive: {archive.name} ({source})")
    if must_exist:
        _check_there(archive.address.path, source)
    quieten_the_driver()
    try:
        await asyncio.to_thread(archive.open)
        yield archive
    finally:
        await asyncio.to_thread(archive.close)


def _check_there(path: str | None, source: str) -> None:
    if path is not None and not Path(path).exists():
        raise CommandError(f"there is no directory {path}; check {source}")
