"""Metrics for Prometheus: what an engine does, and how it is.

Needs `prometheus-client` (the extra `prometheus`). No id and no content is ever a label.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any
from weakref import WeakKeyDictionary

from aiecs.core.errors import MissingExtraError

if find_spec("prometheus_client") is None:
    raise MissingExtraError("the Prometheus observer", "prometheus")

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["PrometheusObserver"]

#: Seconds: from a read that the process answers itself to the longest deadline.
_BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_STORE = ("store",)
_PARTS = ("transport", "archive")
Numbers = Mapping[str, float]
_FLAGS = (
    ("store_up", "1 while the store can be read."),
    ("storage_fallback", "1 when data is kept in this process for want of Redis."),
    ("breaker_open", "1 while calls to a server fail at once."),
    ("archive_breaker_open", "1 while deliveries to the archive are held back."),
)
_WORST: dict[str, Callable[[list[float]], float]] = {
    "store_up": min,
    "storage_fallback": max,
    "breaker_open": max,
    "archive_breaker_open": max,
}
#: Name of the series, where it stands in the metrics of an engine, what it is.
_GAUGES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("sessions_active", ("active_sessions",), "Sessions that neither ended nor expired."),
    ("sessions_stored", ("stored_sessions",), "Sessions in the store."),
    ("messages_stored", ("stored_messages",), "Messages in the store."),
    ("checkpoints_stored", ("stored_checkpoints",), "Checkpoints in the store."),
    ("sessions_ever", ("total_sessions",), "Sessions ever stored."),
    ("messages_ever", ("total_messages",), "Messages ever stored."),
    ("checkpoints_ever", ("total_checkpoints",), "Checkpoints ever stored."),
    ("memory_usage_ratio", ("memory_usage",), "Share of the store's room that is taken, 0 to 1."),
    (
        "cache_hit_ratio",
        ("storage_performance", "cache_hit_rate"),
        "Share of reads of histories that this process's cache answered, 0 to 1.",
    ),
    ("corrupt_records", ("corrupt_records",), "Records left out because they are corrupt."),
    ("transport_connections", ("transport", "connections"), "Open connections."),
    ("transport_in_flight", ("transport", "in_flight"), "Calls sent or waiting to connect."),
    ("transport_in_flight_bytes", ("transport", "in_flight_bytes"), "What those calls bring."),
    ("transport_waiting", ("transport", "waiting"), "Calls that wait for room."),
    ("transport_reconnects", ("transport", "reconnects"), "Connections lost so far."),
    (
        "transport_unknown_outcomes",
        ("transport", "unknown_outcomes"),
        "Writes so far of which the caller was told that they may have been applied.",
    ),
    ("archive_waiting_events", ("archive", "waiting"), "Events that wait for the archive."),
    ("archive_waiting_bytes", ("archive", "size"), "Bytes of events that wait for the archive."),
    ("archive_oldest_seconds", ("archive", "oldest"), "Age of the oldest event that waits."),
    ("archive_filling_ratio", ("archive", "filling"), "Share of the outbox's room taken, 0 to 1."),
    ("archive_dead_events", ("archive", "dead"), "Events that the archive does not take."),
    ("archive_dropped_events", ("archive", "dropped"), "Events ever given up for want of room."),
    ("archive_shipped_events", ("archive", "shipped"), "Events this process brought there."),
    ("archive_failures", ("archive", "failures"), "Deliveries of this process that failed."),
    ("archive_gaps", ("archive", "gaps"), "Histories served without their archived part."),
)


class _Series:
    """The metrics of one registry; several engines share them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.operations = Counter(
            "aiecs_operations",
            "Operations of the engine by how they ended: ok, or the error's class.",
            ("operation", "store", "outcome"),
            registry=registry,
        )
        self.seconds = Histogram(
            "aiecs_operation_seconds",
            "How long operations took.",
            ("operation", "store"),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._gauges = {
            name: Gauge(f"aiecs_{name}", text, _STORE, registry=registry)
            for name, text in (*_FLAGS, *((name, text) for name, _, text in _GAUGES))
        }
        #: What each observer said last, for as long as it is there; the latest at the end.
        self._told: WeakKeyDictionary[object, tuple[str, Numbers]] = WeakKeyDictionary()
        self._telling = threading.Lock()

    def tell(self, observer: object, store: str, numbers: Numbers) -> None:
        """Show the state of one more engine on `store`, in place of what its observer said."""
        with self._telling:
            self._told.pop(observer, None)
            self._told[observer] = store, numbers
            self._show(store, numbers)

    def forget(self, observer: object) -> None:
        """Show the state of the other engines on its store; NaN where there are none."""
        with self._telling:
            store, numbers = self._told.pop(observer, ("", {}))
            self._show(store, numbers)

    def _show(self, store: str, names: Iterable[str]) -> None:
        told = [numbers for one, numbers in self._told.values() if one == store]
        for name in names:
            values = [numbers[name] for numbers in told if name in numbers]
            self._gauges[name].labels(store).set(_together(name, values))


def _together(name: str, values: list[float]) -> float:
    """What several engines on one store say: the worst of what alerts go by, else the latest."""
    if not values:
        return math.nan
    known = [value for value in values if not math.isnan(value)]
    worst = _WORST.get(name)
    return values[-1] if worst is None or not known else worst(known)


_made: WeakKeyDictionary[CollectorRegistry, _Series] = WeakKeyDictionary()
_lock = threading.Lock()


class PrometheusObserver:
    """An observer of one engine: `ContextEngine(observers=[PrometheusObserver()])`.

    `registry`: where the series are made, by default prometheus_client's own; engines may share it.
    Operations are counted as they happen; how the engine is, is told every 10 s. What is unknown
    because the store is down, or the engine closed, is NaN, never 0. Engines on stores of one kind
    have one label: `store_up` and its like tell of the worst of them, the rest of the latest.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        home = REGISTRY if registry is None else registry
        with _lock:
            self._series = _made.get(home) or _Series(home)
            _made[home] = self._series
        self._store = "unknown"
        self._counted: dict[tuple[str, str], Any] = {}
        self._timed: dict[str, Any] = {}
        #: Which of `_PARTS` this engine has; it cannot tell of them while the store is down.
        self._has: set[str] = set()

    def opened(self, storage_backend: str, storage_mode: str) -> None:
        """See `OpeningObserver`."""
        self._store = storage_backend
        self._counted, self._timed, self._has = {}, {}, set()
        self._series.tell(self, storage_backend, {"storage_fallback": storage_mode == "fallback"})

    def operation(self, name: str, seconds: float, outcome: str) -> None:
        """See `Observer`."""
        counted = self._counted.get((name, outcome))
        if counted is None:
            counted = self._series.operations.labels(name, self._store, outcome)
            self._counted[name, outcome] = counted
        timed = self._timed.get(name)
        if timed is None:
            timed = self._timed[name] = self._series.seconds.labels(name, self._store)
        counted.inc()
        timed.observe(seconds)

    def state(self, metrics: Mapping[str, Any]) -> None:
        """See `StateObserver`."""
        self._has.update(part for part in _PARTS if metrics.get(part))
        self._series.tell(
            self, self._store, {**self._flags(metrics), **dict(self._values(metrics))}
        )

    def closed(self) -> None:
        """See `ClosingObserver`."""
        self._series.forget(self)

    def _flags(self, metrics: Mapping[str, Any]) -> Numbers:
        flags = {
            "store_up": float(metrics["total_sessions"] is not None),
            "storage_fallback": float(metrics["storage_mode"] == "fallback"),
            "breaker_open": float(metrics["breaker"] == "open"),
        }
        archive = metrics["archive"]
        if "archive" in self._has:
            held = float(archive["breaker"] == "open") if archive else math.nan
            flags["archive_breaker_open"] = held
        return flags

    def _values(self, metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
        """Every gauge that applies to this engine; NaN for what is not known now."""
        for name, (first, *rest), _ in _GAUGES:
            if first in _PARTS and first not in self._has:
                continue
            found = metrics.get(first)
            if rest:
                found = None if found is None else found.get(rest[0])
            yield name, math.nan if found is None else float(found)
