"""A TCP proxy in front of a server, whose faults can be planned to the reply or the byte.

    async with Proxy(server.port) as proxy:
        proxy.drop_reply(3)             # the server executes, its third reply is lost
        ...
        await proxy.tripped.wait()      # the planned fault has happened

Tests need no sleeps: `tripped` is set when a planned fault happens, `until` waits for a count.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Literal, Self

from support.servers import free_port

_CHUNK = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    """Passes everything on until told otherwise; faults hold for all its connections."""

    def __init__(self, upstream: int) -> None:
        self.port = free_port()
        self.tripped = asyncio.Event()
        self.accepted = 0
        self.requested = 0  # bytes towards the server
        self.replied = 0  # whole replies towards the client
        self._upstream = upstream
        self._listener: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._flows = asyncio.Event()
        self._changed = asyncio.Event()
        self._delay = 0.0
        self._drop_at: int | None = None
        self._then_silent = False
        self._cut: tuple[str, int] | None = None
        self._flows.set()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()

    # --- faults ---------------------------------------------------------------------------------

    def drop_reply(self, number: int = 1, *, then: Literal["cut", "silence"] = "cut") -> None:
        """Lose the `number`-th whole reply from now; then cut the connection or say no more."""
        self.tripped.clear()
        self._drop_at = number
        self._then_silent = then == "silence"

    def cut_after(self, count: int, direction: Literal["requests", "replies"] = "replies") -> None:
        """Let `count` more bytes pass in this direction, then cut the connection."""
        self.tripped.clear()
        self._cut = (direction, count)

    def sever(self) -> None:
        """Reset every open connection now; new ones are welcome."""
        for link in list(self._links):
            link.reset()

    def blackhole(self) -> None:
        """Keep connections open and move nothing, as a partitioned network does."""
        self._flows.clear()

    def heal(self) -> None:
        """End `blackhole` and `delay`; what was held back arrives now."""
        self._delay = 0.0
        self._flows.set()

    def delay(self, seconds: float) -> None:
        """Hold each piece of data back for so long, in both directions."""
        self._delay = seconds

    async def refuse(self) -> None:
        """Reset every connection and refuse new ones until `accept`."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        self.sever()
        await asyncio.gather(*(link.closed.wait() for link in list(self._links)))
        if listener is not None:
            await listener.wait_closed()

    async def accept(self) -> None:
        """Take connections (again), on the same port."""
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def until(self, condition: Callable[[Proxy], bool], seconds: float = 10.0) -> None:
        """Wait for a condition on the counts; `TimeoutError` when it does not come."""
        async with asyncio.timeout(seconds):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    # --- passing on -----------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._changed.set()
        link = _Link(writer)
        self._links.add(link)
        try:
            await self._connect(link, reader)
        finally:
            link.reset()
            self._links.discard(link)
            link.closed.set()

    async def _connect(self, link: _Link, reader: asyncio.StreamReader) -> None:
        try:
            upstream, link.server = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            return
        async with asyncio.TaskGroup() as group:
            for source, direction in ((reader, "requests"), (upstream, "replies")):
                link.tasks.append(group.create_task(self._pump(link, source, direction)))

    async def _pump(self, link: _Link, reader: asyncio.StreamReader, direction: str) -> None:
        try:
            while data := await reader.read(_CHUNK):
                if self._delay:
                    await asyncio.sleep(self._delay)
                await self._flows.wait()
                if not await self._pass(link, data, direction):
                    break
        except OSError:
            pass
        finally:
            link.reset()

    async def _pass(self, link: _Link, data: bytes, direction: str) -> bool:
        """Send on what the planned faults leave of `data`; False when the link is done."""
        alive = True
        if self._cut is not None and self._cut[0] == direction:
            data, alive = self._cut_here(data)
        if direction == "requests":
            self.requested += len(data)
            target = link.server
        else:
            data, alive = self._drop_here(link, data, alive=alive)
            target = link.client
        self._changed.set()
        if data and target is not None:
            target.write(data)
            await target.drain()
        if self._then_silent and self.tripped.is_set():
            self._then_silent = False
            self.blackhole()
        return alive

    def _cut_here(self, data: bytes) -> tuple[bytes, bool]:
        assert self._cut is not None
        direction, left = self._cut
        if len(data) < left:
            self._cut = (direction, left - len(data))
            return data, True
        self._cut = None
        self.tripped.set()
        return data[:left], False

    def _drop_here(self, link: _Link, data: bytes, *, alive: bool) -> tuple[bytes, bool]:
        kept = 0
        for end in link.frames.ends(data):
            if self._drop_at is not None:
                self._drop_at -= 1
                if self._drop_at == 0:
                    self._drop_at = None
                    self.tripped.set()
                    return data[:kept], self._then_silent
            self.replied += 1
            kept = end
        if self._drop_at == 1:
            return data[:kept], alive  # the beginning of the reply that will be lost
        return data, alive


class _Link:
    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.frames = Frames()
        self.tasks: list[asyncio.Task[None]] = []
        self.closed = asyncio.Event()

    def reset(self) -> None:
        for writer in (self.client, self.server):
            if writer is None or writer.transport.is_closing():
                continue
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE
                )
            writer.transport.abort()
        for task in self.tasks:
            if task is not asyncio.current_task():
                task.cancel()


class Frames:
    """Finds where replies end in a stream of RESP2 or RESP3; pushed messages are no replies."""

    def __init__(self) -> None:
        self._line = b""
        self._skip = 0
        self._open: list[int] = []
        self._push = False

    def ends(self, data: bytes) -> list[int]:
        """The offsets in `data` right behind the last byte of a reply."""
        found: list[int] = []
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                whole = not self._skip
            else:
                step = data.find(b"\n", at) + 1 - at
                if step <= 0:
                    self._line += data[at:]
                    break
                whole = self._header(self._line + data[at : at + step])
                self._line = b""
            at += step
            if whole and self._closes():
                found.append(at)
        return found

    def _header(self, line: bytes) -> bool:
        """Take in a line; True when a value is complete with it."""
        kind, rest = line[:1], line[1:-2]
        if kind in b"$=!" and int(rest) >= 0:
            self._skip = int(rest) + 2
            return False
        if kind in b"*~>%|" and int(rest) > 0:
            self._push |= kind == b">" and not self._open
            # An attribute's pairs come before the value that it belongs to.
            self._open.append(int(rest) * (2 if kind in b"%|" else 1) + (kind == b"|"))
            return False
        return True

    def _closes(self) -> bool:
        while self._open:
            self._open[-1] -= 1
            if self._open[-1]:
                return False
            self._open.pop()
        pushed, self._push = self._push, False
        return not pushed
