"""A lane whose writes are acknowledged when replicas have them too.

WAIT blocks its connection until replicas have confirmed all that the connection has written, so
one goes behind the writes of each turn of the loop, and their callers wait for its reply. Reads
take another lane.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from hiredis import pack_command

from aiecs.core.errors import StoreError, StoreTimeoutError
from aiecs.infrastructure.persistence.stores.redis.connection import Connection, Server
from aiecs.infrastructure.persistence.stores.redis.entry import Entry
from aiecs.infrastructure.persistence.stores.redis.lane import Lane
from aiecs.infrastructure.persistence.stores.redis.receipts import Receipts
from aiecs.infrastructure.persistence.stores.redis.redirector import Redirector
from aiecs.infrastructure.persistence.stores.redis.replies import error_of

_IMPATIENT = 50  # milliseconds for each turn, while no replica answers


class ConfirmedLane(Lane):
    """Holds each write's reply until so many replicas have confirmed it."""

    def __init__(
        self, server: Server, name: str, redirector: Redirector | None, confirmations: int
    ) -> None:
        super().__init__(server, name, redirector)
        self._confirmations = confirmations
        # Half of a call's time: the other half is for the answer to come back in.
        self._patience = self._patient = max(1, int(server.timeout * 500))
        # They stand in the line of replies for commands that no caller has sent.
        self._wait, self._touch = (Entry((), self._nobody, 0, 0.0) for _ in range(2))
        self._touches = Receipts()
        self._held: deque[Entry] = deque()
        self._written = False
        self._touched: str | None = None
        self._untouchable = False

    def _send(self, entry: Entry) -> None:
        super()._send(entry)
        if entry.script is not None:
            self._written = True
            if entry.repeated or entry.own_receipt:
                self._touched = entry.front[3]

    def _flush(self) -> None:
        if self._touched is not None:
            # What is answered "seen" wrote nothing on this connection, and WAIT would not count it:
            # something is written behind it, by a writer of its own, for it may pass that one.
            self._touches.offset = self._receipts.offset
            writer, number, _ = self._touches.next(self._touched)
            self._add(self._touch, ("HSET", self._touched, writer, number))
        if self._written:
            self._add(self._wait, ("WAIT", self._confirmations, self._patience))
        self._written, self._touched = False, None
        super()._flush()

    def _add(self, mark: Entry, command: tuple[Any, ...]) -> None:
        self._buffer.append(pack_command(command))
        self._inflight.append(mark)
        self._entries += 1

    def received(self, reply: Any) -> None:
        """Take one reply; the connection calls this in order."""
        mark = self._inflight[0] if self._inflight else None
        if mark is not self._wait and mark is not self._touch:
            super().received(reply)
            return
        self._inflight.popleft()
        self._free(0)
        if mark is self._touch:
            self._untouchable = isinstance(reply, Exception)
        else:
            if self._untouchable:
                reply = 0
            self._untouchable = False
            self._confirm(reply)

    def _deliver(self, entry: Entry, reply: Any) -> None:
        # A refusal is held too: what it met may be the very write whose outcome was unknown.
        if entry.script is None or type(reply) is not list:
            super()._deliver(entry, reply)
            return
        entry.replies = reply
        self._held.append(entry)

    def _confirm(self, answer: Any) -> None:
        met = type(answer) is int and answer >= self._confirmations
        self._patience = self._patient if met else min(self._patient, _IMPATIENT)
        while self._held:
            entry = self._held.popleft()
            if not met and not entry.future.done():
                self._tally.unknown_outcomes += 1
                entry.fail(self._unconfirmed(answer))
            super()._deliver(entry, entry.replies)

    def _unconfirmed(self, answer: Any) -> Exception:
        refused = error_of(str(answer)) if isinstance(answer, Exception) else None
        if isinstance(refused, StoreError):
            refused.outcome = "unknown"
            return refused
        told = f"{answer} of {self._confirmations} replicas confirmed it in time"
        return StoreTimeoutError(f"the primary has it, but {told}", outcome="unknown")

    def lost(self, connection: Connection) -> None:
        """The connection is gone: what was not confirmed goes first when there is a new one."""
        if connection is self._connection:
            self._written, self._touched, self._untouchable = False, None, False
            while self._held:
                self._inflight.appendleft(self._held.pop())
        super().lost(connection)

    def _everyone(self) -> tuple[tuple[deque[Entry], bool], ...]:
        return (self._held, True), *super()._everyone()
