"""Which archive a command works on, and opening it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiecs.cli.render import Output
from aiecs.cli.running import CommandError
from aiecs.core.settings import load_settings

if TYPE_CHECKING:
    from aiecs.infrastructure.persistence.archive import ClickHouseArchive

OPTION = "--archive"

ArchiveOption = Annotated[
    str | None,
    typer.Option(
        OPTION,
        metavar="URL",
        help="The archive: clickhouse://user:password@host:8123/database, chdb:///directory. "
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
    # The driver remarks on every failure that the command is about to explain.
    logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())
    try:
        await asyncio.to_thread(archive.open)
        yield archive
    finally:
        await asyncio.to_thread(archive.close)


def _check_there(path: str | None, source: str) -> None:
    if path is not None and not Path(path).exists():
        raise CommandError(f"there is no directory {path}; check {source}")
