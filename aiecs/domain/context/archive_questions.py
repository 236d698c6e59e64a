"""Analytics over an engine's archive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiecs.core.archiving import ArchiveReport, Archiving
from aiecs.domain.context.arguments import seconds_of


class ArchiveQuestions:
    """Reads the archive, and nothing else; what has not been shipped yet is not in it."""

    def __init__(self, archiving: Callable[[], Archiving]) -> None:
        self._archiving = archiving

    async def query(
        self, sql: str, parameters: dict[str, Any] | None = None, *, timeout: float = 30.0
    ) -> list[tuple[Any, ...]]:
        """The rows of one SELECT in ClickHouse's SQL, all in memory at once: a million at most.

        `parameters` fill the places written `{name:Type}`. `InvalidInputError`, before anything is
        asked, for SQL that does not only read; `ArchiveQueryError` for a query that cannot be
        answered, or with more rows; `ArchiveUnavailableError` after `timeout` seconds. A row that
        arrived twice may be there twice until the tables are merged: `FINAL` or `LIMIT 1 BY` counts
        it once.
        """
        return await self._archiving().query(sql, parameters, seconds_of(timeout, "timeout"))

    async def report(self, name: str, *, timeout: float = 30.0, **parameters: Any) -> ArchiveReport:
        """One of `reports`, with its parameters (`days=7`, `user_id="u"`, ...).

        `InvalidInputError`, before anything is asked, names what there is; `timeout` is in seconds.
        """
        return await self._archiving().report(name, parameters, seconds_of(timeout, "timeout"))

    def reports(self) -> dict[str, str]:
        """The names of the reports, and what each of them tells."""
        return self._archiving().reports()
