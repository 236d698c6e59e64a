"""Health and metrics tell the truth: of the whole store, over deletions, expiry and outages."""

from __future__ import annotations

import math

import pytest
from support.waiting import expired, until

from aiecs import ContextEngine, InvalidInputError, StoreUnavailableError
from aiecs.domain.context.latency import Histogram


async def test_health_says_what_the_specification_reads(engine):
    await engine.create_session("s", "u")
    await engine.create_session("t", "u")
    await engine.end_session("t")
    await engine.add_conversation_message("s", "user", "x")

    health = await engine.health_check()

    name = engine._on.runtime.store.capabilities.name
    assert health["status"] == "healthy"
    assert health["issues"] == []
    assert health["storage_backend"] == name
    assert health["redis_connected"] is (name == "redis")
    assert (health["active_sessions"], health["total_messages"]) == (1, 1)


async def test_metrics_are_finite_numbers_from_the_start(engine):
    metrics = await engine.get_metrics()

    performance = metrics["storage_performance"]
    assert set(performance) >= {"avg_response_time", "p50", "p99", "cache_hit_rate"}
    assert all(math.isfinite(number) for number in performance.values())
    assert 0 <= metrics["memory_usage"] <= 1
    assert 0 <= performance["cache_hit_rate"] <= 1
    for name in ("total_sessions", "active_sessions", "total_messages", "total_checkpoints"):
        assert metrics[name] == 0
    assert metrics["storage_backend"]
    assert metrics["timestamp"]


async def test_totals_are_those_of_the_whole_store(make_engine):
    first, second = await make_engine(), await make_engine()
    for number in range(10):
        await first.create_session(f"a{number}", "u")
        await second.add_conversation_message(f"b{number}", "user", "x")
    await second.add_conversation_messages("b0", [{"role": "u", "content": "y"}] * 5)
    await first.store_checkpoint("t", "c", {})
    await first.store_checkpoint("t", "c", {})
    for number in range(4):
        await first.end_session(f"a{number}")
        await first.end_session(f"a{number}", status="failed")
    await first.update_session("a0", {"status": "active"})
    await first.get_metrics()  # what an engine has counted itself is in its answer at once

    metrics = await second.get_metrics()

    assert metrics["total_sessions"] == 20
    assert metrics["active_sessions"] == 17
    assert metrics["total_messages"] == 15
    assert metrics["total_checkpoints"] == 1


async def test_totals_arrive_within_moments(make_engine):
    first, second = await make_engine(), await make_engine()
    await first.create_session("s", "u")

    async def arrived():
        return (await second.get_metrics())["total_sessions"] == 1

    await until(arrived, 10.0)


async def test_totals_survive_deletion_and_expiry(make_engine):
    engine = await make_engine(session_ttl=0.15)
    for name in ("a", "b", "c"):
        await engine.create_session(name, "u")
        await engine.add_conversation_message(name, "user", "x")
    await engine.end_session("a")
    await engine.delete_session("a")
    for name in ("b", "c"):
        await expired(engine, name)
    await engine.add_conversation_message("b", "user", "anew")

    metrics = await engine.get_metrics()
    assert (metrics["stored_sessions"], metrics["stored_messages"]) == (2, 2), "c is not swept yet"
    await engine._on.maintenance.sweep()
    metrics = await engine.get_metrics()
    assert (metrics["stored_sessions"], metrics["stored_messages"]) == (1, 1)
    assert (metrics["total_sessions"], metrics["total_messages"]) == (4, 4), "b lived twice"


async def test_trimmed_messages_were_stored_once(make_engine):
    engine = await make_engine(max_messages_per_session=3)
    for number in range(5):
        await engine.add_conversation_message("s", "user", str(number))
    key = await engine.create_conversation_session("s", [], "agent_to_agent")
    for number in range(4):
        sender = ("a", "agent", "writer")
        await engine.add_agent_communication_message(key, *sender, content=str(number))

    metrics = await engine.get_metrics()

    assert (metrics["stored_messages"], metrics["total_messages"]) == (6, 9)


async def test_recount_puts_wrong_totals_right(engine):
    for number in range(5):
        await engine.create_session(f"s{number}", "u")
        await engine.add_conversation_message(f"s{number}", "user", "x")
    await engine.end_session("s0")
    await engine.store_checkpoint("t", "c", {})
    before = await engine.get_metrics()
    engine._on.runtime.counters.add("messages", 1000)
    engine._on.runtime.counters.add("sessions", -3)

    found = await engine.recount()

    counted = {"sessions": 5, "ended": 1, "messages": 5, "checkpoints": 1}
    assert found.to_dict() == {**counted, "drift": {"sessions": 3, "messages": -1000}}
    after = await engine.get_metrics()
    for name in ("stored_sessions", "active_sessions", "stored_messages", "stored_checkpoints"):
        assert after[name] == before[name]
    assert (await engine.recount()).to_dict() == {**counted, "drift": {}}


async def test_a_recount_keeps_what_was_ever_stored(engine):
    for number in range(5):
        await engine.add_conversation_message(f"s{number}", "user", "x")
    await engine.delete_session("s0")

    await engine.recount()

    metrics = await engine.get_metrics()
    assert (metrics["total_sessions"], metrics["stored_sessions"]) == (5, 4)


async def test_an_outage_shows_and_never_as_zero(timed):
    engine, store = timed
    await engine.create_session("s", "u")
    store.fail(1)

    async def ping():
        raise StoreUnavailableError("gone")

    store.ping = ping
    health = await engine.health_check()
    assert health["status"] == "unhealthy"
    assert "StoreUnavailableError: gone" in health["issues"]
    assert health["active_sessions"] is None
    for call in (
        engine.get_metrics(),
        engine.get_session("s"),
        engine.list_sessions(),
        engine.update_session("s"),
        engine.cleanup_expired_sessions(),
        engine.get_conversation_history("s"),
        engine.add_conversation_message("s", "user", "x"),
        engine.create_session("t", "u"),
    ):
        with pytest.raises(StoreUnavailableError):
            await call

    store.mend()
    del store.ping
    assert (await engine.health_check())["status"] == "healthy"
    assert (await engine.get_metrics())["total_sessions"] == 1


async def test_counts_that_the_store_refused_are_not_lost(timed):
    engine, store = timed
    await engine.add_conversation_message("s", "user", "x")
    await engine._on.runtime.counters.flush()
    await engine.add_conversation_message("s", "user", "x")
    store.fail(1)
    with pytest.raises(StoreUnavailableError):
        await engine._on.runtime.counters.flush()
    store.mend()

    assert (await engine.get_metrics())["total_messages"] == 2


async def test_latencies_are_counted_by_operation(engine):
    for _ in range(20):
        await engine.add_conversation_message("s", "user", "x")
    with pytest.raises(InvalidInputError):
        await engine.add_conversation_message("s", "", "x")

    metrics = await engine.get_metrics()

    found = metrics["operations"]["add_conversation_message"]
    assert (found["calls"], found["errors"]) == (21, {"InvalidInputError": 1})
    assert 0 < found["p50"] <= found["p99"]
    assert metrics["failed_operations"] == 1
    assert metrics["storage_performance"]["avg_response_time"] > 0


async def test_observers_are_told_and_cannot_disturb(make_engine):
    told = []

    class Watcher:
        def operation(self, name, seconds, outcome):
            told.append((name, outcome))
            assert seconds >= 0

    class Broken:
        def operation(self, name, seconds, outcome):
            raise RuntimeError("observer")

    engine = await make_engine(observers=[Broken(), Watcher()])
    await engine.create_session("s", "u")
    with pytest.raises(InvalidInputError):
        await engine.end_session("s", "nonsense")

    assert told == [("create_session", "ok"), ("end_session", "InvalidInputError")]
    with pytest.raises(InvalidInputError):
        ContextEngine(observers=[object()])


@pytest.mark.parametrize("seconds", [0.0, 1e-6, 7e-6, 8e-6, 0.0001, 0.25, 1.0, 3600.0, 1e6])
def test_a_quantile_is_right_within_an_eighth(seconds):
    histogram = Histogram()
    for _ in range(100):
        histogram.record(seconds)

    found = histogram.latency()

    assert found.average == pytest.approx(seconds)
    assert seconds <= found.p50 == found.p99 <= max(seconds * 1.125, seconds + 1e-6) + 1e-9


def test_quantiles_are_of_all_calls():
    histogram = Histogram()
    for number in range(1, 1001):
        histogram.record(number / 1000)

    found = histogram.latency()

    assert found.p50 == pytest.approx(0.5, rel=0.13)
    assert found.p99 == pytest.approx(0.99, rel=0.13)
