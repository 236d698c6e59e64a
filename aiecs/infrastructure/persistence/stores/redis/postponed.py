"""Entries of a cluster that no node serves at the moment, and when each is sent again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from aiecs.core.errors import StoreUnavailableError
from aiecs.infrastructure.persistence.stores.redis.entry import Entry

SOON = 0.01
_SELDOM = 0.2


def pause(rounds: int, left: float) -> float:
    """Seconds to wait after so many tries in vain, `left` seconds before the deadline.

    It doubles up to 0.2 s, so that a thousand callers of a slot that is not served do not keep its
    node from serving the others; towards the deadline it is halved again.
    """
    longest: float = min(_SELDOM, SOON * 2**rounds)
    return min(left / 2, longest * random.uniform(0.5, 1.0))  # noqa: S311 - jitter


class Postponed:
    """Holds entries that no lane has, so the deadline is looked at here."""

    def __init__(self, cluster: str, again: Callable[[Entry], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._late = f"the Redis cluster at {cluster} could not serve the slot in time"
        self._again = again
        self._timers: dict[Entry, asyncio.TimerHandle] = {}

    def add(self, entry: Entry) -> None:
        """Send it again in a moment, or fail it when its time is over."""
        left = entry.deadline - self._loop.time()
        if left <= SOON:
            entry.fail(StoreUnavailableError(self._late, outcome=entry.outcome))
            return
        delay = pause(entry.rounds, left)
        entry.rounds += 1
        self._timers[entry] = self._loop.call_later(delay, self._now, entry)

    def _now(self, entry: Entry) -> None:
        del self._timers[entry]
        if not entry.future.done():
            self._again(entry)

    async def wait(self, rounds: int, deadline: float) -> None:
        """The same pause for a reader; raises when its time is over."""
        left = deadline - self._loop.time()
        if left <= SOON:
            raise StoreUnavailableError(self._late)
        await asyncio.sleep(pause(rounds, left))

    def fail_all(self, message: str) -> None:
        """Fail every entry."""
        for entry, timer in self._timers.items():
            timer.cancel()
            entry.fail(StoreUnavailableError(message, outcome=entry.outcome))
        self._timers.clear()
