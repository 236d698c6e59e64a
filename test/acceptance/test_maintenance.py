"""Clean-up removes what is idle and nothing else; health and metrics tell the truth."""

from __future__ import annotations

import asyncio
import math
import time

import pytest
from support.services import Store

from aiecs import ContextEngine, InvalidInputError, StoreUnavailableError
from aiecs.core.interface.store import Batch, Get, IndexPut, IndexRange, Put
from aiecs.core.keys import session_place
from aiecs.domain.context import maintenance
from aiecs.domain.context.indexes import SESSIONS, entries, sessions_of
from aiecs.domain.context.monitoring import Histogram

HOUR = 3_600_000_000


@pytest.fixture
async def timed():
    """An engine in memory and its store, whose clock the test moves (`ahead`, microseconds)."""
    store = Store()
    async with ContextEngine(store=store) as engine:
        yield engine, store


async def members(engine, place):
    ask = IndexRange("_", limit=1000)
    return [entry.member for entry in await entries(engine._on.runtime, place, ask)]


# --- clean-up -----------------------------------------------------------------------------------


async def test_idle_sessions_go_and_used_ones_stay(timed):
    engine, store = timed
    for name in ("idle", "used", "ended"):
        await engine.create_session(name, "u")
        await engine.add_conversation_message(name, "user", "x")
    await engine.end_session("ended")
    store.ahead += 3 * HOUR
    await engine.update_session("used", increment_requests=True)
    store.ahead += HOUR

    assert await engine.cleanup_expired_sessions(max_idle_hours=2) == 2

    assert [s.session_id for s in await engine.list_all_sessions()] == ["used"]
    assert await engine.get_conversation_history("idle") == []
    assert len(await engine.get_conversation_history("used")) == 1
    assert await engine.cleanup_expired_sessions(max_idle_hours=2) == 0
    metrics = await engine.get_metrics()
    assert (metrics["total_sessions"], metrics["total_messages"]) == (1, 1)


async def test_clean_up_of_everything_leaves_nothing(timed):
    engine, store = timed
    for number in range(5):
        await engine.create_session(f"s{number}", f"u{number}")
        await engine.add_conversation_message(f"s{number}", "user", "x", idempotency_key="k")
    store.ahead += HOUR

    assert await engine.cleanup_expired_sessions(max_idle_hours=0) == 5

    assert store.everything() == set()


async def test_the_default_spares_a_day(engine):
    await engine.create_session("s", "u")

    assert await engine.cleanup_expired_sessions() == 0
    assert await engine.cleanup_expired_sessions(max_idle_hours=0) == 1
    assert await engine.get_session("s") is None


@pytest.mark.parametrize("bad", [-1, math.nan, math.inf, "24", None, True])
async def test_idle_hours_that_make_no_sense_are_refused(engine, bad):
    await engine.create_session("s", "u")
    with pytest.raises(InvalidInputError):
        await engine.cleanup_expired_sessions(max_idle_hours=bad)
    assert await engine.get_session("s")


async def test_clean_up_is_exact_while_sessions_are_used(make_engine):
    """Each session ends up either removed and counted, or kept with what was written last."""
    cleaner, user = await make_engine(), await make_engine()
    names = [f"s{number}" for number in range(40)]
    for name in names:
        await user.create_session(name, "u")

    kept: dict[str, int] = {}

    async def use(name):
        for number in range(5):
            await user.add_conversation_message(name, "user", str(number))
            await asyncio.sleep(0)
        kept[name] = len(await user.get_conversation_history(name))

    removed, *_ = await asyncio.gather(
        cleaner.cleanup_expired_sessions(max_idle_hours=0), *(use(name) for name in names[::2])
    )

    assert removed >= 20
    for name in names[1::2]:
        assert await user.get_session(name) is None
    for name in names[::2]:
        assert len(await user.get_conversation_history(name)) == kept[name] >= 1


async def test_two_cleaners_count_each_session_once(make_engine):
    cleaners = [await make_engine() for _ in range(3)]
    for number in range(60):
        await cleaners[0].create_session(f"s{number}", "u")

    removed = await asyncio.gather(
        *(engine.cleanup_expired_sessions(max_idle_hours=0) for engine in cleaners)
    )

    assert sum(removed) == 60
    assert (await cleaners[0].list_all_sessions()) == []


async def test_one_corrupt_session_does_not_stop_clean_up(make_engine, open_store):
    engine = await make_engine()
    for name in ("a", "b", "c"):
        await engine.create_session(name, "u")
    store = open_store()
    await store.apply(Batch(*session_place("b"), (Put("", {"l": b"garbage"}),)))

    assert await engine.cleanup_expired_sessions(max_idle_hours=0) == 2
    assert (await engine.get_session("b")).session_id == "b"
    if store is not engine._named:
        await store.close()


async def test_a_thread_in_use_outlives_its_session_and_then_goes(timed):
    engine, store = timed
    await engine.create_session("s", "u")
    await engine.store_checkpoint("t", "c", {"x": 1}, session_id="s")
    store.ahead += 20 * HOUR
    await engine.store_checkpoint("t", "c2", {"x": 2}, session_id="s")
    await engine._on.runtime.tasks.drain(1)
    store.ahead += 30 * HOUR

    await engine._on.maintenance.sweep()
    assert await engine.get_session("s") is None
    assert (await engine.get_checkpoint("t"))["data"] == {"x": 2}

    store.ahead += 200 * HOUR
    await engine._on.maintenance.sweep()
    assert await engine.get_checkpoint("t") is None
    assert [key for key in store.everything() if "_lease" not in key] == []


# --- the sweeper --------------------------------------------------------------------------------


async def test_the_sweeper_removes_what_expired_and_its_index_entries(timed):
    engine, store = timed
    for number in range(300):
        await engine.create_session(f"s{number}", f"u{number % 2}")
    store.ahead += 25 * HOUR
    await engine.create_session("young", "u0")

    assert await engine._on.maintenance.sweep() == 300

    assert await members(engine, SESSIONS) == ["young"]
    assert await members(engine, (sessions_of("u0"),)) == ["young"]
    assert await members(engine, (sessions_of("u1"),)) == []
    assert (await engine.get_metrics())["total_sessions"] == 1


async def test_only_one_process_sweeps_at_a_time(make_engine):
    engines = [await make_engine(session_ttl=0.1) for _ in range(4)]
    await engines[0].create_session("s", "u")
    await asyncio.sleep(0.2)

    removed = await asyncio.gather(*(engine._on.maintenance.sweep() for engine in engines))

    assert sorted(removed) == [0, 0, 0, 1]
    await engines[0].create_session("t", "u")
    await asyncio.sleep(0.2)
    assert await engines[1]._on.maintenance.sweep() == 0, "leased for 50 s"


async def test_the_sweeper_runs_by_itself(make_engine, monkeypatch):
    monkeypatch.setattr(maintenance, "SWEEP_EVERY", 0.1)
    engine = await make_engine(session_ttl=0.05)
    await engine.create_session("s", "u")
    place = session_place("s")
    end = time.monotonic() + 10
    while time.monotonic() < end:
        batch = Batch(*place, (Get("", ("~i",)),), raw=True)
        if (await engine._on.runtime.read(batch))[0] == [None]:
            break
        await asyncio.sleep(0.05)
    else:
        pytest.fail("nothing was swept")


async def test_a_young_entry_without_a_session_is_kept(timed):
    engine, store = timed
    await engine.create_session("s", "u")
    await engine.delete_session("s")

    assert (await engine.list_sessions()).items == []
    assert await members(engine, SESSIONS) == ["s"], "a creation may be on its way"

    store.ahead += HOUR
    assert (await engine.list_sessions()).items == []
    assert (await engine.list_sessions("u")).items == []
    assert await members(engine, SESSIONS) == []
    assert await members(engine, (sessions_of("u"),)) == []


async def test_what_was_cleaned_up_young_keeps_its_entry_for_a_while(timed):
    engine, store = timed
    await engine.create_session("s", "u")
    assert await engine.cleanup_expired_sessions(max_idle_hours=0) == 1

    assert await members(engine, SESSIONS) == ["s"], "a creation may be on its way"
    store.ahead += 25 * HOUR
    assert await engine._on.maintenance.sweep() == 0
    assert await members(engine, SESSIONS) == []


async def score(engine, session_id):
    place = SESSIONS[session_place(session_id).bucket % 16]
    (entry,) = await entries(engine._on.runtime, (place,), IndexRange("_"))
    await engine._on.runtime.tasks.drain(5)
    return entry.score


async def test_use_moves_a_session_up_in_its_indexes_once_a_minute(timed):
    engine, store = timed
    await engine.create_session("s", "u")
    created = await score(engine, "s")
    store.ahead += HOUR
    await engine.update_session("s")
    assert await score(engine, "s") == created, "created by this process less than 60 s ago"

    async with ContextEngine(store=store) as other:
        for write in (
            other.add_conversation_message("s", "user", "x"),
            other.update_session("s", increment_requests=True),
        ):
            await write
            await other._on.runtime.tasks.drain(5)
        moved = await score(other, "s")
    assert moved >= created + HOUR
    batches = [batch for batch in store.batches if isinstance(batch, Batch)]
    puts = [op for batch in batches for op in batch.ops if isinstance(op, IndexPut)]
    assert len(puts) == 4, "both indexes, at creation and once by the other process"


async def test_a_creation_that_took_too_long_starts_over(timed):
    """Its index entry may have been dropped as stale by then."""
    engine, store = timed
    apply, delayed = store.apply, []

    async def slow(batch, *, timeout=None):
        ops = getattr(batch, "ops", ())
        if not delayed and any(type(op).__name__ == "RequireBefore" for op in ops):
            delayed.append(batch)
            store.ahead += HOUR
        return await apply(batch, timeout=timeout)

    store.apply = slow
    await engine.create_session("s", "u")

    assert delayed
    place = SESSIONS[session_place("s").bucket % 16]
    (entry,) = await entries(engine._on.runtime, (place,), IndexRange("_"))
    assert entry.score > store.memory._state.now() - HOUR


# --- health and metrics -------------------------------------------------------------------------


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
    end = time.monotonic() + 10
    while (await second.get_metrics())["total_sessions"] != 1:
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


async def test_totals_survive_deletion_and_expiry(make_engine):
    engine = await make_engine(session_ttl=0.15)
    for name in ("a", "b", "c"):
        await engine.create_session(name, "u")
        await engine.add_conversation_message(name, "user", "x")
    await engine.end_session("a")
    await engine.delete_session("a")
    await asyncio.sleep(0.2)
    await engine.add_conversation_message("b", "user", "anew")

    metrics = await engine.get_metrics()
    assert (metrics["total_sessions"], metrics["total_messages"]) == (2, 2), "c is not swept yet"
    await engine._on.maintenance.sweep()
    metrics = await engine.get_metrics()
    assert (metrics["total_sessions"], metrics["total_messages"]) == (1, 1)


async def test_recount_puts_wrong_totals_right(engine):
    for number in range(5):
        await engine.create_session(f"s{number}", "u")
        await engine.add_conversation_message(f"s{number}", "user", "x")
    await engine.end_session("s0")
    await engine.store_checkpoint("t", "c", {})
    before = await engine.get_metrics()
    engine._on.runtime.counters.add("messages", 1000)
    engine._on.runtime.counters.add("sessions", -3)

    totals = await engine.recount()

    assert totals == {"sessions": 5, "ended": 1, "messages": 5, "checkpoints": 1}
    after = await engine.get_metrics()
    for name in ("total_sessions", "active_sessions", "total_messages", "total_checkpoints"):
        assert after[name] == before[name]


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
    assert found["calls"] == 21
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
