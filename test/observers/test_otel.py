"""What OpenTelemetry is told: spans within the caller's, around what happens in them; metrics."""

from __future__ import annotations

import json

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from support import servers as real

from aiecs import ContextEngine, InvalidInputError
from aiecs.infrastructure.persistence.stores.memory import MemoryStore
from aiecs.integrations.otel import OpenTelemetryObserver, names

CANARY = "canary-9b"


class Telemetry:
    def __init__(self):
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider(metric_readers=[self.reader])

    def observer(self, **options):
        return OpenTelemetryObserver(self.tracers, self.meters, **options)

    def spans(self):
        return self.exporter.get_finished_spans()

    def points(self):
        data = self.reader.get_metrics_data()
        return {
            (metric.name, *sorted(point.attributes.items())): point
            for resource in (data.resource_metrics if data else ())  # None: there is nothing
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        }

    def close(self):
        self.tracers.shutdown()
        self.meters.shutdown()


@pytest.fixture
def telemetry():
    made = Telemetry()
    yield made
    made.close()


class Traced:
    """A store whose calls are spans of their own, as a driver's would be."""

    capabilities = MemoryStore.capabilities

    def __init__(self, tracers):
        self._tracer, self._store = tracers.get_tracer("driver"), MemoryStore()

    async def apply(self, batch, *, timeout=None):
        with self._tracer.start_as_current_span("driver"):
            return await self._store.apply(batch, timeout=timeout)

    async def ping(self):
        await self._store.ping()

    async def close(self):
        await self._store.close()


async def test_a_span_stands_between_the_caller_and_the_driver(telemetry):
    store = Traced(telemetry.tracers)
    async with ContextEngine(store=store, observers=[telemetry.observer()]) as engine:
        with telemetry.tracers.get_tracer("application").start_as_current_span("request"):
            await engine.add_conversation_message("s", "user", "x")
    await store.close()

    spans = {span.name: span for span in telemetry.spans()}
    request, ours = spans["request"], spans["create_memory"]
    within = [
        span
        for span in telemetry.spans()
        if span.parent and span.parent.span_id == ours.context.span_id
    ]
    assert ours.parent.span_id == request.context.span_id
    assert {span.name for span in within} == {"driver"}


async def test_a_span_says_what_it_is_and_nothing_of_the_content(telemetry):
    async with ContextEngine(store="memory://", observers=[telemetry.observer()]) as engine:
        await engine.create_session("the session", CANARY, {"k": CANARY})
        await engine.add_conversation_message("the session", "user", CANARY)
        await engine.delete_user(CANARY)
        with pytest.raises(InvalidInputError):
            await engine.end_session("the session", CANARY)

    created, _, deleted, ended = telemetry.spans()
    assert created.name == "create_memory_store"
    assert created.kind is SpanKind.INTERNAL
    assert dict(created.attributes) == {
        names.GEN_AI_OPERATION: "create_memory_store",
        names.DB_OPERATION: "create_session",
        names.DB_SYSTEM: "memory",
        names.GEN_AI_CONVERSATION: "the session",
    }
    assert created.status.status_code is StatusCode.UNSET
    assert names.GEN_AI_CONVERSATION not in deleted.attributes
    assert ended.attributes[names.ERROR_TYPE] == "InvalidInputError"
    assert ended.status.status_code is StatusCode.ERROR
    told = json.dumps([json.loads(span.to_json()) for span in telemetry.spans()])
    assert CANARY not in told


async def test_ids_can_be_left_out(telemetry):
    observer = telemetry.observer(ids=False)
    async with ContextEngine(store="memory://", observers=[observer]) as engine:
        await engine.create_session("the session", "u")

    assert "the session" not in telemetry.spans()[0].to_json()


@pytest.mark.parametrize("name", real.names())
async def test_a_call_to_a_server_is_one(telemetry, servers, name):
    server = servers.start(name)
    async with ContextEngine(store=server.url, observers=[telemetry.observer()]) as engine:
        await engine.get_session("s")
    server.close()

    (span,) = telemetry.spans()
    assert (span.kind, span.attributes[names.DB_SYSTEM]) == (SpanKind.CLIENT, "redis")


async def test_operations_and_state_are_metrics(telemetry):
    async with ContextEngine(store="memory://", observers=[telemetry.observer()]) as engine:
        for _ in range(3):
            await engine.add_conversation_message("s", "user", CANARY)
        with pytest.raises(InvalidInputError):
            await engine.end_session("s", CANARY)
        await engine._on.diagnosis.tell()
        points = telemetry.points()

    memory = (names.DB_SYSTEM, "memory")
    added = (names.DB_OPERATION, "add_conversation_message")
    operation = (names.GEN_AI_OPERATION, "create_memory")
    assert points[names.DURATION, added, memory, operation].count == 3
    failed = [key for key in points if (names.ERROR_TYPE, "InvalidInputError") in key]
    assert len(failed) == 1
    assert points["aiecs.sessions.active", memory].value == 1
    assert points["aiecs.messages.stored", memory].value == 3
    assert not any("transport" in name for name, *_ in points), "memory has none"
    assert CANARY not in repr(points)


async def test_what_is_unknown_is_absent(telemetry):
    observer = telemetry.observer()
    observer.opened("redis", "configured")
    observer.state({"active_sessions": None, "transport": {"waiting": 2}, "archive": {}})

    points = telemetry.points()

    assert {name for name, *_ in points} == {"aiecs.transport.waiting"}


async def test_several_engines_share_a_provider(telemetry, tmp_path):
    first = ContextEngine(store="memory://", observers=[telemetry.observer()])
    url = f"sqlite:///{tmp_path}/a.db"
    second = ContextEngine(store=url, observers=[telemetry.observer()], operation_timeout=10)
    async with first, second:
        for engine in (first, second):
            await engine.create_session("s", "u")
            await engine._on.diagnosis.tell()
        points = telemetry.points()

    active = {key[1:]: point.value for key, point in points.items() if "sessions.active" in key[0]}
    assert active == {((names.DB_SYSTEM, "memory"),): 1, ((names.DB_SYSTEM, "sqlite"),): 1}


async def test_the_histogram_tells_fast_operations_from_slow_ones(telemetry):
    observer = telemetry.observer()
    for seconds in (0.0001, 0.002, 0.03, 0.4):
        observer.operation("get_session", seconds, "ok")

    (point,) = telemetry.points().values()

    assert [count for count in point.bucket_counts if count] == [1, 1, 1, 1]


async def test_a_closed_engine_is_told_of_no_more(telemetry):
    engine = ContextEngine(store="memory://", observers=[telemetry.observer()])
    async with engine:
        await engine._on.diagnosis.tell()
        assert "aiecs.sessions.active" in {name for name, *_ in telemetry.points()}

    assert not {name for name, *_ in telemetry.points()} & {"aiecs.sessions.active"}
