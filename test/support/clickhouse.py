"""ClickHouse for tests: the engine behind a bridge, or a real server that the environment names.

`AIECS_TEST_CLICKHOUSE_URL=clickhouse://user:password@host:8123` points the tests at a server. Each
test has a database of its own there, dropped afterwards; tests that need faults or a server of
their own are not collected then.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from support import servers as real

from aiecs.infrastructure.persistence.archive.connection import Connection, connect
from aiecs.infrastructure.persistence.archive.migrations import create_database
from aiecs.infrastructure.persistence.archive.url import address_of

VARIABLE = "AIECS_TEST_CLICKHOUSE_URL"
NOWHERE = "clickhouse://127.0.0.1:1/nowhere"
"""Where no server listens."""

_PROGRAM = Path(__file__).with_name("clickhouse_bridge.py")
_numbers = itertools.count(1)


class Bridge(real.Server):
    """One chDB behind the bridge, in a process of its own; keeps port and data over restarts."""

    def __init__(self, owner: real.Servers, password: str = "") -> None:
        super().__init__("clickhouse", (), owner)
        self.password = password

    @property
    def url(self) -> str:
        """Where clients connect; the database is `default`."""
        login = f"default:{quote(self.password, safe='')}@" if self.password else ""
        return f"clickhouse://{login}127.0.0.1:{self.port}"

    def fault(self, kind: str, *, times: int = 1, match: str = "INSERT", **more: Any) -> None:
        """Let the next requests with `match` in their statement go wrong, and no others.

        Kinds and what they take are in `clickhouse_bridge`.
        """
        self._control({"faults": [{"kind": kind, "times": times, "match": match, **more}]})

    def mend(self) -> None:
        """No more faults; ends the waiting of slow requests."""
        self._control({"faults": []})

    def statistics(self) -> dict[str, int]:
        """How many `requests`, `inserts`, `rows` and `faults` there were since its start."""
        return self._control({})

    def wait_for(self, seconds: float = 10.0, **counts: int) -> dict[str, int]:
        """The statistics, when they have reached these counts; fails when they do not."""
        found = self._control({"wait": counts, "seconds": seconds})
        missing = {name: least for name, least in counts.items() if found[name] < least}
        assert not missing, f"after {seconds} s: {found}, waited for {missing}"
        return found

    def _control(self, order: dict[str, Any]) -> dict[str, int]:
        status, body = self._request("POST", "/_control", json.dumps(order))
        assert status == 200, body
        return json.loads(body)

    def _request(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def _launch(self) -> None:
        environment = os.environ | {"TZ": "UTC", "AIECS_BRIDGE_PASSWORD": self.password}
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, _PROGRAM, str(self.port), str(self.directory / "data")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self._owner.note("+", self.pid, self.directory)

    def _ready(self) -> bool:
        deadline = time.monotonic() + real.START_SECONDS
        while time.monotonic() < deadline and self._process and self._process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self._request("GET", "/ping")[0] == 200:
                    return True
            time.sleep(0.02)
        return False


class Database:
    """A database of one test, on whatever server the run uses."""

    def __init__(self, url: str) -> None:
        self.name = f"aiecs_test_{os.getpid()}_{next(_numbers)}"
        self._server = url

    def url(self, **options: Any) -> str:
        """The archive's URL, with parameters."""
        query = "&".join(f"{name}={quote(str(value))}" for name, value in options.items())
        place = urlsplit(self._server)
        given = "&".join(part for part in (place.query, query) if part)
        return f"{place.scheme}://{place.netloc}/{self.name}{'?' if given else ''}{given}"

    def connect(self) -> Connection:
        """A connection beside the archive's; it makes the database, but no tables."""
        connection = connect(address_of(self.url()))
        create_database(connection)
        return connection

    def drop(self) -> None:
        """Remove it, if it was made."""
        connection = connect(address_of(self.url()))
        connection.execute(f"DROP DATABASE IF EXISTS `{self.name}`")
        connection.close()


class ClickHouses:
    """The run's ClickHouse servers: one that tests share, and those of single tests."""

    def __init__(self, named: str | None) -> None:
        self.named = named
        self._servers = real.Servers()
        self._bridges: list[Bridge] = []
        self._shared: Bridge | None = None
        self._titles: set[str] = set()

    def url(self) -> str:
        """The server that all tests share, without a database."""
        if self.named:
            self._note(self.named)
            return self.named
        return self.shared_bridge().url

    def shared_bridge(self) -> Bridge:
        """The bridge that all tests share; `mend()` it after a fault."""
        if self._shared is None:
            self._shared = self.start()
        return self._shared

    def start(self, password: str = "") -> Bridge:
        """A bridge of the caller's own, to be killed; `close()` it."""
        bridge = Bridge(self._servers, password)
        self._bridges.append(bridge)
        bridge.start()
        if not self.named:
            self._note(bridge.url)
        return bridge

    def titles(self) -> list[str]:
        """What the closing line of the run says."""
        return sorted(self._titles)

    def close(self) -> None:
        """End all bridges and remove their files."""
        for bridge in self._bridges:
            bridge.close()
        self._servers.close()

    def _note(self, url: str) -> None:
        if self._titles:
            return
        connection = connect(address_of(url))
        where = "" if self.named else " (chDB behind the test bridge)"
        self._titles.add(f"ClickHouse {connection.version}{where}")
        connection.close()
