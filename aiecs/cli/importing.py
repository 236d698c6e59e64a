"""Files into a store, with every mistake told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

from aiecs.cli.formats.detect import FormatName, open_source, read_log
from aiecs.cli.formats.errors import FormatError
from aiecs.cli.formats.source import Source
from aiecs.cli.formats.values import Defaults
from aiecs.domain.context.transfer import Counts, importer_of

if TYPE_CHECKING:
    from aiecs.core.errors import ContextEngineError
    from aiecs.domain.context import ContextEngine

_ITEMS_PER_STEP = 100

Tell = Callable[[FormatError], None]
Advance = Callable[[int], None]


class Imported(NamedTuple):
    """What became of one file."""

    file: str
    format: FormatName | None
    counts: Counts


def ignore_progress(position: int) -> None:
    """For callers without a progress bar."""


async def import_file(
    engine: ContextEngine,
    source: Source,
    defaults: Defaults,
    tell: Tell,
    *,
    format_name: FormatName | None = None,
    advance: Advance = ignore_progress,
) -> Imported:
    """Import an open file. Mistakes go to `tell`, bytes read so far to `advance`.

    What `tell` raises ends the import.
    """

    def problem(line: Any, error: ContextEngineError) -> None:
        tell(source.error(line, str(error)))

    try:
        log = read_log(source, defaults, format_name)
    except FormatError as error:
        tell(error)
        return Imported(source.name, format_name, Counts())
    async with importer_of(engine, problem) as importer:
        for number, item in enumerate(log.items):
            if isinstance(item, FormatError):
                tell(item)
            else:
                await importer.add(item.record, item.line)
            if number % _ITEMS_PER_STEP == 0:
                advance(source.position)
                await asyncio.sleep(0)  # so that Ctrl-C and what is being written get their turn
    advance(source.position)
    return Imported(source.name, log.format, importer.counts)


def total(found: list[Imported]) -> Counts:
    """The counts of several files together."""
    sums = Counts()
    for one in found:
        for field in fields(Counts):
            setattr(sums, field.name, getattr(sums, field.name) + getattr(one.counts, field.name))
    return sums


__all__ = ["Imported", "ignore_progress", "import_file", "open_source", "total"]
