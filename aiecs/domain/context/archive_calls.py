"""What an engine with an archive can be asked about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiecs.domain.context.lifecycle import Lifecycle
from aiecs.domain.context.observation import operation

if TYPE_CHECKING:
    from aiecs.domain.context.archive_questions import ArchiveQuestions


class ArchiveCalls(Lifecycle):
    """The part of an engine that faces its archive."""

    @property
    def archive(self) -> ArchiveQuestions:
        """What is in the archive: `query(sql)`, `report(name)`; `LifecycleError` without one."""
        return self._on.cold.questions

    @operation
    async def archive_barrier(self, session_id: str | None = None, timeout: float = 30.0) -> None:
        """Return when everything acknowledged before this call is in the archive.

        Of all sessions, or of one with its threads. `ArchiveUnavailableError` after `timeout`
        seconds (the events stay, and are brought in later), `ArchiveRowError` when the archive
        does not take some of them, `LifecycleError` without an archive.
        """
        await self._on.cold.barrier(session_id, timeout)
