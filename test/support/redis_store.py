"""A Redis store under test: short words for its batches, and a ledger of what callers were told."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Self

from support.heartbeat import Heartbeat

from aiecs.core.errors import StoreError
from aiecs.core.interface import store as port
from aiecs.core.interface.store import (
    NEW_INCARNATION,
    NOW,
    Append,
    Arg,
    Batch,
    Call,
    Expire,
    Get,
    Incr,
    Plan,
    Put,
    Read,
)
from aiecs.infrastructure.persistence.stores.redis import RedisStore
from aiecs.infrastructure.persistence.stores.redis.lane import Lane

DAY = 86_400_000_000
BUCKET = 7
GROUP = "s:one"
LARGE = 70 * 1024

# As the engine's own plan for a message.
ADD = Plan("add", Append("m", (Arg(0),)), Put("", {"l": NOW}), Expire(DAY))


@asynccontextmanager
async def opened(url: str, prefix: str, timeout: float = 5.0) -> AsyncIterator[RedisStore]:
    """A store, closed in the end; then nothing of it may be under way."""
    store = RedisStore.from_url(url, prefix=prefix, timeout=timeout)
    try:
        yield store
    finally:
        found = lanes(store)
        await store.close()
        assert [lane.under_way for lane in found] == [(0, 0)] * len(found)


def lanes(store: RedisStore) -> list[Lane]:
    """Every lane that the store has opened: small and large, on each loop."""
    return store.lanes()


def creating(group: str = GROUP, bucket: int = BUCKET, *ops: port.Op) -> Batch:
    """A batch that makes the group."""
    head = Put("", {"~i": NEW_INCARNATION, "l": NOW}, if_absent="abort")
    return Batch(bucket, group, (head, Expire(DAY), *ops))


def adding(item: bytes, group: str = GROUP, bucket: int = BUCKET) -> Call:
    """A message to the group, by plan."""
    return Call(ADD, bucket, group, (item,))


def batch(*ops: port.Op, group: str = GROUP, bucket: int = BUCKET) -> Batch:
    """Operations on the group."""
    return Batch(bucket, group, ops)


def counting(key: str = "") -> Incr:
    """One more of everything."""
    return Incr(key, {"q": 1, "t": 500})


async def items(store: port.Store, group: str = GROUP, bucket: int = BUCKET) -> list[bytes]:
    """The messages of the group."""
    found = await store.apply(Batch(bucket, group, (Read("m"),)))
    assert found is not None
    log: port.LogSlice = found[0]
    return log.items


async def fields(store: RedisStore, key: str = "", group: str = GROUP) -> dict[str, bytes]:
    """A map of the group."""
    found = await store.apply(Batch(BUCKET, group, (Get(key),)))
    assert found is not None
    return dict(found[0])


async def recovered(store: port.Store, seconds: float = 5.0) -> None:
    """Return when the store answers again; nobody but the server can tell when."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                await store.ping()
            except StoreError:
                await asyncio.sleep(0.002)
            else:
                return


class Ledger:
    """Tasks that write numbered items, and what each was told: the checker of every fault."""

    def __init__(
        self,
        store: port.Store,
        *,
        tasks: int = 64,
        buckets: Iterable[int] = range(0, 8 * 97, 97),
        pad: int = 0,
        pause: float = 0.0,
    ) -> None:
        self.store = store
        self._pause = pause
        self.groups = [(bucket, f"s:{number}") for number, bucket in enumerate(buckets)]
        self.applied: list[bytes] = []
        self.refused: list[bytes] = []
        self.unknown: list[bytes] = []
        self.errors: Counter[str] = Counter()
        self.slowest = 0.0
        self.failing: list[float] = []
        #: Seconds from the end of each fault to the next acknowledgement.
        self.back: list[float] = []
        self._healed: float | None = None
        self._heartbeat = Heartbeat()
        self._pad = b"." * pad
        self._count = tasks
        self._changed = asyncio.Event()
        self._done = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for bucket, group in self.groups:
            await self.store.apply(creating(group, bucket))
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(self._count)]
        self._heartbeat.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._done = True
        await asyncio.gather(*self._tasks)
        self._heartbeat.stop()

    def healed(self) -> None:
        """The fault is over from now on: the time to the next acknowledgement is noted."""
        self._healed = asyncio.get_running_loop().time()

    def figures(self) -> str:
        """What was counted and timed, for a line at the end of the run."""
        told = {
            "acknowledged": f"{len(self.applied):,}",
            "not applied": f"{len(self.refused):,}",
            "unknown": f"{len(self.unknown):,}",
            "error within": f"{max(self.failing, default=0):.2f} s",
            "back within": f"{max(self.back, default=0):.2f} s",
            "loop held": f"{self._heartbeat.longest * 1e3:.0f} ms",
        }
        return ", ".join(f"{name} {value}" for name, value in told.items())

    async def until(self, condition: Callable[[Ledger], bool], seconds: float = 20.0) -> None:
        """Wait for a condition on what was told."""
        async with asyncio.timeout(seconds):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    async def more(self, count: int = 200, seconds: float = 20.0) -> None:
        """Wait until so many more writes were acknowledged."""
        wanted = len(self.applied) + count
        await self.until(lambda ledger: len(ledger.applied) >= wanted, seconds)

    async def _write(self, task: int) -> None:
        loop = asyncio.get_running_loop()
        for number in itertools.count():
            if self._done:
                return
            start = task * len(self.groups) // self._count
            bucket, group = self.groups[(start + number) % len(self.groups)]
            name = b"%d.%d" % (task, number)
            started = loop.time()
            try:
                await self.store.apply(self._call(bucket, group, name, number))
            except StoreError as error:
                took = loop.time() - started
                (self.unknown if error.outcome == "unknown" else self.refused).append(name)
                self.errors[type(error).__name__] += 1
                self.failing.append(took)
                await asyncio.sleep(random.uniform(0, 0.01))  # spreads the tries
            else:
                took = loop.time() - started
                self.applied.append(name)
                if self._healed is not None:
                    self.back.append(loop.time() - self._healed)
                    self._healed = None
                if self._pause:
                    await asyncio.sleep(self._pause)  # leaves the servers time for other work
            self.slowest = max(self.slowest, took)
            self._changed.set()

    def _call(self, bucket: int, group: str, name: bytes, number: int) -> port.Batch | port.Call:
        if number % 3:
            return adding(name + self._pad, group, bucket)
        return Batch(bucket, group, (Append("m", (name + self._pad,)), Incr("", {"batches": 1})))

    async def check(self, *, lossy: bool = False) -> int:
        """What was acknowledged is there once, in order; what was refused is not.

        How much of the first was lost; `lossy` allows it.
        """
        stored: list[bytes] = []
        for bucket, group in self.groups:
            found = [item.split(b".", 2)[:2] for item in await items(self.store, group, bucket)]
            stored += [b".".join(name) for name in found]
            _check_order([(int(task), int(number)) for task, number in found])
            batches = sum(int(number) % 3 == 0 for _, number in found)
            (head,) = await self.store.apply(Batch(bucket, group, (Get("", ("batches",)),))) or [[]]
            assert lossy or int(head[0] or 0) == batches, (
                f"counters and messages differ: {head} {batches} {len(found)} {len(self.unknown)}"
            )
        counts = Counter(stored)
        twice = [name for name, count in counts.items() if count > 1]
        assert not twice, f"stored twice: {twice[:5]}"
        lost = [name for name in self.applied if name not in counts]
        assert lossy or not lost, f"acknowledged and lost: {lost[:5]}"
        ghosts = [name for name in self.refused if name in counts]
        assert not ghosts, f"refused and stored: {ghosts[:5]}"
        assert counts.keys() <= {*self.applied, *self.unknown}
        return len(lost)


def _check_order(found: list[tuple[int, int]]) -> None:
    last: dict[int, int] = {}
    for task, number in found:
        assert number > last.get(task, -1), f"task {task}: {number} came after {last[task]}"
        last[task] = number


async def every(count: int, act: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """`act(0)` to `act(count - 1)` at the same time; results and errors, in order."""
    return await asyncio.gather(*map(act, range(count)), return_exceptions=True)
