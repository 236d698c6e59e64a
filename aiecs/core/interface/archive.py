"""The port that a cold backend implements: tables of rows that are added and never changed.

An archive is synchronous: whoever ships to it has a thread of its own, and encoding never runs on
an event loop. All calls block, every one is bounded in time, and all may be made from several
threads at once. It speaks ClickHouse's SQL.

What a caller may rely on:

- **Once.** An insert repeated with the same token, rows and order adds nothing, also when the first
  one had been applied and only its reply was lost. An archive remembers at least the last 10,000
  blocks of each table and month.
- **All or none.** Of an insert that is refused for its rows, none is kept.
- **Byte for byte.** Text and bytes come back as they were, whatever they hold.

What went wrong is told by type, so that a shipper knows what to do: `ArchiveUnavailableError` (wait
and send the same again), `ArchiveRowError` (halve the insert until the row is found),
`ArchiveSchemaError` and `ArchiveAuthError` (pause, raise an alarm, `open()` again later).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

__all__ = ["Archive", "Columns", "Row"]

Columns = Mapping[str, Sequence[Any]]
Row = tuple[Any, ...]


class Archive(Protocol):
    """A cold backend."""

    @property
    def name(self) -> str:
        """Where the archive is, without secrets."""
        ...

    def open(self) -> None:
        """Connect, create the database and bring its tables to this release.

        May be called again at any time: it then repairs what is missing. Raises
        `ArchiveUnavailableError`, `ArchiveAuthError`, `ArchiveSchemaError` (the database holds
        other tables under our names), `ArchiveNewerError` or `MissingExtraError`.
        """
        ...

    def insert(self, table: str, columns: Columns, *, token: str) -> None:
        """Add rows, given as columns of equal length; return when they are in the archive.

        Text and bytes go into text columns alike, times are integer microseconds since 1970 (UTC),
        ids of events are `uuid.UUID`, amounts `Decimal`, int or float. A column that is left out
        gets its default in every row; no rows are no call. Up to 2,000 rows and 4 MiB are what an
        archive takes gladly. `InvalidInputError` for an unknown table or column or for unequal
        lengths; `ArchiveRowError` for a value that the column cannot hold, before anything is sent.
        """
        ...

    def select(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        exact: Sequence[str] = (),
        most_rows: int | None = None,
    ) -> list[Row]:
        """The rows that a query returns, all in memory at once.

        `parameters` fill the places written `{name:Type}`; nothing else is put into the query.
        `timeout` (seconds; None: the archive's own) bounds the wait for it:
        `ArchiveUnavailableError` after it. Text comes as `str`, times as aware UTC `datetime`; of
        the columns named in `exact` text comes as `bytes` and times as integer microseconds.
        `ArchiveQueryError` for a query that cannot be answered, and for one with more than
        `most_rows` rows.
        """
        ...

    def execute(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        """Run a statement that returns no rows, as a deletion; see `select`."""
        ...

    def close(self) -> None:
        """Let go of the connections; idempotent. `open()` connects again."""
        ...
