"""Clean-up removes what is idle and nothing else; the sweeper, what has expired."""

from __future__ import annotations

import asyncio
import itertools
import math

import pytest
from support.waiting import expired, swept

from aiecs import ContextEngine, InvalidInputError, SessionExistsError
from aiecs.core.errors import StoreTimeoutError
from aiecs.core.interface.store import Batch, CorruptField, IndexPut, IndexRange, Put
from aiecs.core.keys import session_place
from aiecs.domain.context import maintenance
from aiecs.domain.context.indexes import SESSIONS, entries, sessions_of

HOUR = 3_600_000_000


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
    assert (metrics["stored_sessions"], metrics["stored_messages"]) == (1, 1)
    assert (metrics["total_sessions"], metrics["total_messages"]) == (3, 3), "ever stored"


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


@pytest.mark.parametrize("bad", [-1, math.nan, math.inf, 10**400, "24", None, True])
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


async def test_the_id_of_an_expired_session_stays_its_owners_while_a_thread_lives(timed):
    engine, store = timed
    await engine.create_session("s", "ann")
    await engine.store_checkpoint("t", "c", {"x": 1}, session_id="s")
    await engine._on.runtime.tasks.drain(5)
    store.ahead += 48 * HOUR

    assert await engine.cleanup_expired_sessions(max_idle_hours=24 * 30) == 0

    with pytest.raises(SessionExistsError):
        await engine.create_session("s", "eve")
    assert (await engine.delete_user("ann")).threads == 1


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
    assert (await engine.get_metrics())["stored_sessions"] == 1


async def test_only_one_process_sweeps_at_a_time(make_engine):
    engines = [await make_engine(session_ttl=0.1) for _ in range(4)]
    await engines[0].create_session("s", "u")
    await expired(engines[0], "s")

    removed = await asyncio.gather(*(engine._on.maintenance.sweep() for engine in engines))

    assert sorted(removed) == [0, 0, 0, 1]
    await engines[0].create_session("t", "u")
    await expired(engines[0], "t")
    assert await engines[1]._on.maintenance.sweep() == 0, "leased for 50 s"


async def test_the_sweeper_runs_by_itself(make_engine, monkeypatch):
    monkeypatch.setattr(maintenance, "SWEEP_EVERY", 0.1)
    engine = await make_engine(session_ttl=0.05)
    await engine.create_session("s", "u")

    await swept(engine, "s")


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


# --- clean-up that goes wrong -------------------------------------------------------------------


async def test_a_session_kept_for_its_thread_is_counted_out_once(timed):
    """Clean-up settles it, keeping head and owner; later it goes for good, and counts no more."""
    engine, store = timed
    await engine.create_session("x", "u")
    await engine.store_checkpoint("x", "c", {"a": 1})
    await engine.end_session("x")
    store.ahead += 48 * HOUR
    await engine.create_session("other", "u")

    assert await engine.cleanup_expired_sessions(24 * 30) == 0  # the head is still there
    await engine.delete_thread("x")
    assert await engine.cleanup_expired_sessions(24 * 30) == 0

    metrics = await engine.get_metrics()
    assert (metrics["stored_sessions"], metrics["active_sessions"]) == (1, 1)


async def test_recounting_leaves_out_a_session_that_is_kept_for_its_thread(timed):
    engine, store = timed
    await engine.create_session("x", "u")
    await engine.store_checkpoint("x", "c", {"a": 1})
    await engine.end_session("x")
    store.ahead += 48 * HOUR
    await engine.cleanup_expired_sessions(24 * 30)
    await engine.create_session("other", "u")

    await engine._on.maintenance.recount()

    metrics = await engine.get_metrics()
    assert (metrics["stored_sessions"], metrics["active_sessions"]) == (1, 1)


async def test_when_one_removal_fails_no_other_goes_on_behind_the_caller(timed, monkeypatch):
    engine, store = timed
    for number in range(200):
        await engine.create_session(f"s{number}", "u")
    store.ahead += 48 * HOUR
    apply, calls = store.apply, itertools.count()

    async def failing(batch, **options):
        await asyncio.sleep(0)
        if next(calls) == 100:
            raise StoreTimeoutError("slow")
        return await apply(batch, **options)

    monkeypatch.setattr(store, "apply", failing)
    with pytest.raises(StoreTimeoutError):
        await engine.cleanup_expired_sessions()

    made = next(calls)
    for _ in range(20):
        await asyncio.sleep(0)
    assert next(calls) == made + 1
    total = (await engine.get_metrics())["stored_sessions"]
    assert 0 < total < 200
    assert await engine.cleanup_expired_sessions() == total


async def test_one_damaged_session_does_not_keep_the_others(timed, monkeypatch):
    """On Redis a head may be a key of another type; then every batch on it says so."""
    engine, store = timed
    for number in range(20):
        await engine.create_session(f"s{number}", "u")
    store.ahead += 48 * HOUR
    apply, damaged = store.apply, session_place("s7").group

    async def on_damage(batch, **options):
        if batch.group == damaged:
            raise CorruptField(-1)
        return await apply(batch, **options)

    monkeypatch.setattr(store, "apply", on_damage)

    assert await engine.cleanup_expired_sessions() == 19
    health = await engine.health_check()
    assert (health["status"], health["issues"]) == (
        "degraded",
        ["1 corrupt records were left out of answers"],
    )
