"""A span around every operation of an engine, and its metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider

from aiecs.core.errors import ContextEngineError
from aiecs.integrations.otel import names

_SCOPE = "aiecs"
_OK = "ok"


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
        self._attributes = {}

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

    @contextmanager
    def span(self, name: str, subject: Mapping[str, str]) -> Iterator[None]:
        """See `Tracer`."""
        attributes = {**names.of_operation(name), names.DB_SYSTEM: self._system}
        if self._ids:
            attributes |= names.of_subject(subject)
        with self._tracer.start_as_current_span(
            names.span_name(name),
            kind=self._kind,
            attributes=attributes,
            record_exception=False,  # an error's text may hold what nobody should see
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                kind = type(error).__name__
                span.set_attribute(names.ERROR_TYPE, kind)
                if isinstance(error, ContextEngineError):
                    span.set_status(Status(StatusCode.ERROR, kind))
                else:
                    span.set_status(Status(StatusCode.ERROR))
                raise

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
