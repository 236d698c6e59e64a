"""How requests reach a ClickHouse server: once each, with the deadline of the call.

The driver repeats an insert whose connection was lost, and its pool repeats others. Whether and
when something is sent again is for the shipper to say, so nothing is repeated here.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

from clickhouse_connect.driver.httputil import all_managers, get_pool_manager_options
from urllib3 import (
    BaseHTTPResponse,
    HTTPConnectionPool,
    HTTPSConnectionPool,
    PoolManager,
    Timeout,
)
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from aiecs.core.errors import ArchiveAuthError
from aiecs.infrastructure.persistence.archive.url import Address

_CONNECTIONS = 16

# The driver warns of every lost request, with a traceback. What they mean is told once, by us; only
# where an application has set up its logging does it see the driver's too.
logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())

Pools = TypeVar("Pools", bound=HTTPConnectionPool)


class NotSentError(HTTPError):
    """The request, or its answer, was lost; the cause is in `reason`.

    Not raised from its cause: the driver looks there for what it would send again.
    """

    def __init__(self, reason: HTTPError) -> None:
        super().__init__(type(reason).__name__)
        self.reason = reason


class Transport(PoolManager):
    """The connections to one server."""

    def __init__(self, address: Address) -> None:
        if address.ca and not Path(address.ca).is_file():
            raise ArchiveAuthError(f"{address.name}: there is no file {address.ca} (ca=)")
        options = get_pool_manager_options(ca_cert=address.ca, verify=True, maxsize=_CONNECTIONS)
        super().__init__(**options)
        self._used: WeakSet[HTTPConnection] = WeakSet()
        self.pool_classes_by_scheme = {
            "http": self._noting(HTTPConnectionPool, HTTPConnection),
            "https": self._noting(HTTPSConnectionPool, HTTPSConnection),
        }
        self._address = address
        self._call = threading.local()

    @contextmanager
    def deadline(self, seconds: float | None) -> Iterator[None]:
        """Bound the waits of this thread's requests inside the block; None: as the address says."""
        before = getattr(self._call, "seconds", None)
        self._call.seconds = seconds
        try:
            yield
        finally:
            self._call.seconds = before

    def request(  # type: ignore[override]
        self, method: str, url: str, **options: Any
    ) -> BaseHTTPResponse:
        """As the driver's pool does, but tried once and within the deadline."""
        options |= {"timeout": self._timeout(), "retries": False, "redirect": False}
        try:
            return super().request(method, url, **options)
        except HTTPError as error:
            lost = NotSentError(error)
        raise lost

    def close(self) -> None:
        """Disconnect, also from the driver's table of pools; whoever waits for an answer fails."""
        for connection in list(self._used):
            with suppress(OSError):  # it is closed already
                if connection.sock is not None:
                    connection.sock.shutdown(socket.SHUT_RDWR)
        self.clear()
        all_managers.pop(self, None)

    def _noting(self, pools: type[Pools], connections: type[HTTPConnection]) -> type[Pools]:
        """Pools of connections that are noted, to be broken off."""
        used = self._used

        def noted(*args: Any, **options: Any) -> HTTPConnection:
            connection = connections(*args, **options)
            used.add(connection)
            return connection

        return type(pools.__name__, (pools,), {"ConnectionCls": staticmethod(noted)})

    def _timeout(self) -> Timeout:
        seconds = getattr(self._call, "seconds", None)
        if seconds is None:
            return Timeout(connect=self._address.connect_timeout, read=self._address.timeout)
        return Timeout(total=seconds)
