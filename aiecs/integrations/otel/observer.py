"""A span around every operation of an engine, and its metrics."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry import metrics, trace
from opentelemetry.context import attach, detach
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider

from aiecs.integrations.otel import names

_SCOPE = "aiecs"
_OK = "ok"


class _Span:
    """One span, current between enter and exit. No error's text: it may hold what is private."""

    __slots__ = ("_attributes", "_kind", "_name", "_span", "_token", "_tracer")

    def __init__(
        self, tracer: trace.Tracer, name: str, kind: SpanKind, attributes: dict[str, str]
    ) -> None:
        self._tracer = tracer
        self._name = name
        self._kind = kind
        self._attributes = attributes

    def __enter__(self) -> None:
        self._span = self._tracer.start_span(
            self._name, kind=self._kind, attributes=self._attributes
        )
        self._token = attach(trace.set_span_in_context(self._span))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        detach(self._token)
        if kind is not None and self._span.is_recording():
            self._span.set_attribute(names.ERROR_TYPE, kind.__name__)
            self._span.set_status(Status(StatusCode.ERROR, kind.__name__))
        self._span.end()


class OpenTelemetryObserver:
    """An observer of one engine: `ContextEngine(observers=[OpenTelemetryObserver()])`.

    The providers are the global ones unless given. Every operation is a span, a child of the
    caller's, and current while it runs: what a driver or the application does in it is its child.
    `ids=False` leaves the ids of sessions and threads out of the spans; users' are never told. A
    histogram has the seconds of every operation, gauges tell how the engine is, as of the last
    10 s.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        ids: bool = True,
    ) -> None:
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        self._instruments = _instruments_of(meter_provider or metrics.get_meter_provider())
        self._ids = ids
        self._system = "unknown"
        self._kind = SpanKind.CLIENT
        self._attributes: dict[tuple[str, str], dict[str, str]] = {}
        self._told: dict[str, dict[str, str]] = {}

    def opened(self, storage_backend: str, storage_mode: str) -> None:
        """See `OpeningObserver`."""
        del storage_mode
        self._system = storage_backend
        # A call that leaves the process, or not: SQLite's file is as near as memory.
        remote = storage_backend not in ("memory", "sqlite")
        self._kind = SpanKind.CLIENT if remote else SpanKind.INTERNAL
        self._attributes, self._told = {}, {}

    def operation(self, name: str, seconds: float, outcome: str) -> None:
        """See `Observer`."""
        attributes = self._attributes.get((name, outcome))
        if attributes is None:
            attributes = {**names.of_operation(name), names.DB_SYSTEM: self._system}
            if outcome != _OK:
                attributes[names.ERROR_TYPE] = outcome
            self._attributes[name, outcome] = attributes
        self._instruments.seconds.record(seconds, attributes)

    def state(self, metrics: Mapping[str, Any]) -> None:
        """See `StateObserver`."""
        self._instruments.tell(self, self._system, metrics)

    def closed(self) -> None:
        """See `ClosingObserver`."""
        self._instruments.forget(self)

    def span(self, name: str, subject: Mapping[str, str]) -> _Span:
        """See `Tracer`."""
        attributes = self._told.get(name)
        if attributes is None:
            attributes = {**names.of_operation(name), names.DB_SYSTEM: self._system}
            self._told[name] = attributes
        if self._ids and subject:
            attributes = attributes | names.of_subject(subject)
        return _Span(self._tracer, names.span_name(name), self._kind, attributes)


class _Instruments:
    """The instruments of one provider; several engines share them. Safe from any thread."""

    def __init__(self, provider: MeterProvider) -> None:
        meter = metrics.get_meter(_SCOPE, meter_provider=provider)
        self.seconds = meter.create_histogram(
            names.DURATION,
            unit="s",
            description="How long operations took.",
            explicit_bucket_boundaries_advisory=names.BOUNDARIES,
        )
        #: What each observer was told last, for as long as it is there; the latest at the end.
        self._told: WeakKeyDictionary[object, tuple[str, Mapping[str, Any]]] = WeakKeyDictionary()
        self._lock = threading.Lock()
        for name, path, unit, text in names.GAUGES:
            meter.create_observable_gauge(
                name, [self._observer_of(path)], unit=unit, description=text
            )

    def tell(self, observer: object, system: str, state: Mapping[str, Any]) -> None:
        """Keep the state of the engine that `observer` watches."""
        with self._lock:
            self._told.pop(observer, None)
            self._told[observer] = system, state

    def forget(self, observer: object) -> None:
        """Tell no more of its engine."""
        with self._lock:
            self._told.pop(observer, None)

    def _observer_of(self, path: tuple[str, ...]) -> Callable[..., Iterable[Observation]]:
        def observed(options: CallbackOptions) -> Iterable[Observation]:
            del options
            with self._lock:
                told = dict(self._told.values())  # of two on one system the latest
            for system, state in told.items():
                value = _at(path, state)
                if value is not None:
                    yield Observation(value, {names.DB_SYSTEM: system})

        return observed


def _at(path: tuple[str, ...], state: Mapping[str, Any]) -> float | None:
    found: Any = state
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, int | float) else None


# A provider keeps the first of two instruments with one name, and never asks the other.
_made: WeakKeyDictionary[MeterProvider, _Instruments] = WeakKeyDictionary()
_lock = threading.Lock()


def _instruments_of(provider: MeterProvider) -> _Instruments:
    with _lock:
        found = _made.get(provider)
        if found is None:
            found = _made[provider] = _Instruments(provider)
        return found
