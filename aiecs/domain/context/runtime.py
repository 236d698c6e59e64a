"""What the services of one engine share: the store, the configuration, the counters."""

from __future__ import annotations

import logging
from typing import Any

from aiecs.core.events import Events
from aiecs.core.interface.store import Batch, Call, GuardFailed, Plan, Store
from aiecs.core.keys import Place
from aiecs.domain.context.counters import Counters
from aiecs.domain.context.tasks import BackgroundTasks

logger = logging.getLogger("aiecs")

_MAX_CORRUPT = 10_000
REFUSED_BEFORE = -2


class Runtime:
    """One engine's store and settings. Holds nothing that is bound to an event loop.

    `session_ttl` and `checkpoint_ttl` are microseconds, None for "never expires";
    `timeout` bounds each store call in seconds.
    """

    def __init__(
        self,
        store: Store,
        *,
        session_ttl: int | None = 86_400_000_000,
        checkpoint_ttl: int | None = 604_800_000_000,
        strict_sessions: bool = False,
        max_messages: int | None = None,
        timeout: float | None = 1.0,
        archived: bool = False,
    ) -> None:
        self.store = store
        self.session_ttl = session_ttl
        self.checkpoint_ttl = checkpoint_ttl
        self.strict_sessions = strict_sessions
        self.max_messages = max_messages
        self.timeout = timeout
        self.events = Events(wanted=archived)
        self._corrupt: set[tuple[str, str]] = set()
        self.tasks = BackgroundTasks()
        self.counters = Counters(self.apply, self.tasks)

    async def apply(self, batch: Batch | Call) -> list[Any] | None:
        """`Store.apply` within the engine's deadline.

        A batch that the store knows to have refused, but not why (it was sent again after a lost
        connection), is given to it once more, to learn that.
        """
        try:
            return await self.store.apply(batch, timeout=self.timeout)
        except GuardFailed as refusal:
            if refusal.operation != REFUSED_BEFORE:
                raise
        return await self.store.apply(batch, timeout=self.timeout)

    async def read(self, batch: Batch | Call) -> list[Any]:
        """The results of a batch that only reads (those are never "already applied")."""
        results = await self.store.apply(batch, timeout=self.timeout)
        return [] if results is None else results

    async def ask(self, place: Place, plan: Plan, *args: Any) -> list[Any]:
        """As `read`, with a plan: the fast way."""
        results = await self.store.apply(Call(plan, *place, args), timeout=self.timeout)
        return [] if results is None else results

    @property
    def corrupt(self) -> int:
        """How many records could not be decoded and were left out; at most 10,000."""
        return len(self._corrupt)

    def note_corrupt(self, what: str, where: str) -> None:
        """Count a record that cannot be decoded, once; the caller leaves it out and goes on."""
        mark = (what, where)
        if mark not in self._corrupt and len(self._corrupt) < _MAX_CORRUPT:
            self._corrupt.add(mark)
            logger.warning("corrupt %s left out", what, extra={"record": what, "place": where})
