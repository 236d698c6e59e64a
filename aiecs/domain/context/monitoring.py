"""What every call is measured by: latencies in bounded histograms, and observers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import wraps
from time import perf_counter
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar

from aiecs.core.errors import ConflictError, ContextEngineError, CorruptRecordError
from aiecs.core.interface.store import CorruptField, GuardFailed

logger = logging.getLogger("aiecs")

P = ParamSpec("P")
R = TypeVar("R")

_STEPS = 8
_BUCKETS = 40 * _STEPS


class Observer(Protocol):
    """Is told of every operation of an engine, on the thread and loop that ran it."""

    def operation(self, name: str, seconds: float, outcome: str) -> None:
        """`name` as the engine's method; `outcome` is "ok" or the name of the error's class.

        Must not block. What it raises is logged and goes no further.
        """
        ...


class Latency(NamedTuple):
    """How long calls took, in seconds; zeros before the first one."""

    calls: int = 0
    average: float = 0.0
    p50: float = 0.0
    p99: float = 0.0


class Histogram:
    """Durations from 1 microsecond to days in 320 buckets, each at most 12.5 % wide."""

    __slots__ = ("_counts", "count", "seconds")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.seconds = 0.0

    def record(self, seconds: float) -> None:
        """Count one duration."""
        micros = int(seconds * 1_000_000)
        if micros >= _STEPS:
            length = micros.bit_length() - 4
            micros = length * _STEPS + (micros >> length)
        self._counts[micros if micros < _BUCKETS else -1] += 1
        self.count += 1
        self.seconds += seconds

    def add(self, other: Histogram) -> None:
        """Count everything that `other` counted."""
        self._counts = [a + b for a, b in zip(self._counts, other._counts, strict=True)]
        self.count += other.count
        self.seconds += other.seconds

    def latency(self) -> Latency:
        """The summary."""
        if not self.count:
            return Latency()
        average = self.seconds / self.count
        return Latency(self.count, average, self._quantile(0.5), self._quantile(0.99))

    def _quantile(self, share: float) -> float:
        wanted, seen = share * sum(self._counts), 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return _upper(bucket) / 1_000_000
        return 0.0


def _upper(bucket: int) -> int:
    """The longest duration of a bucket, in microseconds."""
    if bucket < _STEPS:
        return bucket + 1
    length, step = divmod(bucket, _STEPS)
    return (_STEPS + step + 1) << (length - 1)


class Monitor:
    """One engine's measurements. Safe from any thread; a count may be lost, never an error made."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._observers = tuple(observers)
        self._by_name: dict[str, Histogram] = {}
        self.failures = 0

    def record(self, name: str, seconds: float, outcome: str = "ok") -> None:
        """Count one call of the operation `name`."""
        histogram = self._by_name.get(name)
        if histogram is None:
            histogram = self._by_name.setdefault(name, Histogram())
        histogram.record(seconds)
        if self._observers:
            self._tell(name, seconds, outcome)

    def failed(self, name: str, seconds: float, error: BaseException) -> None:
        """Count one call that raised."""
        self.failures += 1
        self.record(name, seconds, type(error).__name__)

    def _tell(self, name: str, seconds: float, outcome: str) -> None:
        for observer in self._observers:
            try:
                observer.operation(name, seconds, outcome)
            except Exception:  # an observer's fault is not the caller's
                logger.exception("an observer failed", extra={"operation": name})

    def latency(self, name: str | None = None) -> Latency:
        """The latency of one operation, or of all together."""
        if name is not None:
            found = self._by_name.get(name)
            return Latency() if found is None else found.latency()
        total = Histogram()
        for histogram in list(self._by_name.values()):
            total.add(histogram)
        return total.latency()

    def latencies(self) -> dict[str, Latency]:
        """The latency of each operation that was called."""
        return {name: found.latency() for name, found in sorted(self._by_name.items())}


class Monitored(Protocol):
    """Whose operations are measured."""

    @property
    def monitor(self) -> Monitor:
        """What measures them."""
        ...


E = TypeVar("E", bound=Monitored)


def operation(
    method: Callable[Concatenate[E, P], Awaitable[R]],
) -> Callable[Concatenate[E, P], Coroutine[Any, Any, R]]:
    """A method of the engine: measured, observed, and failing with the public errors only."""
    name = method.__name__

    @wraps(method)
    async def measured(engine: E, /, *args: P.args, **kwargs: P.kwargs) -> R:
        started = perf_counter()
        try:
            result = await method(engine, *args, **kwargs)
        except (CorruptField, GuardFailed) as error:
            engine.monitor.failed(name, perf_counter() - started, error)
            raise _public(name, error) from error
        except BaseException as error:
            engine.monitor.failed(name, perf_counter() - started, error)
            raise
        engine.monitor.record(name, perf_counter() - started)
        return result

    return measured


def _public(name: str, error: CorruptField | GuardFailed) -> ContextEngineError:
    """What callers see of a store's answer that no service has made sense of."""
    if isinstance(error, CorruptField):
        return CorruptRecordError(f"{name}: a stored counter or log is corrupt")
    return ConflictError(f"{name}: a counter has reached its limit")
