"""What waits in a store for its archive, and what somebody should look at there."""

from __future__ import annotations

from dataclasses import replace

from aiecs.core.archiving import ArchiveState
from aiecs.core.interface.store import Store
from aiecs.core.settings import Settings


async def backlog_of(store: Store, url: str, settings: Settings) -> tuple[ArchiveState, int]:
    """The state as counted in the store, and how many groups somebody ships; ships nothing."""
    from aiecs.infrastructure.persistence.archive import leases
    from aiecs.infrastructure.persistence.archive.opening import archiving_to

    settings = replace(settings, archive_ship=False)
    return await archiving_to(url, store, settings).state(), await leases.held(store)


def issues_with(state: ArchiveState, shipped: int) -> list[str]:
    """What should be looked at; `shipped`: how many groups somebody ships."""
    from aiecs.domain.context.archive_health import issues_of

    issues = issues_of(state)
    if state.waiting and not shipped and not (state.trouble or state.alarm):
        issues.append("nobody ships what waits: `aiecs archive ship` does")
    return issues
