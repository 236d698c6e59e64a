"""The domain services on a memory store whose clock, failures and content a test controls."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from aiecs.core.errors import StoreUnavailableError
from aiecs.core.interface import store as port
from aiecs.domain.context.agent_conversations import AgentConversations
from aiecs.domain.context.checkpoints import Checkpoints
from aiecs.domain.context.deletions import Deletions
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.sessions import Sessions
from aiecs.domain.context.thread_state.cache import Caches
from aiecs.domain.context.thread_state.listing import GraphCheckpoints
from aiecs.domain.context.thread_state.thread_records import ThreadRecords
from aiecs.domain.context.threads import Threads
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

DAY = 86_400_000_000
MINUTE = 60_000_000

NASTY_IDS = (
    "a:b",
    "b:c",
    "*",
    "../x",
    "{x}",
    "😀",
    "\x00",
    "~i",
    ":~i",
    "a/b",
    "a%2Fb",
    "é" * 127 + "x",
)


class Crash(BaseException):
    """The process ends here: no handler of the product may catch it."""


class Store:
    """A memory store with its own clock that can die at a chosen batch.

    `fail(n, when)` lets the n-th batch from now fail, "before" it applies or "after"; all later
    ones fail too, until `mend()`.
    """

    capabilities = MemoryStore.capabilities

    def __init__(self) -> None:
        self.ahead = 0
        self.memory = MemoryStore(clock=lambda: time.time_ns() // 1000 + self.ahead)
        self.batches: list[port.Batch | port.Call] = []
        self._fatal: int | None = None
        self._when: Literal["before", "after"] = "before"
        self._error: BaseException = StoreUnavailableError("gone")

    def fail(
        self,
        number: int,
        when: Literal["before", "after"] = "before",
        error: BaseException | None = None,
    ) -> None:
        self._fatal = len(self.batches) + number
        self._when = when
        self._error = error or StoreUnavailableError("gone")

    def mend(self) -> None:
        self._fatal = None

    async def apply(
        self, batch: port.Batch | port.Call, *, timeout: float | None = None
    ) -> list[Any] | None:
        self.batches.append(batch)
        fatal = self._fatal is not None and len(self.batches) >= self._fatal
        if fatal and (self._when == "before" or len(self.batches) > (self._fatal or 0)):
            raise self._error
        results = await self.memory.apply(batch, timeout=timeout)
        if fatal:
            raise self._error
        return results

    async def ping(self) -> None:
        await self.memory.ping()

    async def close(self) -> None:
        await self.memory.close()

    def everything(self) -> set[str]:
        """Every key, but those of the totals."""
        state = self.memory._state
        found = {*state._maps, *state._logs, *state._indexes}
        return {key for key in found if "_n:" not in key}

    def groups(self) -> set[str]:
        """Every key of a session or a thread."""
        return {key for key in self.everything() if key.split("/", 1)[0].isdigit() and "/" in key}

    def names(self, text: str) -> set[str]:
        """Every key that names `text`, and every index that holds it."""
        state = self.memory._state
        holders = {key for key, index in state._indexes.items() if text in index.scores}
        return holders | {key for key in self.groups() if text in key.split("/")[1]}


class Services:
    """One engine's worth of services on one store."""

    def __init__(self, store: Store, **settings: Any) -> None:
        self.store = store
        self.runtime = Runtime(store, **settings)
        self.sessions = Sessions(self.runtime)
        self.forget_threads()
        self.agents = AgentConversations(self.runtime, self.sessions)
        self.deletions = Deletions(self.runtime)

    def forget_threads(self) -> None:
        """As another process, which has not seen any thread yet."""
        threads = Threads(self.runtime, self.sessions)
        records = ThreadRecords(self.runtime, threads, Caches(1_000_000))
        self.checkpoints = Checkpoints(self.runtime, threads, GraphCheckpoints(records))

    async def settled(self) -> None:
        """Wait for what runs in the background."""
        await self.runtime.tasks.drain(5)

    async def write(self, session_id: str, text: str = "hello") -> None:
        """Append a message to the session's log."""
        await self.sessions.apply(session_id, (port.Append("m", (text.encode(),)),))

    async def messages(self, session_id: str) -> list[bytes]:
        (log,) = await self.sessions.read(session_id, port.Read("m"))
        return list(log.items)


@asynccontextmanager
async def services(**settings: Any) -> AsyncIterator[Services]:
    made = Services(Store(), **settings)
    yield made
    made.store.mend()
    await made.settled()


def steps() -> Iterator[tuple[int, Literal["before", "after"]]]:
    """Every place at which a plan of unknown length may be cut: (batch, before or after it)."""
    for number in range(1, 200):
        yield number, "before"
        yield number, "after"
