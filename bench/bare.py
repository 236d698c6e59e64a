"""The least a Python client can do: one connection, hiredis, one write per event-loop tick.

The calibration of every figure in client CPU, and the carrier of commands that are compared on the
server. It has no deadline, no reconnect, no receipts, no back-pressure and no types.
"""

from __future__ import annotations

import asyncio
import codecs
import re
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any

import hiredis
from harness import Server

_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')


class Bare(asyncio.Protocol):
    """Auto-pipelined commands; `execute` gives a future, in order of the replies."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._buffer: list[bytes] = []
        self._waiting: deque[asyncio.Future[Any] | None] = deque()
        self._transport: Any = None

    @classmethod
    async def connect(cls, server: Server) -> Bare:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, "127.0.0.1", server.port)
        return connection

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def execute(self, *words: Any) -> asyncio.Future[Any]:
        """One command."""
        return self.execute_all((words,))

    def execute_all(self, commands: Sequence[Sequence[Any]]) -> asyncio.Future[Any]:
        """Commands in a row; the future has the reply of the last one."""
        if not self._buffer:
            self._loop.call_soon(self._flush)
        future = self._loop.create_future()
        for words in commands:
            self._buffer.append(hiredis.pack_command(words))
            self._waiting.append(None)
        self._waiting[-1] = future
        return future

    def _flush(self) -> None:
        self._transport.write(b"".join(self._buffer))
        self._buffer.clear()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            future = self._waiting.popleft()
            if future is None or future.done():
                continue
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    def close(self) -> None:
        self._transport.close()


class Monitor:
    """What a server executes, as its MONITOR command tells it."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        self._socket.sendall(b"MONITOR\r\n")
        self._lines = self._socket.makefile("rb")
        self._lines.readline()

    def scripted(self, mark: bytes) -> list[tuple[bytes, ...]]:
        """The commands that scripts have run, up to an `ECHO mark` that the caller has sent."""
        found: list[tuple[bytes, ...]] = []
        for line in self._lines:
            words = tuple(codecs.escape_decode(word)[0] for word in _WORD.findall(line))
            if words[:2] == (b"ECHO", mark):
                break
            if b" lua] " in line:
                found.append(words)
        return found

    def close(self) -> None:
        self._lines.close()
        self._socket.close()
