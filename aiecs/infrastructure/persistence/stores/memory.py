"""The store in this process's memory: the same semantics as the others, gone with the process."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aiecs.core.errors import LifecycleError, StoreFullError
from aiecs.core.interface import store as port
from aiecs.core.interface.calls import checked
from aiecs.infrastructure.persistence.stores.semantics import Program, execute, program_of


class MemoryStore:
    """A `Store` in plain dictionaries, safe from any number of threads and event loops.

    Every batch runs under one lock, without I/O. Values are bytes, copied by nature: nothing that
    a caller holds aliases what is stored.

    `max_bytes` bounds the values that are held (0: no bound): beyond it `StoreFullError` refuses
    what only adds to a group. It is exceeded by one batch at most, and by the indexes.
    """

    capabilities = port.Capabilities("memory", durable=False, expires=True, shared=False)

    def __init__(self, *, clock: Callable[[], int] | None = None, max_bytes: int = 0) -> None:
        self._state = _Tables(clock or _microseconds)
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._closed = False

    async def apply(
        self, batch: port.Batch | port.Call, *, timeout: float | None = None
    ) -> list[Any] | None:
        """Apply a batch at once; see `Store.apply`."""
        if self._closed:
            raise LifecycleError("the store is closed")
        plan = batch.plan if isinstance(batch, port.Call) else None
        ready, _ = checked(batch)
        program = Program(ready.ops) if plan is None else program_of(plan)
        with self._lock:
            # Bookkeeping (no group) is small, and what makes room needs it.
            if self._full and ready.group and program.mutating and not program.frees:
                raise StoreFullError(f"the store holds its {self._max_bytes} bytes")
            return execute(self._state, ready, program)

    @property
    def _full(self) -> bool:
        return 0 < self._max_bytes <= self._state.bytes

    async def usage(self) -> float | None:
        """The share of `max_bytes` that is taken; None without a bound."""
        return self.size() / self._max_bytes if self._max_bytes else None

    async def ping(self) -> None:
        """Return at once."""

    async def close(self) -> None:
        """Forget everything."""
        self._closed = True
        self._state = _Tables(_microseconds)

    def size(self) -> int:
        """Bytes of values held, without the overhead of Python objects."""
        return self._state.bytes


def _microseconds() -> int:
    return time.time_ns() // 1000


class _Log:
    __slots__ = ("first", "items")

    def __init__(self, first: int) -> None:
        self.first = first
        self.items: list[bytes] = []


class _Index:
    __slots__ = ("ordered", "scores")

    def __init__(self) -> None:
        self.scores: dict[str, int] = {}
        self.ordered: list[tuple[int, str]] = []

    def put(self, member: str, score: int) -> None:
        self.remove(member)
        self.scores[member] = score
        insort(self.ordered, (score, member))

    def remove(self, member: str) -> bool:
        score = self.scores.pop(member, None)
        if score is None:
            return False
        del self.ordered[bisect_left(self.ordered, (score, member))]
        return True

    def span(self, low: int | None, high: int | None) -> tuple[int, int]:
        start = 0 if low is None else bisect_left(self.ordered, (low, ""))
        stop = len(self.ordered) if high is None else bisect_left(self.ordered, (high + 1, ""))
        return start, stop

    def range(self, op: port.IndexRange) -> list[tuple[str, int]]:
        start, stop = self.span(op.low, op.high)
        if op.prefix is not None:
            return self._prefixed(op, op.prefix)
        if op.cursor is not None:
            mark = (op.cursor[1], op.cursor[0])
            if op.reverse:
                stop = min(stop, bisect_left(self.ordered, mark))
            else:
                start = max(start, bisect_right(self.ordered, mark))
        if stop <= start:
            return []
        if op.reverse:
            chosen = self.ordered[max(start, stop - op.limit) : stop][::-1]
        else:
            chosen = self.ordered[start : min(stop, start + op.limit)]
        return [(member, score) for score, member in chosen]

    def _prefixed(self, op: port.IndexRange, prefix: str) -> list[tuple[str, int]]:
        """Members that start with `prefix`, whose scores are all the same, in their order."""
        score = self.ordered[0][0]
        start = bisect_left(self.ordered, (score, prefix))
        stop = bisect_left(
            self.ordered, 1, lo=start, key=lambda entry: not entry[1].startswith(prefix)
        )
        if op.cursor is not None and op.reverse:
            stop = min(stop, bisect_left(self.ordered, (score, op.cursor[0])))
        elif op.cursor is not None:
            start = max(start, bisect_right(self.ordered, (score, op.cursor[0])))
        if op.reverse:
            chosen = self.ordered[max(start, stop - op.limit) : max(start, stop)][::-1]
        else:
            chosen = self.ordered[start : min(stop, start + op.limit)]
        return [(member, 0) for _, member in chosen]


class _Tables:
    """The `State` of `semantics.execute`: three dictionaries."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.now = clock
        self.bytes = 0
        self._maps: dict[str, dict[str, bytes]] = {}
        self._logs: dict[str, _Log] = {}
        self._indexes: dict[str, _Index] = {}

    def map_fields(self, key: str, fields: Iterable[str]) -> list[bytes | None]:
        found = self._maps.get(key)
        return [None for _ in fields] if found is None else [found.get(name) for name in fields]

    def map_all(self, key: str) -> dict[str, bytes]:
        return dict(self._maps.get(key, ()))

    def map_exists(self, key: str) -> bool:
        return key in self._maps

    def map_put(self, key: str, fields: dict[str, bytes]) -> None:
        target = self._maps.setdefault(key, {})
        for name, value in fields.items():
            self.bytes += len(value) - len(target.get(name, b""))
            target[name] = value

    def map_remove(self, key: str, fields: Iterable[str]) -> int:
        target = self._maps.get(key)
        if target is None:
            return 0
        removed = [target.pop(name) for name in fields if name in target]
        self.bytes -= sum(map(len, removed))
        if not target:
            del self._maps[key]
        return len(removed)

    def log_count(self, key: str) -> int:
        log = self._logs.get(key)
        return 0 if log is None else len(log.items)

    def log_append(self, key: str, first: int, items: Sequence[bytes]) -> None:
        log = self._logs.get(key)
        if log is None:
            log = self._logs[key] = _Log(first)
        log.items.extend(items)
        self.bytes += sum(map(len, items))

    def log_read(self, key: str, start: int, stop: int) -> list[bytes]:
        log = self._logs[key]
        return log.items[start - log.first : stop - log.first]

    def log_remove(self, key: str, start: int, stop: int) -> None:
        log = self._logs[key]
        low, high = start - log.first, stop - log.first
        self.bytes -= sum(map(len, log.items[low:high]))
        del log.items[low:high]
        if low == 0:
            log.first = stop
        if not log.items:
            del self._logs[key]

    def log_set(self, key: str, sequence: int, item: bytes) -> None:
        log = self._logs[key]
        self.bytes += len(item) - len(log.items[sequence - log.first])
        log.items[sequence - log.first] = item

    def index_put(self, key: str, entries: dict[str, int], *, greater: bool) -> None:
        index = self._indexes.setdefault(key, _Index())
        for member, score in entries.items():
            old = index.scores.get(member)
            if old is None or not greater or score > old:
                index.put(member, score)

    def index_range(self, key: str, op: port.IndexRange) -> list[tuple[str, int]]:
        index = self._indexes.get(key)
        return [] if index is None else index.range(op)

    def index_count(self, key: str, low: int | None, high: int | None) -> int:
        index = self._indexes.get(key)
        if index is None:
            return 0
        start, stop = index.span(low, high)
        return max(0, stop - start)

    def index_scores(self, key: str, members: Iterable[str]) -> list[int | None]:
        index = self._indexes.get(key)
        return [None if index is None else index.scores.get(member) for member in members]

    def index_remove(self, key: str, members: Iterable[str]) -> int:
        index = self._indexes.get(key)
        if index is None:
            return 0
        removed = sum(index.remove(member) for member in members)
        if not index.scores:
            del self._indexes[key]
        return removed

    def drop(self, kind: port.Kind, key: str) -> bool:
        if kind == "map":
            fields = self._maps.pop(key, None)
            self.bytes -= sum(map(len, fields.values())) if fields else 0
            return fields is not None
        if kind == "log":
            log = self._logs.pop(key, None)
            self.bytes -= sum(map(len, log.items)) if log else 0
            return log is not None
        return self._indexes.pop(key, None) is not None
