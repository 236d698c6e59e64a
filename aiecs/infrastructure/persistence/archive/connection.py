"""One ClickHouse, over HTTP or embedded, with the driver's own ideas of trying again turned off."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from aiecs.core.errors import (
    ArchiveQueryError,
    InvalidInputError,
    LifecycleError,
    MissingExtraError,
)
from aiecs.core.interface.archive import Row
from aiecs.infrastructure.persistence.archive.embedded import open_embedded, open_embedded_reader
from aiecs.infrastructure.persistence.archive.url import Address
from aiecs.infrastructure.persistence.archive.values import is_text

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
    from clickhouse_connect.driver.query import QueryResult

    from aiecs.infrastructure.persistence.archive.faults import Doing
    from aiecs.infrastructure.persistence.archive.transport import Transport
    from aiecs.infrastructure.persistence.archive.values import Rows

T = TypeVar("T")

_INSERT = {
    # The server would answer before the rows are written, and would not look at the token.
    "async_insert": 0,
    "insert_deduplicate": 1,
    # Several years of months in one insert are no fault of its rows.
    "max_partitions_per_insert_block": 0,
}
_READS = re.compile(r"\s*(SELECT|WITH|SHOW|DESCRIBE|DESC|EXPLAIN|EXISTS)\b", re.IGNORECASE)
_EXACT = {"String": "bytes", "LowCardinality(String)": "bytes", "DateTime64*": "int"}


class Connection:
    """A connected driver; all calls may be made from several threads. `database` must exist."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._process = os.getpid()
        self._transport: Transport | None = None
        self._read_only = {"readonly": 2} if address.path is None else {}
        self._client = open_embedded(address) if address.path is not None else self._over_http()
        # chDB keeps that setting for a whole handle: whoever reads has one of its own there.
        self._reader = self._client if address.path is None else open_embedded_reader(address)
        self._reading = threading.Lock()
        self._spoilt = False

    def _over_http(self) -> Client:
        from aiecs.infrastructure.persistence.archive.transport import Transport

        self._transport = Transport(self.address)
        return _server(self.address, self._transport)

    def use(self, database: str) -> None:
        """Send everything from now on to this database."""
        self._client.database = self._reader.database = database

    @property
    def version(self) -> str:
        """The engine's version."""
        return str(self._client.server_version)

    def insert(self, table: str, rows: Rows, token: str) -> None:
        """Add rows that `rows_of` has checked."""
        if rows.length:
            self._call("insert", table, None, lambda: self._send(table, rows, token))

    def _send(self, table: str, rows: Rows, token: str) -> None:
        context = self._client.create_insert_context(
            table,
            rows.names,
            column_type_names=rows.types,
            column_oriented=True,
            settings={**_INSERT, "insert_deduplication_token": token},
            data=rows.data,
        )
        # One block: the token is that of a block, and the engine drops a second one that has it.
        context.block_row_count = rows.length
        self._client.data_insert(context)

    def insert_rows(self, table: str, rows: Sequence[Sequence[Any]], names: Sequence[str]) -> None:
        """Add rows to any table; the driver asks the server for the columns' types."""
        settings = {"async_insert": 0}

        def insert() -> None:
            self._client.insert(table, rows, column_names=names, settings=settings)

        self._call("insert", table, None, insert)

    def select(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        exact: Sequence[str] = (),
        most_rows: int | None = None,
    ) -> list[Row]:
        """The rows of a query; see `Archive.select`."""
        found = self.query(query, parameters, timeout, exact, most_rows)
        return [tuple(row) for row in found.result_rows]

    def query(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        exact: Sequence[str] = (),
        most_rows: int | None = None,
    ) -> QueryResult:
        """The driver's result of a query, read to its end."""
        if not _READS.match(query):
            raise ArchiveQueryError("a query begins with SELECT, WITH, SHOW, DESCRIBE or EXPLAIN")
        bound = _bound(query, parameters)

        def ask() -> QueryResult:
            with self._a_reader() as reader:
                found = reader.query(
                    query,
                    parameters=bound,
                    settings=self._read_only | _limit(timeout) | _bound_rows(most_rows),
                    column_formats={name: dict(_EXACT) for name in exact},
                )
                # Its rows arrive when they are asked for: here, where failures are understood.
                found.result_set  # noqa: B018
                return found

        return self._call("query", self.address.name, timeout, ask)

    @contextmanager
    def _a_reader(self) -> Iterator[Client]:
        """What to ask. An embedded handle goes with a query that failed on it.

        For the rest of that query's rows would come as the answer to the next one.
        """
        if self.address.path is None:
            yield self._reader
            return
        with self._reading:
            if self._spoilt:
                self._renew_reader()
            self._spoilt = True
            yield self._reader
            self._spoilt = False

    def _renew_reader(self) -> None:
        old = self._reader
        self._reader = open_embedded_reader(self.address)
        self._reader.database = old.database
        with suppress(Exception):  # it is of no use any more
            old.close()

    def execute(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        *,
        doing: Doing = "query",
    ) -> None:
        """Run a statement without rows."""
        bound, settings = _bound(statement, parameters), _limit(timeout)

        def run() -> None:
            self._client.command(statement, parameters=bound, settings=settings)

        self._call(doing, self.address.name, timeout, run)

    def close(self) -> None:
        """Disconnect; idempotent. In a forked child it only forgets."""
        if self._process != os.getpid():
            return
        self._reader.close()
        self._client.close()
        if self._transport is not None:
            self._transport.close()

    def _call(self, doing: Doing, what: str, timeout: float | None, work: Callable[[], T]) -> T:
        from aiecs.infrastructure.persistence.archive import faults

        if self._process != os.getpid():
            raise LifecycleError("an archive cannot be used in a forked child: open one there")
        try:
            with self._deadline(timeout):
                return work()
        except faults.RAISED as error:
            failed = faults.explain(error, doing, what)
        # Out here, so that nothing of what the driver said hangs on to it.
        raise failed

    def _deadline(self, timeout: float | None) -> AbstractContextManager[None]:
        return nullcontext() if self._transport is None else self._transport.deadline(timeout)


def connect(address: Address) -> Connection:
    """Connect, not yet to a database; an `ArchiveError` says why not.

    `MissingExtraError` without the driver.
    """
    require_driver(address)
    from aiecs.infrastructure.persistence.archive import faults

    try:
        return Connection(address)
    except faults.RAISED as error:
        failed = faults.explain(error, "open", address.name)
    raise failed


def require_driver(address: Address) -> None:
    """`MissingExtraError` unless what this address needs is installed."""
    extra = "chdb" if address.path is not None else "clickhouse"
    needed = ("clickhouse_connect", "chdb") if extra == "chdb" else ("clickhouse_connect",)
    try:
        missing = [name for name in needed if find_spec(name) is None]
    except ValueError:  # somebody has put None in its place
        missing = [extra]
    if missing:
        raise MissingExtraError("this archive", extra)


def _server(address: Address, transport: Transport) -> Client:
    import clickhouse_connect

    return clickhouse_connect.get_client(
        host=address.host,
        port=address.port,
        username=address.user,
        password=address.password.reveal() if address.password else "",
        interface="https" if address.secure else "http",
        pool_mgr=transport,
        compress=False if address.compression == "none" else address.compression or True,
        query_retries=0,
        autogenerate_session_id=False,
        tz_mode="aware",
        client_name="aiecs",
    )


def _bound(query: str, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """The parameters, which the driver would put into the text of a query without their places."""
    if not isinstance(parameters, Mapping | None):
        raise InvalidInputError(f"parameters are a dict, got {type(parameters).__name__}")
    for name, value in (parameters or {}).items():
        if not str(name).isidentifier() or f"{{{name}:" not in query:
            raise InvalidInputError(f"the query has no place for its parameter {name!r}")
        if isinstance(value, str) and not is_text(value):
            raise InvalidInputError(f"parameter {name!r} holds a lone surrogate")
    return dict(parameters or {})


def _limit(timeout: float | None) -> dict[str, Any]:
    return {} if timeout is None else {"max_execution_time": timeout}


def _bound_rows(most: int | None) -> dict[str, Any]:
    return {} if most is None else {"max_result_rows": most, "result_overflow_mode": "throw"}
