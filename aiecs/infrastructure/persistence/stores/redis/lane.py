"""One ordered connection: commands of all tasks of a loop, flushed once per tick.

A caller owns a future and nothing else: cancelling it disturbs nobody, its reply is dropped.
Writes carry receipts, so that after a lost connection the unanswered ones are sent again, in
order and before anything new, and the server applies each at most once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

from hiredis import pack_command

from aiecs.core.errors import (
    LifecycleError,
    Outcome,
    StoreError,
    StoreMisconfiguredError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from aiecs.infrastructure.persistence.stores.redis.connection import Connection, Server
from aiecs.infrastructure.persistence.stores.redis.entry import Entry
from aiecs.infrastructure.persistence.stores.redis.receipts import Receipts
from aiecs.infrastructure.persistence.stores.redis.replies import error_of
from aiecs.infrastructure.persistence.stores.redis.room import MAX_BYTES, MAX_ENTRIES, Room

_WATCH = 0.05
_APPLIED = 1
_OUT_OF_ORDER = [0, -2]


class Lane(Room):
    """A connection that reconnects, with everything that waits for it."""

    def __init__(self, server: Server, name: str) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._timeout = server.timeout
        self._name = name
        self._receipts = Receipts()
        self._connection: Connection | None = None
        self._loaded: set[str] = set()
        self._inflight: deque[Entry] = deque()
        self._unanswered: deque[Entry] = deque()
        self._waiting: deque[Entry] = deque()
        self._buffer: list[bytes] = []
        self._flushing = False
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
        if self._connection is None:
            self._ensure_connecting()
            self._waiting.append(entry)
        else:
            self._send(entry)
        self._entries += 1
        self._bytes += entry.size
        if self._watchdog is None:
            self._watchdog = self._loop.call_later(_WATCH, self._watch)

    @property
    def busy(self) -> bool:
        """Whether a caller has to be admitted before it submits."""
        return (
            self._down is not None
            or self._entries >= MAX_ENTRIES
            or self._bytes >= MAX_BYTES
            or len(self._line) > 0
        )

    async def admit(self, size: int, deadline: float) -> None:
        """Wait for room, first come first served; fail at once while the server is down."""
        self.check()
        if self._line or self._full():
            await self._wait_in_line(size, deadline)
            if self._down is not None or self._closed:
                self._call_next()  # this caller will not use its turn
            self.check()

    def check(self) -> None:
        """Fail at once while the server is known to be down."""
        if self._closed:
            raise LifecycleError("the store is closed")
        if self._down is not None:
            raise type(self._down)(str(self._down))

    def _send(self, entry: Entry) -> None:
        script = entry.script
        if script is not None:
            front = entry.front
            receipt = entry.receipt
            if receipt is None:
                receipt = entry.receipt = self._receipts.next(front[3])
            if script.sha in self._loaded:
                self._buffer.append(pack_command((*front, *receipt, *entry.commands)))
            else:
                front = ("EVAL", script.text, *front[2:])
                self._buffer.append(pack_command((*front, *receipt, *entry.commands)))
                self._loaded.add(script.sha)
        else:
            entry.replies = []
            self._buffer.extend(entry.commands)
        if not self._inflight:
            self._last_reply = self._loop.time()  # from now on an answer is due
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
            self._receipts.answered = entry.receipt[1]  # type: ignore[index]  # it was sent
            if (type(reply) is not list or reply[0] != _APPLIED) and self._not_applied(
                entry, reply
            ):
                return
        self._entries -= 1
        self._bytes -= entry.size
        if self._line:
            self._call_next()
        if not entry.future.done():
            entry.future.set_result(reply)

    def heard(self) -> None:
        """The server is alive: bytes came."""
        self._last_reply = self._loop.time()
        if self._down is not None and self._connection is not None:
            self._down = None

    def _not_applied(self, entry: Entry, reply: Any) -> bool:
        """Whether the entry was sent again; an error may still leave its outcome open."""
        if entry.future.done():
            return False
        if not isinstance(reply, Exception):
            # Refused for its place in the order, or by a guard whose answer was lost: settled as
            # refused, so it is asked anew under a new number.
            if reply != _OUT_OF_ORDER or entry.own_receipt:
                return False
            entry.receipt = None
        elif str(reply).startswith("NOSCRIPT"):
            # Nothing ran. A new number keeps it ahead of what follows; but a first try that is
            # still on its way would not be refused by that.
            if not entry.repeated and not entry.own_receipt:
                entry.receipt = None
            self._loaded.discard(entry.front[1])
        elif entry.repeated:
            error = error_of(str(reply))
            if isinstance(error, StoreError):
                error.outcome = "unknown"  # the first try may have been applied
                self.unknown_outcomes += 1
                entry.fail(error)
            return False
        else:
            return False
        self._send(entry)
        return True

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
            raise StoreTimeoutError(f"Redis at {self._server.address.name} did not answer in time")

    def _ensure_connecting(self) -> None:
        if self._closed:
            raise LifecycleError("the store is closed")
        if self._connecting is None or self._connecting.done():
            self._connecting = self._loop.create_task(self._connect_for_ever())

    async def _connect_for_ever(self) -> None:
        delay = 0.02
        # A server that was there a moment ago gets a second chance before callers are refused.
        patience = 2 if self._server.known else 0
        while not self._closed:
            try:
                await self._connect_once()
            except StoreError as error:
                if not patience or not error.retryable:
                    self._went_down(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, the callers have to be told
                reason = f"cannot connect to {self._server.address.name}: {type(error).__name__}"
                self._went_down(StoreMisconfiguredError(reason))
            else:
                return
            patience = max(0, patience - 1)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            delay = min(1.0, delay * 2)

    async def _connect_once(self) -> None:
        connection = await Connection.open(self._server, self, self._name)
        try:
            greeting = await connection.greet()
        except BaseException:
            connection.abort()
            raise
        self._receipts.offset = greeting.microseconds - time.monotonic_ns() // 1000
        self._loaded = set(greeting.loaded)
        self._server.known = True
        self._connection = connection
        self._down = None
        self._settled.set()
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
                self._free(entry.size)
            else:
                self._send(entry)

    def _went_down(self, error: StoreError) -> None:
        """Fail what was never sent, and reads; the outcome of a write can still be learnt."""
        self._down = error
        self._settled.set()
        self._turn_away(error)
        writes = deque(entry for entry in self._unanswered if entry.script is not None)
        reads = [entry for entry in self._unanswered if entry.script is None]
        for entry in (*reads, *self._waiting):
            entry.fail(type(error)(str(error)))
            self._free(entry.size)
        self._unanswered = writes
        self._waiting.clear()

    def lost(self, connection: Connection) -> None:
        """The connection is gone: what was not answered goes first when there is a new one."""
        if connection is not self._connection:
            return
        self._connection = None
        self._settled.clear()
        self._buffer.clear()
        self.reconnects += 1
        for entry in self._inflight:
            if entry.future.done():
                self._free(entry.size)
            else:
                entry.repeated = True
                self._unanswered.append(entry)
        self._inflight.clear()
        if not self._closed:
            self._ensure_connecting()

    # --- time -----------------------------------------------------------------------------------

    def _watch(self) -> None:
        self._watchdog = None
        now = self._loop.time()
        for entries, sent in self._everyone():
            for entry in entries:
                if entry.deadline <= now and not entry.future.done():
                    message = f"Redis at {self._server.address.name} did not answer in time"
                    entry.fail(StoreTimeoutError(message, outcome=self._outcome(entry, sent)))
        self._unanswered = self._still_wanted(self._unanswered)
        self._waiting = self._still_wanted(self._waiting)
        self._judge_silence(now)
        if self._inflight or self._unanswered or self._waiting:
            self._watchdog = self._loop.call_later(_WATCH, self._watch)

    def _everyone(self) -> tuple[tuple[deque[Entry], bool], ...]:
        """Who waits for an answer, and whether the server may have been asked."""
        return (self._inflight, True), (self._unanswered, True), (self._waiting, False)

    def _outcome(self, entry: Entry, sent: bool) -> Outcome:
        if not sent or entry.script is None:
            return "not_applied"
        self.unknown_outcomes += 1
        return "unknown"

    def _still_wanted(self, entries: deque[Entry]) -> deque[Entry]:
        """Entries that somebody waits for; the room of the others is free again."""
        for entry in entries:
            if entry.future.done():
                self._free(entry.size)
        return deque(entry for entry in entries if not entry.future.done())

    def _judge_silence(self, now: float) -> None:
        """A server that answers nothing for a whole timeout is down until it does."""
        if not self._inflight or self._connection is None:
            return
        silent = now - self._last_reply
        if silent > self._timeout and self._down is None:
            self._down = StoreUnavailableError(
                f"Redis at {self._server.address.name} does not answer"
            )
            self._turn_away(self._down)
        if silent > 3 * self._timeout:
            self._connection.abort()

    # --- closing --------------------------------------------------------------------------------

    async def close(self) -> None:
        """Let what is in flight finish within its deadline, then disconnect."""
        self._closed = True
        self._turn_away(LifecycleError("the store is closed"))
        pending = [entry.future for entries, _ in self._everyone() for entry in entries]
        if pending and self._connection is not None:
            await asyncio.wait(pending, timeout=self._timeout)
        connection = self._connection
        self.close_now()
        if connection is not None:
            await connection.wait_closed(self._timeout)
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._guardian is not None:
            guardian, self._guardian = self._guardian, None
            await guardian.aclose()

    def close_now(self) -> None:
        """Disconnect at once; who still waits gets an error."""
        self._closed = True
        self._settled.set()
        self._turn_away(LifecycleError("the store is closed"))
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        for entries, sent in self._everyone():
            for entry in entries:
                self._free(entry.size)
                if not entry.future.done():
                    outcome = self._outcome(entry, sent)
                    entry.fail(StoreUnavailableError("the store was closed", outcome=outcome))
            entries.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def _close_with_loop(self) -> AsyncGenerator[None, None]:
        """Closed by the loop's own shutdown of async generators, when nobody closed the store."""
        try:
            yield
        finally:
            connection = self._connection
            self.close_now()
            if connection is not None:
                connection.abort()  # the loop will not live to see an orderly end
