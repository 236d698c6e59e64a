"""What one lane was asked and has not answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from aiecs.core.errors import Outcome, StoreError, StoreTimeoutError, StoreUnavailableError
from aiecs.infrastructure.persistence.stores.redis.address import Address
from aiecs.infrastructure.persistence.stores.redis.connection import Server
from aiecs.infrastructure.persistence.stores.redis.entry import Entry
from aiecs.infrastructure.persistence.stores.redis.receipts import Receipts
from aiecs.infrastructure.persistence.stores.redis.room import Room


class Pending(Room):
    """Entries sent, sent on a connection that was lost, and not sent yet; each in order."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        self._inflight: deque[Entry] = deque()
        self._unanswered: deque[Entry] = deque()
        self._waiting: deque[Entry] = deque()
        self._receipts = Receipts()
        self._tally = server.tally

    @property
    def address(self) -> Address:
        """The server at the other end."""
        return self._server.address

    def _expire(self, now: float) -> None:
        """Fail what is past its deadline; what was sent may have been applied."""
        for entries, sent in self._everyone():
            for entry in entries:
                if entry.deadline <= now and not entry.future.done():
                    message = f"Redis at {self._server.address.name} did not answer in time"
                    entry.fail(StoreTimeoutError(message, outcome=self._outcome(entry, sent)))
        self._unanswered = self._still_wanted(self._unanswered)
        self._waiting = self._still_wanted(self._waiting)

    def _everyone(self) -> tuple[tuple[deque[Entry], bool], ...]:
        """Who waits for an answer, and whether the server may have been asked."""
        return (self._inflight, True), (self._unanswered, True), (self._waiting, False)

    def _outcome(self, entry: Entry, sent: bool) -> Outcome:
        if not sent or entry.script is None:
            return "not_applied"
        self._tally.unknown_outcomes += 1
        return "unknown"

    def _still_wanted(self, entries: deque[Entry]) -> deque[Entry]:
        """Entries that somebody waits for; the room of the others is free again."""
        for entry in entries:
            if entry.future.done():
                self._free(entry.size)
        return deque(entry for entry in entries if not entry.future.done())

    def surrender(self, moved: Callable[[str], bool]) -> list[Entry]:
        """Give up the writes that wait for a connection though `moved` says so of their bucket."""
        waiting = (*self._unanswered, *self._waiting)
        given = [entry for entry in waiting if entry.script is not None and moved(entry.front[3])]
        gone = set(given)
        self._unanswered = deque(entry for entry in self._unanswered if entry not in gone)
        self._waiting = deque(entry for entry in self._waiting if entry not in gone)
        for entry in given:
            self._free(entry.size)
            if entry.may_be_applied:
                self._receipts.renew()
        return given

    def _keep_unanswered(self) -> None:
        """What was sent and not answered goes first on the next connection."""
        for entry in self._inflight:
            if entry.future.done():
                self._free(entry.size)
            else:
                entry.repeated = True
                self._unanswered.append(entry)
        self._inflight.clear()

    def _fail_unsent(self, error: StoreError) -> None:
        """Fail what was never sent, and reads; the outcome of a write can still be learnt."""
        writes = deque(entry for entry in self._unanswered if entry.script is not None)
        reads = [entry for entry in self._unanswered if entry.script is None]
        for entry in (*reads, *self._waiting):
            entry.fail(type(error)(str(error)))
            self._free(entry.size)
        self._unanswered = writes
        self._waiting.clear()

    def _fail_all(self, message: str) -> None:
        """Fail everything; what was sent may have been applied."""
        for entries, sent in self._everyone():
            for entry in entries:
                self._free(entry.size)
                if not entry.future.done():
                    outcome = self._outcome(entry, sent)
                    entry.fail(StoreUnavailableError(message, outcome=outcome))
            entries.clear()
