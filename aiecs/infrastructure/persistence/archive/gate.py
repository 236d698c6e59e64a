"""When to try again: a pause that grows, and one at a time while the archive does not answer.

After five failures in a row nothing is sent but single tries. When one succeeds the others follow
at first one in a second, then twice as fast after each success: an archive that has just come back
is not run over by what has waited for it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 30.0

_FAILURES = 5
_FIRST_PACE, _FULL_SPEED = 1.0, 0.02


class Gate:
    """What all groups of a shipper go through."""

    def __init__(self) -> None:
        self._turns = asyncio.Lock()
        self._failures = 0
        self._pace = 0.0

    @property
    def state(self) -> str:
        """Closed (all is well), open (it does not answer), recovering."""
        if self.is_open:
            return "open"
        return "recovering" if self._pace else "closed"

    @property
    def is_open(self) -> bool:
        """Whether only single tries are made."""
        return self._failures >= _FAILURES

    def failed(self) -> None:
        """Something that was tried has failed."""
        self._failures += 1
        if self._pace:
            self._pace = _FIRST_PACE

    def succeeded(self) -> None:
        """Something arrived."""
        if self.is_open:
            self._pace = _FIRST_PACE
        elif self._pace:
            self._pace = self._pace / 2 if self._pace > _FULL_SPEED else 0.0
        self._failures = 0

    @property
    def pause(self) -> float:
        """Seconds to wait before the next try: anything up to a bound that doubles."""
        doublings = min(self._failures, 16)
        return random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**doublings))  # noqa: S311

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """At once while all is well; else one after the other, at the pace of the recovery."""
        if not self.is_open and not self._pace:
            yield
            return
        async with self._turns:
            await asyncio.sleep(self._pace)
            yield
