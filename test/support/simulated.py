"""A store that fails as a seed says: before, after, late, out of order, or for good."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from aiecs.core.errors import StoreTimeoutError, StoreUnavailableError
from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

_TURNS = (0, 0, 0, 1, 2, 5)


class Crashed(BaseException):
    """The process is gone: nobody catches this but the test."""


class SimulatedStore:
    """A store in memory behind a bad connection; `trouble` is the share of calls that fail.

    `crash_at`: the call at whose beginning or end the process dies, and every call after it.
    """

    def __init__(self, held: MemoryStore, seed: int, trouble: float, crash_at: int = 0) -> None:
        self._held = held
        self._chance = random.Random(seed)
        self._trouble = trouble
        self._crash_at = crash_at
        self._calls = 0

    @property
    def capabilities(self) -> port.Capabilities:
        return self._held.capabilities

    async def apply(
        self, batch: port.Batch | port.Call, *, timeout: float | None = None
    ) -> list[Any] | None:
        self._calls += 1
        dies = self._crash_at and self._calls >= self._crash_at
        if dies and self._chance.random() < 0.5:
            raise Crashed
        await self._wait()
        fate = self._chance.random()
        if fate < self._trouble / 2:
            raise StoreUnavailableError("simulated: refused")
        results = await self._held.apply(batch, timeout=timeout)
        await self._wait()
        if dies:
            raise Crashed
        if fate < self._trouble:
            raise StoreTimeoutError("simulated: answer lost", outcome="unknown")
        return results

    async def _wait(self) -> None:
        for _ in range(self._chance.choice(_TURNS)):
            await asyncio.sleep(0)

    async def ping(self) -> None:
        await self._held.ping()

    async def close(self) -> None:
        """The data outlives this connection."""
