"""The doctor's look at the archive, and at what waits for it; it changes nothing there."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from aiecs.cli.backlog import backlog_of, issues_with
from aiecs.cli.running import explain, quieten_the_driver
from aiecs.cli.target import Target
from aiecs.core import registry
from aiecs.core.errors import ArchiveInUseError, ContextEngineError
from aiecs.core.interface.finding import Finding
from aiecs.core.settings import load_settings

_CHECK = "archive"


async def archive(option: str | None, target: Target) -> list[Finding]:
    """Whether it can be reached, whose tables are there, what waits; nothing without an archive."""
    try:
        url = option or load_settings().archive_url
    except ContextEngineError:  # the settings have a finding of their own
        return []
    if url is None:
        return []
    return [await asyncio.to_thread(_look, url), *await _waiting(url, target)]


def _look(url: str) -> Finding:
    from aiecs.infrastructure.persistence.archive.looking import look_at
    from aiecs.infrastructure.persistence.archive.url import address_of

    quieten_the_driver()
    try:
        address = address_of(url)
        sight = look_at(address)
    except ArchiveInUseError:
        return Finding(_CHECK, "note", "embedded; another process has it open: not looked into")
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


async def _waiting(url: str, target: Target) -> list[Finding]:
    """What is wrong with what the store has for the archive."""
    if target.scheme == "memory" or (target.file is not None and not target.file.exists()):
        return []
    try:
        settings = replace(load_settings(), operation_timeout=5.0)
        store = registry.open_store(target.url, settings)
        try:
            issues = issues_with(*await backlog_of(store, url, settings))
        finally:
            await store.close()
    except ContextEngineError:  # the store, or the URL, has a finding of its own
        return []
    advice = "`aiecs archive status` and `aiecs archive dead list` tell more"
    return [Finding("outbox", "warn", issue, advice) for issue in issues]
