"""A span around every operation of an engine, and its metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

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
        meter = metrics.get_meter(_SCOPE, meter_provider=meter_provider)
        self._seconds = meter.create_histogram(
            names.DURATION, unit="s", description="How long operations took."
        )
        self._state: Mapping[str, Any] = {}
        self._ids = ids
        self._system = "unknown"
        self._kind = SpanKind.CLIENT
        self._attributes: dict[tuple[str, str], dict[str, str]] = {}
        self._told: dict[str, dict[str, str]] = {}
        for name, path, unit, text in names.GAUGES:
            meter.create_observable_gauge(
                name, [self._observer_of(path)], unit=unit, description=text
            )

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
        self._seconds.record(seconds, attributes)

    def state(self, metrics: Mapping[str, Any]) -> None:
        """See `StateObserver`."""
        self._state = metrics

    def span(self, name: str, subject: Mapping[str, str]) -> _Span:
        """See `Tracer`."""
        attributes = self._told.get(name)
        if attributes is None:
            attributes = {**names.of_operation(name), names.DB_SYSTEM: self._system}
            self._told[name] = attributes
        if self._ids and subject:
            attributes = attributes | names.of_subject(subject)
        return _Span(self._tracer, names.span_name(name), self._kind, attributes)

    def _observer_of(self, path: tuple[str, ...]) -> Any:
        def observed(options: CallbackOptions) -> Iterable[Observation]:
            del options
            value: Any = self._state
            for name in path:
                value = value.get(name) if isinstance(value, Mapping) else None
            if value is None or isinstance(value, str):
                return []
            return [Observation(float(value), {names.DB_SYSTEM: self._system})]

        return observed
