"""The doctor's look at the archive that the settings name; it changes nothing there."""

from __future__ import annotations

import asyncio

from aiecs.cli.running import explain, quieten_the_driver
from aiecs.core.errors import ContextEngineError
from aiecs.core.interface.finding import Finding
from aiecs.core.settings import load_settings

_CHECK = "archive"


async def archive() -> list[Finding]:
    """Whether it can be reached, and whose tables are there; nothing without an archive."""
    try:
        url = load_settings().archive_url
    except ContextEngineError:  # the settings have a finding of their own
        return []
    return [] if url is None else [await asyncio.to_thread(_look, url)]


def _look(url: str) -> Finding:
    from aiecs.infrastructure.persistence.archive.looking import look_at
    from aiecs.infrastructure.persistence.archive.url import address_of

    quieten_the_driver()
    try:
        address = address_of(url)
        sight = look_at(address)
    except (ContextEngineError, OSError) as error:
        advice = explain(error).removeprefix(str(error)).removeprefix("; ")
        return Finding(_CHECK, "fail", str(error), advice or "see the message")
    if sight is None:
        return Finding(_CHECK, "note", f"{address.name} is not there yet; it will be made")
    where = f"{address.name}: ClickHouse {sight.version}"
    if not sight.schema:
        return Finding(_CHECK, "note", f"{where}, no tables yet; they will be made")
    if sight.schema < sight.latest:
        older = f"{where}, schema {sight.schema}; it will be brought to {sight.latest}"
        return Finding(_CHECK, "note", older)
    return Finding(_CHECK, "ok", f"{where}, schema {sight.schema}")
