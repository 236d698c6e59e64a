"""One ordered connection: commands of all tasks of a loop, flushed once per tick.

A caller owns a future and nothing else: cancelling it disturbs nobody, its reply is dropped.
Writes carry receipts, so that after a lost connection the unanswered ones are sent again, in
order and before anything new, and the server applies each at most once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

from hiredis import pack_command

from aiecs.core.errors import (
    Outcome,
    StoreError,
    StoreOverloadedError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from aiecs.infrastructure.persistence.stores.redis.address import Address
from aiecs.infrastructure.persistence.stores.redis.connection import Connection
from aiecs.infrastructure.persistence.stores.redis.entry import Entry
from aiecs.infrastructure.persistence.stores.redis.scripts import Scripts

MAX_ENTRIES = 4_096
MAX_BYTES = 16 * 1024 * 1024
_WATCH = 0.05
_PRUNE_EVERY = 64


class Lane:
    """A connection that reconnects, with everything that waits for it."""

    def __init__(self, address: Address, scripts: Scripts, *, timeout: float, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._address = address
        self._scripts = scripts
        self._timeout = timeout
        self._name = name
        self._writer = "w:" + secrets.token_urlsafe(5)
        self._number = 0
        self._count = 0
        self._clock_offset = 0
        self._connection: Connection | None = None
        self._loaded: set[str] = set()
        self._inflight: deque[Entry] = deque()
        self._unanswered: deque[Entry] = deque()
        self._waiting: deque[Entry] = deque()
        self._slots: deque[asyncio.Future[None]] = deque()
        self._buffer: list[bytes] = []
        self._flushing = False
        self._entries = 0
        self._bytes = 0
        self._down: StoreError | None = None
        self._settled = asyncio.Event()
        self._last_reply = 0.0
        self._connecting: asyncio.Task[None] | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._guardian: AsyncGenerator[None, None] | None = None
        self._closed = False
        self.reconnects = 0
        self.unknown_outcomes = 0

    # --- asking ---------------------------------------------------------------------------------

    def submit(self, entry: Entry) -> None:
        """Send, or keep until the connection is there. The caller has been admitted."""
        self._entries += 1
        self._bytes += entry.size
        if self._watchdog is None:
            self._watchdog = self._loop.call_later(_WATCH, self._watch)
        if self._connection is None:
            self._waiting.append(entry)
            self._ensure_connecting()
        else:
            self._send(entry)
        if self._slots:
            self._wake()

    @property
    def busy(self) -> bool:
        """Whether a caller has to be admitted before it submits."""
        return (
            self._down is not None
            or self._entries >= MAX_ENTRIES
            or self._bytes >= MAX_BYTES
            or len(self._slots) > 0
        )

    async def admit(self, deadline: float) -> None:
        """Wait for room, first come first served; fail at once while the server is down."""
        self.check()
        if self._slots or self._entries >= MAX_ENTRIES or self._bytes >= MAX_BYTES:
            await self._slot(deadline)
            self.check()

    def check(self) -> None:
        """Fail at once while the server is known to be down."""
        if self._down is not None:
            raise type(self._down)(str(self._down))

    async def _slot(self, deadline: float) -> None:
        slot: asyncio.Future[None] = self._loop.create_future()
        self._slots.append(slot)
        try:
            async with asyncio.timeout_at(deadline):
                await slot
        except TimeoutError:
            raise StoreOverloadedError(
                f"{self._entries} calls are waiting for Redis; this one found no room in time"
            ) from None
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled():
                self._wake()  # the room that this caller was given is somebody else's
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._slots.remove(slot)

    def _receipt(self) -> tuple[str, int, str]:
        """Writer, number and whether to prune old receipts, for the next write of this lane."""
        self._count += 1
        # The server's microseconds: it tells a receipt's age, and rises over reconnects too.
        number = time.monotonic_ns() // 1000 + self._clock_offset
        if number <= self._number:
            number = self._number + 1
        self._number = number
        return self._writer, number, "0" if self._count % _PRUNE_EVERY else "1"

    def _send(self, entry: Entry) -> None:
        script = entry.script
        if script is not None:
            if entry.receipt is None:
                entry.receipt = self._receipt()
            known = script.sha in self._loaded
            front = entry.front if known else ("EVAL", script.text, *entry.front[2:])
            self._buffer.append(pack_command((*front, *entry.receipt, *entry.commands)))
            if not known:
                self._loaded.add(script.sha)
        else:
            entry.replies = []
            self._buffer.extend(map(pack_command, entry.commands))
        self._inflight.append(entry)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        buffer, self._buffer = self._buffer, []
        if self._connection is not None and buffer:
            self._connection.write(b"".join(buffer))

    # --- answers --------------------------------------------------------------------------------

    def received(self, reply: Any) -> None:
        """Take one reply; the connection calls this in order."""
        entry = self._inflight[0]
        if entry.script is None:
            entry.replies.append(reply)
            if len(entry.replies) < len(entry.commands):
                return
            reply = entry.replies
            self._inflight.popleft()
        else:
            self._inflight.popleft()
            if type(reply) is not list and self._must_repeat(entry, reply):
                return
        self._entries -= 1
        self._bytes -= entry.size
        if self._slots:
            self._wake()
        if not entry.future.done():
            entry.future.set_result(reply)

    def heard(self) -> None:
        """The server is alive: bytes came."""
        self._last_reply = self._loop.time()
        if self._down is not None and self._connection is not None:
            self._down = None

    def _must_repeat(self, entry: Entry, reply: Any) -> bool:
        if not isinstance(reply, Exception) or not str(reply).startswith("NOSCRIPT"):
            return False
        if entry.future.done():
            return False
        # A refusal before anything ran: the next try is another batch, with a number of its own.
        entry.receipt = None
        if entry.script is not None:
            self._loaded.discard(entry.script.sha)
        self._send(entry)
        return True

    def _release(self, entry: Entry) -> None:
        self._entries -= 1
        self._bytes -= entry.size
        self._wake()

    def _wake(self) -> None:
        while self._slots and self._entries < MAX_ENTRIES and self._bytes < MAX_BYTES:
            slot = self._slots.popleft()
            if not slot.done():
                slot.set_result(None)
                return

    # --- connecting -----------------------------------------------------------------------------

    async def ready(self, deadline: float) -> None:
        """Return when connected; raise what prevents it."""
        if self._connection is not None:
            return
        self._ensure_connecting()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._settled.wait()
        self.check()
        if self._connection is None:
            raise StoreTimeoutError(f"Redis at {self._address.name} did not answer in time")

    def _ensure_connecting(self) -> None:
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        if self._connecting is None or self._connecting.done():
            self._connecting = self._loop.create_task(self._connect_for_ever())

    async def _connect_for_ever(self) -> None:
        delay = 0.02
        while not self._closed:
            try:
                await self._connect_once()
            except StoreError as error:
                self._went_down(error)
            else:
                return
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            delay = min(1.0, delay * 2)

    async def _connect_once(self) -> None:
        connection = await Connection.open(self._address, self, self._name, self._timeout)
        try:
            greeting = await connection.greet(self._scripts, self._timeout)
        except BaseException:
            connection.abort()
            raise
        self._clock_offset = greeting.microseconds - time.monotonic_ns() // 1000
        self._loaded = set(greeting.loaded)
        self._connection = connection
        self._down = None
        self._settled.set()
        self._last_reply = self._loop.time()
        if self._guardian is None:
            self._guardian = self._close_with_loop()
            await anext(self._guardian)
        self._send_waiting()

    def _send_waiting(self) -> None:
        waiting = (*self._unanswered, *self._waiting)
        self._unanswered.clear()
        self._waiting.clear()
        for entry in waiting:
            if entry.future.done():
                self._release(entry)
            else:
                self._send(entry)

    def _went_down(self, error: StoreError) -> None:
        """Fail what was never sent, and reads; the outcome of a write can still be learnt."""
        self._down = error
        self._settled.set()
        writes = deque(entry for entry in self._unanswered if entry.script is not None)
        reads = [entry for entry in self._unanswered if entry.script is None]
        for entry in (*reads, *self._waiting):
            entry.fail(type(error)(str(error)))
            self._release(entry)
        self._unanswered = writes
        self._waiting.clear()

    def lost(self) -> None:
        """The connection is gone: what was not answered goes first when there is a new one."""
        if self._connection is None:
            return
        self._connection = None
        self._settled.clear()
        self._buffer.clear()
        self.reconnects += 1
        for entry in self._inflight:
            if entry.future.done():
                self._release(entry)
            else:
                self._unanswered.append(entry)
        self._inflight.clear()
        if not self._closed:
            self._ensure_connecting()

    # --- time -----------------------------------------------------------------------------------

    def _watch(self) -> None:
        self._watchdog = None
        now = self._loop.time()
        for entry in self._all():
            if entry.deadline <= now and not entry.future.done():
                self._fail_late(entry)
        self._unanswered = self._still_wanted(self._unanswered)
        self._waiting = self._still_wanted(self._waiting)
        self._judge_silence(now)
        if self._inflight or self._unanswered or self._waiting:
            self._watchdog = self._loop.call_later(_WATCH, self._watch)

    def _all(self) -> tuple[Entry, ...]:
        return (*self._inflight, *self._unanswered, *self._waiting)

    def _fail_late(self, entry: Entry) -> None:
        outcome = self._outcome(entry)
        self.unknown_outcomes += outcome == "unknown"
        message = f"Redis at {self._address.name} did not answer in time"
        entry.fail(StoreTimeoutError(message, outcome=outcome))

    @staticmethod
    def _outcome(entry: Entry) -> Outcome:
        """A write that was sent once may have been applied."""
        return "unknown" if entry.sent_write else "not_applied"

    def _still_wanted(self, entries: deque[Entry]) -> deque[Entry]:
        """Entries that somebody waits for; the room of the others is free again."""
        for entry in entries:
            if entry.future.done():
                self._release(entry)
        return deque(entry for entry in entries if not entry.future.done())

    def _judge_silence(self, now: float) -> None:
        """A server that answers nothing for a whole timeout is down until it does."""
        if not self._inflight or self._connection is None:
            return
        oldest = self._inflight[0].deadline - self._timeout
        silent = now - max(self._last_reply, oldest)
        if silent > self._timeout:
            self._down = StoreUnavailableError(f"Redis at {self._address.name} does not answer")
        if silent > 3 * self._timeout:
            self._connection.abort()

    # --- closing --------------------------------------------------------------------------------

    async def close(self) -> None:
        """Let what is in flight finish within its deadline, then disconnect."""
        self._closed = True
        pending = [entry.future for entry in self._all() if not entry.future.done()]
        if pending and self._connection is not None:
            await asyncio.wait(pending, timeout=self._timeout)
        self.close_now()
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._guardian is not None:
            guardian, self._guardian = self._guardian, None
            await guardian.aclose()

    def close_now(self) -> None:
        """Disconnect at once; who still waits gets an error."""
        self._closed = True
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        for entry in self._all():
            entry.fail(StoreUnavailableError("the store was closed", outcome=self._outcome(entry)))
        for entries in (self._inflight, self._unanswered, self._waiting):
            entries.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def _close_with_loop(self) -> AsyncGenerator[None, None]:
        """Closed by the loop's own shutdown of async generators, when nobody closed the store."""
        try:
            yield
        finally:
            self.close_now()
