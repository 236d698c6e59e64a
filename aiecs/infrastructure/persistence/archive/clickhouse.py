"""The archive in ClickHouse, on a server or embedded in this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from aiecs.core.errors import InvalidInputError, LifecycleError
from aiecs.core.interface.archive import Columns, Row
from aiecs.infrastructure.persistence.archive.connection import Connection, connect
from aiecs.infrastructure.persistence.archive.migrations import apply_options, migrate
from aiecs.infrastructure.persistence.archive.tables import TABLES, by_name
from aiecs.infrastructure.persistence.archive.url import Address, address_of
from aiecs.infrastructure.persistence.archive.values import rows_of

_TABLES = by_name(TABLES)


class ClickHouseArchive:
    """An `Archive` on a ClickHouse server (from 24.8 on) or in a directory, by chDB.

    A directory can be used by one process at a time, and a process can use one directory at a time.
    chDB cannot be interrupted: a call there may take about a second longer than its timeout.

    What was opened before a fork is the parent's: a forked child gets `LifecycleError`. With chDB
    it has to end by `os._exit`, as those of multiprocessing do: at any other end chDB waits for its
    threads.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        #: Its tables are there: who reads while they are being made is to wait for them.
        self._is_ready = False
        self._process: int | None = None

    @classmethod
    def from_url(cls, url: str) -> ClickHouseArchive:
        """An archive for `clickhouse://...` or `chdb:///...`; nothing is connected yet.

        `InvalidInputError` for a URL that names none; see `address_of` for its parameters.
        """
        return cls(address_of(url))

    def __repr__(self) -> str:
        return f"ClickHouseArchive({self.name})"

    @property
    def name(self) -> str:
        """Where the archive is, without secrets."""
        return self.address.name

    def open(self) -> None:
        """Connect, create the database and bring its tables to this release; see `Archive.open`."""
        self._refuse_child()
        self._process = os.getpid()
        with self._lock:
            if self._connection is None:
                self._connection = connect(self.address)
            migrate(self._connection)
            apply_options(self._connection)
            self._is_ready = True

    def insert(self, table: str, columns: Columns, *, token: str) -> None:
        """Add rows once for each token; see `Archive.insert`."""
        if table not in _TABLES:
            raise InvalidInputError(f"an archive has no table {table!r}")
        self._opened().insert(table, rows_of(_TABLES[table], columns), token)

    def select(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        exact: Sequence[str] = (),
        most_rows: int | None = None,
    ) -> list[Row]:
        """The rows of a query; see `Archive.select`."""
        return self._opened().select(query, parameters, timeout, exact, most_rows)

    def execute(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        """Run a statement that returns no rows; see `Archive.execute`."""
        self._opened().execute(statement, parameters, timeout)

    def close(self) -> None:
        """Disconnect; idempotent. `open()` connects again."""
        if self._is_parents:
            return
        with self._lock:
            connection, self._connection = self._connection, None
            self._is_ready = False
        if connection is not None:
            connection.close()

    @property
    def _is_parents(self) -> bool:
        return self._process not in (None, os.getpid())

    def _refuse_child(self) -> None:
        """Its connections are shared with the parent, and its lock may be held for ever."""
        if self._is_parents:
            raise LifecycleError(f"{self.name} was in use before this process was forked")

    def _opened(self) -> Connection:
        self._refuse_child()
        connection = self._connection
        if connection is None or not self._is_ready:
            raise LifecycleError(f"{self.name} is not open")
        return connection
