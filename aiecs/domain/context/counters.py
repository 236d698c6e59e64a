"""Store-wide totals: deltas are kept in this process and added to the store every 250 ms.

The totals lie in 16 shards, so that no key is hot; a process feeds one of them. A process that is
killed loses at most its last 250 ms of deltas; `recount` puts the totals right.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from aiecs.core.errors import StoreError
from aiecs.core.interface.store import Batch, CorruptField, Delete, Get, Incr, Put
from aiecs.core.keys import bucket_of
from aiecs.domain.context.models import DeletionReport
from aiecs.domain.context.tasks import BackgroundTasks

Total = Literal["sessions", "ended", "messages", "checkpoints"]
#: What is also counted when it goes: the sum with what is there is everything ever stored.
STORED: tuple[Total, ...] = ("sessions", "messages", "checkpoints")
Apply = Callable[[Batch], Awaitable[list[Any] | None]]

SHARDS = 16
FLUSH_AFTER = 0.25
_PLACES = tuple((bucket_of(f"n:{shard}"), f"_n:{shard}") for shard in range(SHARDS))


class Counters:
    """Totals over the whole store; adding costs no I/O. Safe from any thread and loop.

    `on_beat` are called now and then while totals change, on a running loop.
    """

    def __init__(self, apply: Apply, tasks: BackgroundTasks) -> None:
        self._apply = apply
        self._tasks = tasks
        self._lock = threading.Lock()
        self._added: deque[tuple[str, int]] = deque()
        self._pending: dict[str, int] = defaultdict(int)
        self._timer_loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.on_beat: tuple[Callable[[], None], ...] = ()
        self._under_way: set[asyncio.Future[None]] = set()
        self._place = random.choice(_PLACES)  # noqa: S311 - spreads load

    def add(self, name: Total, delta: int) -> None:
        """Change a total by `delta`; it reaches the store within 250 ms of a running loop.

        What is taken off `STORED` is counted as gone.
        """
        # Appending is atomic and costs a fifth of taking the lock.
        self._added.append((name, delta))
        if delta < 0 and name in STORED:
            self._added.append((gone(name), -delta))
        loop = self._timer_loop
        # A loop that closes takes its timer with it: then the next delta arms another one.
        if loop is None or loop.is_closed():
            self._timer_loop = asyncio.get_running_loop()
            self._timer = self._timer_loop.call_later(FLUSH_AFTER, self._fire)
            for beat in self.on_beat:
                beat()

    def subtract(self, removed: DeletionReport, *, ended: int = 0) -> None:
        """Take what a deletion removed off the totals; `ended` of its sessions had ended."""
        counted: dict[Total, int] = {
            "sessions": removed.sessions,
            "ended": ended,
            "messages": removed.messages,
            "checkpoints": removed.checkpoints,
        }
        for name, number in counted.items():
            if number:
                self.add(name, -number)

    def _fire(self) -> None:
        self._timer_loop = None
        self._tasks.spawn(self.flush())

    async def close(self) -> None:
        """Add what is pending to the store, now and for the last time. Raises `StoreError`."""
        if self._timer is not None and self._timer_loop is asyncio.get_running_loop():
            self._timer.cancel()
        self.on_beat = ()
        await self.flush()

    async def flush(self) -> None:
        """Add what is pending to the store. Deltas that were not applied stay pending.

        Raises `StoreError`; deltas of an unknown outcome are dropped rather than counted twice.
        """
        deltas = {name: delta for name, delta in self._take().items() if delta}
        if not deltas:
            return
        done = asyncio.get_running_loop().create_future()
        self._under_way.add(done)
        try:
            await self._add(deltas)
        finally:
            self._under_way.discard(done)
            done.set_result(None)

    async def _add(self, deltas: dict[str, int]) -> None:
        bucket, key = self._place
        try:
            await self._apply(Batch(bucket, "", (Incr(key, deltas),)))
        except StoreError as error:
            if error.outcome == "not_applied":
                self._restore(deltas)
            raise
        except CorruptField:
            await self._set(self._place, deltas)

    def _take(self) -> dict[str, int]:
        with self._lock:
            taken, self._pending = self._pending, defaultdict(int)
            while self._added:
                name, delta = self._added.popleft()
                taken[name] += delta
        return taken

    def _restore(self, deltas: dict[str, int]) -> None:
        with self._lock:
            for name, delta in deltas.items():
                self._pending[name] += delta

    async def totals(self) -> dict[str, int]:
        """Every total, this process's own pending deltas included; never below 0.

        Raises `StoreError` when the store cannot be read.
        """
        try:
            await self.flush()
        except StoreError as error:
            if error.outcome == "unknown":
                raise
        here = asyncio.get_running_loop()
        # What is on its way is neither pending nor in the store.
        if under_way := [one for one in list(self._under_way) if one.get_loop() is here]:
            await asyncio.wait(under_way)
        found = await asyncio.gather(*map(self._shard, _PLACES))
        sums = self._take()
        self._restore(sums)
        for shard in found:
            for name, value in shard.items():
                sums[name] = sums.get(name, 0) + _number(value)
        return {name: max(0, value) for name, value in sums.items()}

    async def replace(self, totals: dict[str, int]) -> None:
        """Set the totals to counted ones. Deltas that arrive meanwhile may be lost.

        Raises `StoreError`; the totals may then be partly the old ones, until this is repeated.
        """
        pending = self._take()
        self._restore({name: pending.pop(name) for name in map(gone, STORED) if name in pending})
        zero = dict.fromkeys(totals, 0)
        try:
            for place in _PLACES:
                await self._set(place, totals if place == self._place else zero)
        except BaseException:
            self._restore(pending)
            raise

    async def _shard(self, place: tuple[int, str]) -> dict[str, bytes]:
        """What one shard adds to the totals: nothing when it is corrupt, until it is set anew."""
        try:
            results = await self._apply(Batch(place[0], "", (Get(place[1]),)))
        except CorruptField:
            return {}
        found: dict[str, bytes] = results[0] if results else {}
        return found

    async def _set(self, place: tuple[int, str], values: dict[str, int]) -> None:
        bucket, key = place
        put = Put(key, {name: b"%d" % value for name, value in values.items()})
        try:
            await self._apply(Batch(bucket, "", (put,)))
        except CorruptField:  # it is no map at all
            await self._apply(Batch(bucket, "", (Delete(key),)))
            await self._apply(Batch(bucket, "", (put,)))


def gone(name: Total) -> str:
    """The total of what was once counted under `name` and has been removed."""
    return f"{name}_gone"


def _number(value: bytes) -> int:
    try:
        return int(value)
    except ValueError:
        return 0
