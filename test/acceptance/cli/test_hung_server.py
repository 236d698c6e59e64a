"""A server that takes connections and answers nothing keeps nobody waiting for long."""

from __future__ import annotations

import time

import pytest
from support import servers as real
from support.cli import CHATS, Processes

SOMEBODY_WAITS = [["sessions"], ["history", "x"], ["doctor"], ["demo"]]
BULK = [["export"], ["import", CHATS]]


@pytest.mark.parametrize(("commands", "limit"), [(SOMEBODY_WAITS, 12), (BULK, 9)])
def test_a_hung_server_is_told_soon(processes: Processes, servers: real.Servers, commands, limit):
    server = servers.start("valkey")
    server.pause()
    start = time.monotonic()

    running = [processes.start(*command, "--store", server.url) for command in commands]
    told = [process.communicate(timeout=60) for process in running]

    assert time.monotonic() - start < limit
    for process, (out, err) in zip(running, told, strict=True):
        assert process.returncode == 1
        assert b"did not answer" in out + err, (out, err)
        assert b"Traceback" not in err
    server.resume()
