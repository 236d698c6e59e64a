"""Short words for what the contract does to a store."""

# ruff: noqa: S101 - a result of the wrong type fails the test that asked for it
from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

import pytest

from aiecs.core.interface import store as port

_PATIENCE_SECONDS = 10.0


class ManualClock(Protocol):
    """A store's clock that a test can move."""

    def advance(self, microseconds: int) -> None:
        """Let this much time pass."""
        ...


class Place:
    """A group of a store: its batches, and all that can be seen of it."""

    def __init__(
        self,
        store: port.Store,
        clock: ManualClock | None = None,
        bucket: int = 7,
        group: str = "s:one",
    ) -> None:
        self.store = store
        self.clock = clock
        self.bucket = bucket
        self.group = group

    def at(self, group: str | None = None, *, bucket: int | None = None) -> Place:
        """Another group, or the same one in another bucket; "" for the bucket itself."""
        return Place(
            self.store,
            self.clock,
            self.bucket if bucket is None else bucket,
            self.group if group is None else group,
        )

    async def send(
        self, *ops: port.Op, raw: bool = False, receipt: port.Receipt | None = None
    ) -> list[Any] | None:
        """Apply a batch here."""
        return await self.store.apply(port.Batch(self.bucket, self.group, ops, raw, receipt))

    async def do(
        self, *ops: port.Op, raw: bool = False, receipt: port.Receipt | None = None
    ) -> list[Any]:
        """Apply a batch that has results."""
        results = await self.send(*ops, raw=raw, receipt=receipt)
        assert results is not None
        return results

    async def one(self, op: port.Op, *, raw: bool = False) -> Any:
        """The result of a batch of one operation."""
        (result,) = await self.do(op, raw=raw)
        return result

    async def create(self, *ops: port.Op) -> bytes:
        """Create the group; its incarnation."""
        await self.do(port.Put("", {"~i": port.NEW_INCARNATION}, "abort"), *ops)
        (incarnation,) = await self.one(port.Get("", ("~i",)))
        assert isinstance(incarnation, bytes)
        return incarnation

    async def refused(
        self, *ops: port.Op, raw: bool = False, receipt: port.Receipt | None = None
    ) -> port.GuardFailed:
        """The refusal that a batch meets."""
        with pytest.raises(port.GuardFailed) as caught:
            await self.send(*ops, raw=raw, receipt=receipt)
        return caught.value

    async def now(self) -> int:
        """The store's clock."""
        found = await self.at("").one(port.Clock())
        assert type(found) is int
        return found

    async def expire(self) -> None:
        """Let the group expire, and return when it has."""
        await self.do(port.Expire(1))
        (deadline,) = await self.one(port.Get("", ("~x",)), raw=True)
        await self.wait_until(int(deadline))

    async def wait_until(self, time: int) -> None:
        """Return when the store's clock has reached `time`."""
        if self.clock is not None:
            self.clock.advance(max(0, time - await self.now()))
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while await self.now() < time:  # noqa: ASYNC110 - the event is in the store
                await asyncio.sleep(0)

    async def map(self, key: str = "m") -> dict[str, bytes]:
        """All fields of a map."""
        found = await self.one(port.Get(key))
        assert isinstance(found, dict)
        return found

    async def log(self, key: str = "l", *, raw: bool = False) -> port.LogSlice:
        """All of a log."""
        found = await self.one(port.Read(key), raw=raw)
        assert isinstance(found, port.LogSlice)
        return found

    async def index(self, key: str = "i") -> list[tuple[str, int]]:
        """All members of an index with their scores."""
        found = await self.one(port.IndexRange(key, limit=1000))
        assert isinstance(found, list)
        return found

    async def state(self, *, raw: bool = True) -> list[Any]:
        """Whatever can be seen in the keys that the contract uses, here and in the bucket."""
        maps = [port.Get(key) for key in ("", "m", "n", "_m")]
        logs = [port.Read(key) for key in ("l", "k", "_l")]
        indexes = [port.IndexRange(key, limit=1000) for key in ("i", "_i")]
        return await self.do(*maps, *logs, *indexes, raw=raw)


async def together(*coroutines: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run them at the same time; their results in order. When one fails, none goes on."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
    return [task.result() for task in tasks]


def numbered(count: int, prefix: str = "item") -> tuple[bytes, ...]:
    """That many different items."""
    return tuple(f"{prefix} {number}".encode() for number in range(count))
