"""A store that counts how often it is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiecs.core.interface import store as port


class CountedStore:
    """Another store, whose calls are counted: those that look at threads, in `calls`."""

    def __init__(self, store: port.Store) -> None:
        self.inner = store
        self.capabilities = store.capabilities
        self.calls: list[port.Batch | port.Call] = []
        #: Run once, behind the next call that gathers checkpoints.
        self.after_gather: Callable[[], Awaitable[Any]] | None = None

    async def apply(
        self, batch: port.Batch | port.Call, *, timeout: float | None = None
    ) -> list[Any] | None:
        if batch.group.startswith("t:"):
            self.calls.append(batch)
            if self.after_gather is not None and _gathers(batch):
                after, self.after_gather = self.after_gather, None
                results = await self.inner.apply(batch, timeout=timeout)
                await after()
                return results
        return await self.inner.apply(batch, timeout=timeout)

    async def ping(self) -> None:
        await self.inner.ping()

    async def close(self) -> None:
        await self.inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def _gathers(batch: port.Batch | port.Call) -> bool:
    return isinstance(batch, port.Batch) and any(isinstance(op, port.Gather) for op in batch.ops)
