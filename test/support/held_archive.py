"""An archive in memory: it answers what shippers and histories ask, and fails as it is told to."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiecs.core.errors import ArchiveUnavailableError
from aiecs.core.events import Events
from aiecs.core.interface.store import Store
from aiecs.infrastructure.persistence.archive.destination import ArchiveDestination
from aiecs.infrastructure.persistence.archive.outboxes import leave_hints
from aiecs.infrastructure.persistence.archive.owners import Owners
from aiecs.infrastructure.persistence.archive.service import ArchiveService
from aiecs.infrastructure.persistence.archive.shipper import Shipper

MESSAGES = "context_conversations"
_SHOWN = ("incarnation", "seq", "role", "content", "metadata", "extra", "message_id", "created_at")


class HeldArchive:
    """An `Archive` of rows in memory; `down`: nothing answers.

    `before_insert`, `after_insert` and `after_select` are called where the name says: what they
    raise is what the caller gets. `faults`: errors of the next inserts, None for one without.
    """

    name = "held"

    def __init__(self) -> None:
        self.rows: list[tuple[str, dict[str, Any]]] = []
        self.down = False
        self.selects = 0
        self.faults: deque[Exception | None] = deque()
        self.before_insert: Callable[[list[dict[str, Any]]], None] = _nothing
        self.after_insert: Callable[[list[dict[str, Any]]], None] = _nothing
        self.after_select: Callable[[str], None] = _nothing
        self._tokens: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def open(self) -> None:
        self._check()

    def insert(self, table: str, columns: Mapping[str, Sequence[Any]], *, token: str) -> None:
        self._check()
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        self.before_insert(rows)
        with self._lock:
            fault = self.faults.popleft() if self.faults else None
            if fault is not None:
                raise fault
            if (table, token) not in self._tokens:
                self._tokens.add((table, token))
                self.rows += [(table, row) for row in rows]
        self.after_insert(rows)

    def select(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        exact: Sequence[str] = (),
        most_rows: int | None = None,
    ) -> list[tuple[Any, ...]]:
        del timeout, exact, most_rows
        self._check()
        with self._lock:
            self.selects += 1
            asked = parameters or {}
            found = self._messages(query, asked) if "lives" in asked else self._lives(asked)
        self.after_select(query)
        return found

    def execute(self, statement: str, *_: Any, **__: Any) -> None:
        raise NotImplementedError(statement)

    def close(self) -> None:
        """Nothing is open."""

    def said(self) -> Counter[str]:
        """The texts of the messages in it, and how often."""
        with self._lock:
            return Counter(row["content"] for table, row in self.rows if table == MESSAGES)

    def _check(self) -> None:
        if self.down:
            raise ArchiveUnavailableError("down")

    def _lives(self, asked: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        lives: dict[str, tuple[str, bool]] = {}
        for table, row in self.rows:
            if row.get("session_id") != asked["session"] or row.get("parent_session_id"):
                continue
            if table in {MESSAGES, "context_sessions"}:
                user, gone = lives.get(row["incarnation"], ("", False))
                gone = gone or row.get("event_type") == "deleted"
                lives[row["incarnation"]] = (max(user, row.get("user_id") or ""), gone)
        return [(life, *lives[life]) for life in sorted(lives)]

    def _messages(self, query: str, asked: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        end = (asked["life"], asked["sequence"])
        found = {
            (row["incarnation"], row["seq"], row["event_id"]): row
            for table, row in self.rows
            if table == MESSAGES
            and row["session_id"] == asked["session"]
            and not row.get("parent_session_id")
            and (asked["all"] or row["incarnation"] in asked["lives"])
            and (row["incarnation"], row["seq"]) < end
            and asked["start"] <= row["seq"] < asked["stop"]
        }
        places = sorted(found, reverse="seq DESC" in query)[: asked["limit"]]
        return [tuple(map(found[place].get, _SHOWN)) for place in places]


class Idle(ArchiveService):
    """Beside an engine, ships only when it is told to, on the caller's loop."""

    def __init__(self, store: Store, archive: HeldArchive) -> None:
        super().__init__(store, _no_destination, name="held", archive=archive)

    def start(self, events: Events) -> None:
        self._events = events

    async def close(self, seconds: float, *, drain: bool = True) -> int:
        del seconds, drain
        assert self.reader is not None
        self.reader.close()
        return 0

    async def ship(self, store: Store | None = None) -> None:
        """Everything that waits, unless the archive does not take it; by way of `store`."""
        store = store or self._store
        await leave_hints(store, self._events.take_noted())
        assert self.archive is not None
        destination = ArchiveDestination(self.archive, "test", Owners(store))
        shipper = Shipper(store, destination, linger=0.0)
        shipper.finish()
        await shipper.run()
        await destination.close()


def _no_destination(*_: object) -> ArchiveDestination:
    raise NotImplementedError


def _nothing(_: object) -> None:
    """What happens where nothing is to happen."""
