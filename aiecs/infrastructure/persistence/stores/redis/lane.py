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
from collections.abc import AsyncGenerator
from typing import Any

from hiredis import pack_command

from aiecs.core.errors import (
    LifecycleError,
    StoreError,
    StoreMisconfiguredError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from aiecs.infrastructure.persistence.stores.redis.connection import Connection, Server
from aiecs.infrastructure.persistence.stores.redis.entry import Entry, nobody
from aiecs.infrastructure.persistence.stores.redis.pending import Pending
from aiecs.infrastructure.persistence.stores.redis.redirector import Redirector
from aiecs.infrastructure.persistence.stores.redis.replies import error_of
from aiecs.infrastructure.persistence.stores.redis.room import MAX_BYTES, MAX_ENTRIES
from aiecs.infrastructure.persistence.stores.redis.verdict import Verdict, verdict

_MOMENT, _WATCH, _LONGEST_PAUSE = 0.1, 0.05, 0.5  # seconds
_APPLIED = 1
_ASKING = pack_command(("ASKING",))


class Lane(Pending):
    """A connection that reconnects, with everything that waits for it."""

    def __init__(self, server: Server, name: str, redirector: Redirector | None = None) -> None:
        super().__init__(server)
        self._redirector = redirector
        self._loop = asyncio.get_running_loop()
        self._watchdog: asyncio.TimerHandle | None = None
        self._timeout = server.timeout
        self._name = name
        self._connection: Connection | None = None
        self._loaded: set[str] = set()
        self._buffer: list[bytes] = []
        self._flushing = False
        self._down: StoreError | None = None
        self._settled = asyncio.Event()
        self._last_reply = 0.0
        self._connecting: asyncio.Task[None] | None = None
        self._guardian: AsyncGenerator[None, None] | None = None
        self._closed = False
        self._demoted = False
        self._nobody = nobody(self._loop)
        self.reconnects = 0

    def submit(self, entry: Entry) -> None:
        """Send, or keep until the connection is there. The caller has been admitted."""
        if self._connection is None:
            self._ensure_connecting()
            (self._unanswered if entry.repeated else self._waiting).append(entry)
        else:
            self._send(entry)
        self._entries += 1
        self._bytes += entry.size
        if self._watchdog is None:
            self._watchdog = self._loop.call_later(_WATCH, self._watch)

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    @property
    def reads_replica(self) -> bool:
        """Whether a replica is at the other end."""
        return self._server.replica

    @property
    def is_down(self) -> bool:
        """Whether calls fail at once, because the server does not answer."""
        return self._down is not None

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

    def take(self, entry: Entry, *, asking: bool = False) -> None:
        """Send what another lane could not; the caller was admitted there."""
        if asking and self._connection is not None:
            self.submit(Entry([_ASKING], self._nobody, 0, entry.deadline))
        self.submit(entry)

    # --- answers --------------------------------------------------------------------------------

    def received(self, reply: Any) -> None:
        """Take one reply; the connection calls this in order."""
        if not self._inflight:
            self.abort()  # nobody asked: whatever is at the other end is out of step
            return
        entry = self._inflight[0]
        if entry.script is None:
            entry.replies.append(reply)
            if len(entry.replies) < len(entry.commands):
                return
            reply = entry.replies
            self._inflight.popleft()
        else:
            self._inflight.popleft()
            writer, number, _ = entry.receipt  # type: ignore[misc]  # it was sent
            if writer == self._receipts.writer:
                self._receipts.answered = number
            if (type(reply) is not list or reply[0] != _APPLIED) and self._not_applied(
                entry, reply
            ):
                return
        self._deliver(entry, reply)

    def _deliver(self, entry: Entry, reply: Any) -> None:
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
        """Whether the entry goes on; an error may still leave its outcome open."""
        if entry.future.done():
            return False
        watched = self._server.locate is not None
        found = verdict(entry, reply, clustered=self._redirector is not None, watched=watched)
        if found is not Verdict.TELL and entry.may_be_applied:
            self._receipts.renew()
        if found is Verdict.AGAIN:
            if isinstance(reply, Exception):
                self._loaded.discard(entry.front[1])
            self._send(entry)
        elif found is Verdict.ELSEWHERE and self._redirector is not None:
            self._free(entry.size)
            self._redirector.elsewhere(self.address, entry, str(reply))
        elif found is Verdict.DEMOTED:
            (self._unanswered if entry.receipt else self._waiting).append(entry)
            self._demoted = True
            self.abort()
        elif entry.repeated and isinstance(reply, Exception):
            error = error_of(str(reply))
            if isinstance(error, StoreError):
                error.outcome = "unknown"  # the first try may have been applied
                self._tally.unknown_outcomes += 1
                entry.fail(error)
        return found is not Verdict.TELL

    def abort(self) -> None:
        """Give the connection up; what was not answered waits for the next one."""
        if self._connection is not None:
            self._connection.abort()

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
        if self._demoted:  # it takes a moment until another server is the primary
            self._demoted = False
            await asyncio.sleep(_MOMENT)
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
            delay = min(_LONGEST_PAUSE, delay * 2)

    async def _connect_once(self) -> None:
        if self._server.locate is not None:
            self._server.address = await self._server.locate()
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
        self._down = error
        self._tell_redirector()
        self._settled.set()
        self._turn_away(error)
        self._fail_unsent(error)

    def lost(self, connection: Connection) -> None:
        """The connection is gone: what was not answered goes first when there is a new one."""
        if connection is not self._connection:
            return
        self._connection = None
        self._settled.clear()
        self._buffer.clear()
        self.reconnects += 1
        self._tally.reconnects += 1
        self._keep_unanswered()
        if not self._closed:
            self._ensure_connecting()
            self._tell_redirector()

    def _tell_redirector(self) -> None:
        if self._redirector is not None:
            self._redirector.down()

    # --- time -----------------------------------------------------------------------------------

    def _watch(self) -> None:
        self._watchdog = None
        now = self._loop.time()
        self._expire(now)
        self._judge_silence(now)
        if self._inflight or self._unanswered or self._waiting:
            self._watchdog = self._loop.call_later(_WATCH, self._watch)

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
            self._tell_redirector()
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
        self._fail_all("the store was closed")
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if self._connecting is not None:
            self._connecting.cancel()

    async def _close_with_loop(self) -> AsyncGenerator[None, None]:
        """Closed by the loop's own shutdown of async generators, when nobody closed the store."""
        try:
            yield
        finally:
            connection = self._connection
            self.close_now()
            if connection is not None:
                connection.abort()  # the loop will not live to see an orderly end
