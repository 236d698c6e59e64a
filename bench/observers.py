"""What observing costs: CPU per operation with nobody watching, and with each observer.

A read in memory of a session that is not there (the cheapest operation there is) on engines that
differ in their observers alone, in turns; the differences are what an observer adds. "bare" is the
same work called past the measuring that every engine does, so that this shows too. OpenTelemetry is
measured with spans that are recorded and exported to nowhere, and with its API alone, as where an
application has not set up the SDK.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

from harness import Options
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry
from report import Report, at_most, environment

from aiecs import ContextEngine
from aiecs.domain.context.monitoring import ContentEngineMonitor
from aiecs.integrations.otel import OpenTelemetryObserver
from aiecs.integrations.prometheus import PrometheusObserver

BY_HAND = "the SDK by hand: a span, a histogram"
Call = Callable[[], Awaitable[object]]


async def measure(call: Call, times: int) -> float:
    """CPU microseconds of one call."""
    gc.collect()
    start = time.process_time()
    for _ in range(times):
        await call()
    return (time.process_time() - start) / times * 1e6


def _sdk() -> tuple[Any, Any]:
    """A tracer and a histogram as an application would use them."""
    meters = MeterProvider(metric_readers=[InMemoryMetricReader()])
    histogram = meters.get_meter("by hand").create_histogram("by_hand")
    return TracerProvider().get_tracer("by hand"), histogram


async def main() -> None:
    options = Options.parse(__doc__)
    rounds, times = (3, 500) if options.quick else (31, 4_000)
    meters = MeterProvider(metric_readers=[InMemoryMetricReader()])
    observers = {
        "nobody": [],
        "Prometheus": [PrometheusObserver(CollectorRegistry())],
        "OpenTelemetry, API alone": [OpenTelemetryObserver()],
        "OpenTelemetry, spans recorded": [OpenTelemetryObserver(TracerProvider(), meters)],
    }
    engines = {
        name: ContextEngine(store="memory://", observers=found) for name, found in observers.items()
    }
    engines["ContentEngineMonitor"] = ContextEngine(store="memory://")
    for engine in engines.values():
        await engine.initialize()
    ContentEngineMonitor(engines["ContentEngineMonitor"])
    calls: dict[str, Call] = {
        name: (lambda engine=engine: engine.get_session("nobody's"))  # type: ignore[misc]
        for name, engine in engines.items()
    }
    sessions = engines["nobody"]._on.sessions
    calls = {"bare": lambda: sessions.get("nobody's"), **calls}
    tracer, histogram = _sdk()

    async def by_hand() -> object:
        with tracer.start_as_current_span("by hand", attributes={"a": "b", "c": "d"}):
            found = await engines["nobody"].get_session("nobody's")
        histogram.record(0.001, {"a": "b"})
        return found

    calls[BY_HAND] = by_hand

    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(await measure(call, times))
    for engine in engines.values():
        await engine.close()

    added = {
        name: median(one - off for one, off in zip(found[name], found["nobody"], strict=True))
        for name in calls
    }
    report = Report(__doc__, environment("prometheus-client", "opentelemetry-sdk"))
    report.table(
        "One operation",
        ("observer", "CPU us", "more than with nobody"),
        [(name, median(found[name]), added[name]) for name in calls],
    )
    watching = {n: added[n] for n in ("Prometheus", "ContentEngineMonitor")}
    report.claim(at_most("an observer adds", 5.0, "us per operation", watching))
    recorded = "OpenTelemetry, spans recorded"
    beyond = median(ours - sdk for ours, sdk in zip(found[recorded], found[BY_HAND], strict=True))
    own = {"API alone": added["OpenTelemetry, API alone"], "beyond the SDK's own": beyond}
    report.claim(at_most("OpenTelemetry adds", 5.0, "us per operation", own))
    report.claim(at_most("measuring without one adds", 2.0, "us", {"to bare": -added["bare"]}))
    report.show(options)


if __name__ == "__main__":
    asyncio.run(main())
