"""What the use of a session does around it: index entries, and the server's own expiry."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
from support.redis_store import opened

from aiecs import ContextEngine
from aiecs.core.interface.store import Batch, IndexPut, IndexRange
from aiecs.domain.context import activity
from aiecs.domain.context.indexes import announce_session, drop_stale, entries, session_shard
from aiecs.domain.context.indexes import store_time as time_of

SECOND = 1_000_000
DAY_MILLIS = 86_400_000


class Stopwatch(SimpleNamespace):
    """Stands for the module `time`: seconds that pass only when told to."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def stopwatch(monkeypatch):
    made = Stopwatch()
    monkeypatch.setattr(activity, "time", made)
    return made


async def settled(engine):
    await engine._on.runtime.tasks.drain(5)


async def entry_of(engine, session_id):
    places = (session_shard(session_id),)
    found = await entries(engine._on.runtime, places, IndexRange("_"))
    return next((entry for entry in found if entry.member == session_id), None)


# --- index entries ------------------------------------------------------------------------------


async def test_a_session_in_use_moves_up_again_and_again(timed, stopwatch):
    engine, store = timed
    await engine.create_session("s", "u")
    scores = [(await entry_of(engine, "s")).score]
    for seconds in (59, 2, 59, 2):
        stopwatch.now += seconds
        store.ahead += seconds * SECOND
        await engine.update_session("s")
        await settled(engine)
        scores.append((await entry_of(engine, "s")).score)

    moved = [later > sooner for sooner, later in itertools.pairwise(scores)]
    assert moved == [False, True, False, True], "once older than 60 s"


async def test_an_entry_that_was_renewed_is_not_dropped(engine):
    runtime, place = engine._on.runtime, session_shard("s")
    await runtime.apply(Batch(place.bucket, "", (IndexPut(place.key, {"s": 1, "t": 1}),)))
    seen = await entries(runtime, (place,), IndexRange("_"))
    now = await time_of(runtime)
    await announce_session(runtime, "s")

    await drop_stale(runtime, seen, now)

    left = await entries(runtime, (place,), IndexRange("_"))
    assert [entry.member for entry in left] == ["s"]


async def test_a_walk_tells_a_session_once_that_moves_behind_it(make_engine):
    engine, other = await make_engine(), await make_engine()
    for number in range(150):
        await engine.create_session(f"s{number}", "u")

    seen = []
    async for session in engine.iter_sessions():
        seen.append(session.session_id)
        if len(seen) == 1:
            for number in range(10):
                await other.update_session(f"s{number}", increment_requests=True)
            await settled(other)

    assert sorted(seen) == sorted(f"s{number}" for number in range(150))


# --- the server's own expiry --------------------------------------------------------------------


async def fill(engine):
    await engine.create_session("s", "u")
    await engine.add_conversation_message("s", "user", "x", idempotency_key="k")
    parties = [{"id": "a", "type": "agent"}]
    key = await engine.create_conversation_session("s", parties, "x")
    await engine.add_agent_communication_message(key, "a", "agent", "r", content="x")
    await settled(engine)


async def expiries(store, prefix):
    """How many milliseconds each key of the session has left on the server."""
    keys = await store.command("KEYS", prefix + "*s:s*")
    return {key: await store.command("PTTL", key) for key in keys}


async def test_a_session_in_use_keeps_its_safety_net(server, prefix, stopwatch):
    """On Redis all its keys, and those that nobody has written to lately, expire by themselves."""
    async with (
        opened(server.url, prefix) as store,
        ContextEngine(store=store, session_ttl=86_400, operation_timeout=10) as engine,
    ):
        await fill(engine)
        keys = await expiries(store, prefix)
        assert len(keys) >= 5
        assert min(keys.values()) > 7 * DAY_MILLIS

        async def used():
            for key in keys:
                await store.command("PEXPIRE", key, DAY_MILLIS // 24)
            await engine.update_session("s")
            await settled(engine)
            return min((await expiries(store, prefix)).values())

        stopwatch.now += activity.RENEW_EVERY - 10
        assert await used() <= DAY_MILLIS // 24, "not with every write"
        stopwatch.now += activity.TOUCH_EVERY + 10
        assert await used() > 7 * DAY_MILLIS, "once a day"


async def test_another_process_renews_the_safety_net_at_once(server, prefix):
    async with (
        opened(server.url, prefix) as store,
        ContextEngine(store=store, session_ttl=86_400, operation_timeout=10) as engine,
    ):
        await fill(engine)
        for key in await expiries(store, prefix):
            await store.command("PEXPIRE", key, DAY_MILLIS // 24)

        async with ContextEngine(store=store, session_ttl=86_400, operation_timeout=10) as other:
            await other.add_conversation_message("s", "user", "y")
            await settled(other)

        assert min((await expiries(store, prefix)).values()) > 7 * DAY_MILLIS
