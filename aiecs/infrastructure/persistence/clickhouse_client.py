"""A plain ClickHouse client on the configured server, for analytics and applications' own tables.

The engine's archive does not need it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from aiecs.core.errors import ArchiveUnavailableError, InvalidInputError, LifecycleError
from aiecs.core.opening import Opening
from aiecs.core.secret import Secret
from aiecs.core.settings import load_settings
from aiecs.infrastructure.persistence.archive.connection import Connection, connect
from aiecs.infrastructure.persistence.archive.migrations import create_database
from aiecs.infrastructure.persistence.archive.url import Address, address_of

if TYPE_CHECKING:
    from clickhouse_connect.driver.query import QueryResult

_TABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?")
_log = logging.getLogger(__name__)


class ClickHouseClient:
    """Runs ClickHouse's calls in threads, so that the event loop goes on meanwhile.

    What is not given comes from the CLICKHOUSE_* settings; the database is created if it is
    missing. Calls that fail raise an `ArchiveError`; nothing is tried again.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        username: str | None = None,
        password: str | None = None,
        database: str | None = None,
    ) -> None:
        self._given = {"host": host, "port": port, "user": username}
        self._password = None if password is None else Secret(password)
        self._database = database
        self._address: Address | None = None
        self._connection: Opening[Connection] = Opening()

    @classmethod
    def from_url(cls, url: str) -> ClickHouseClient:
        """A client for a URL as the archive takes it; nothing is connected yet."""
        client = cls()
        client._address = address_of(url)
        return client

    def __repr__(self) -> str:
        return f"ClickHouseClient({self._address.name if self._address else 'CLICKHOUSE_*'})"

    @property
    def address(self) -> Address:
        """Where it connects; `InvalidInputError` for settings that name no server."""
        if self._address is None:
            self._address = self._configured()
        return self._address

    @property
    def is_available(self) -> bool:
        """Whether it has connected, and has not been closed since."""
        return self._connection.value is not None

    async def initialize(self) -> bool:
        """Connect; False if the server cannot be reached, and another call tries again.

        `ArchiveAuthError` for a wrong password, `MissingExtraError` without the driver,
        `InvalidInputError` for settings that name no server.
        """
        try:
            await self._connection.get(lambda: asyncio.to_thread(self._connect))
        except ArchiveUnavailableError as error:
            _log.warning("ClickHouse client: %s", error)
            return False
        return True

    async def close(self) -> None:
        """Disconnect; idempotent."""
        connection = self._connection.take()
        if connection is not None:
            await asyncio.to_thread(connection.close)

    async def insert(
        self,
        table: str,
        data: Sequence[Mapping[str, Any]],
        column_names: Sequence[str] | None = None,
    ) -> bool:
        """Add rows; True when they are there.

        The columns are `column_names` (what a row lacks of them is None), else those of the first
        row. Naive times are read as UTC. `ArchiveUnavailableError`: they may be there or not.
        """
        connection = self._connected()
        if not _TABLE.fullmatch(table):
            raise InvalidInputError(f"{table!r} is no name of a table")
        if not data:
            return True
        names = list(column_names or data[0])
        get = dict.get if column_names else dict.__getitem__
        rows = [[_aware(get(dict(row), name)) for name in names] for row in data]
        await asyncio.to_thread(connection.insert_rows, table, rows, names)
        return True

    async def command(self, sql: str, parameters: Mapping[str, Any] | None = None) -> bool:
        """Run a statement that returns no rows; True when it is done.

        `parameters` fill the places written `{name:Type}`.
        """
        await asyncio.to_thread(self._connected().execute, sql, parameters)
        return True

    async def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> QueryResult:
        """The driver's result of a SELECT; its `result_rows` are tuples.

        `parameters` fill the places written `{name:Type}`. Times are aware.
        """
        return await asyncio.to_thread(self._connected().query, sql, parameters)

    def _connected(self) -> Connection:
        connection = self._connection.value
        if connection is None:
            raise LifecycleError("the ClickHouse client is not initialized, or closed")
        return connection

    def _connect(self) -> Connection:
        connection = connect(self.address)
        create_database(connection)
        return connection

    def _configured(self) -> Address:
        url = load_settings().clickhouse_url
        if self._database is not None:
            url = f"{url.rpartition('/')[0]}/{quote(self._database, safe='')}"
        given: dict[str, Any] = {name: value for name, value in self._given.items() if value}
        if self._password is not None:
            given["password"] = self._password
        return replace(address_of(url), **given)


def _aware(value: Any) -> Any:
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value


class _Process:
    """The process's one client."""

    def __init__(self) -> None:
        self.client: ClickHouseClient | None = None


_process = _Process()


async def initialize_clickhouse_client(
    host: str | None = None,
    port: int | None = None,
    username: str | None = None,
    password: str | None = None,
    database: str | None = None,
) -> bool:
    """Make the process's client and connect it; see `ClickHouseClient.initialize`.

    When there is one already, it stays, whatever is given; it connects if it had not.
    """
    if _process.client is None:
        _process.client = ClickHouseClient(host, port, username, password, database)
    return await _process.client.initialize()


async def get_clickhouse_client() -> ClickHouseClient:
    """The process's client; `LifecycleError` before `initialize_clickhouse_client()`."""
    if _process.client is None:
        raise LifecycleError("call initialize_clickhouse_client() first")
    return _process.client


async def close_clickhouse_client() -> None:
    """Close the process's client; idempotent."""
    client, _process.client = _process.client, None
    if client is not None:
        await client.close()
