"""The wall clock set two hours forward and back: order is by sequence, waiting by what has passed.

What a session's lifetime is measured by is the store's clock: of Redis and Valkey the server's,
which a jump in this process does not touch; in memory and in a file that of this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time

import pytest
from support import servers as real
from support.clocks import WallClock
from support.proxy import Proxy
from support.redis_store import adding, creating, opened
from support.sqlite_store import CREATE, append

from aiecs import ContextEngine
from aiecs.core.errors import StoreTimeoutError
from aiecs.core.ids import new_session_id
from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.memory import MemoryStore
from aiecs.infrastructure.persistence.stores.redis import RedisStore
from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore

HOUR = 3_600
JUMPS = (2, -2, -2, 2)
DEADLINE = 0.3
# What a call may take beyond its deadline, on a shared machine.
SLACK = 5.0


@pytest.fixture
def clock(monkeypatch):
    """The wall clock of this process."""
    return WallClock(monkeypatch)


@pytest.fixture(params=["memory", "sqlite", *real.names()])
async def store(request, servers, prefix, tmp_path):
    """Each store."""
    if request.param == "memory":
        opened = MemoryStore()
    elif request.param == "sqlite":
        opened = SqliteStore(tmp_path / "store.db", timeout=10.0)
    else:
        url = servers.shared(request.param).url
        opened = RedisStore.from_url(url, prefix=prefix, timeout=10.0)
    yield opened
    await opened.close()


@pytest.fixture
async def engine(store, clock):
    """Sessions that live for three hours after their last use."""
    async with ContextEngine(
        store=store, session_ttl=3 * HOUR, checkpoint_ttl=3 * HOUR, operation_timeout=10.0
    ) as engine:
        yield engine


def served(store):
    """Whether the store's clock is a server's."""
    return isinstance(store, RedisStore)


async def test_order_is_by_sequence_and_not_by_the_clock(engine, clock):
    said, ids = [], []
    for hours in (0, *JUMPS):
        clock.jump(hours)
        for _ in range(10):
            said.append(f"m{len(said)}")
            ids.append(new_session_id())
            await engine.add_conversation_message("s", "user", said[-1])
            await engine.store_checkpoint("t", f"c{len(said):02}", {"n": len(said)})

    history = await engine.get_conversation_history("s", limit=None)
    assert [message.content for message in history] == said
    assert [message.seq for message in history] == sorted({message.seq for message in history})
    newer = await engine.get_conversation_history("s", limit=None, after=history[24].seq)
    assert [message.content for message in newer] == said[25:]
    assert ids == sorted(set(ids)), "session ids rise within a process"
    assert (await engine.get_checkpoint("t"))["data"] == {"n": len(said)}


async def test_nothing_that_is_in_use_expires_or_is_cleaned_up(engine, clock):
    for hours in (0, *JUMPS):
        clock.jump(hours)
        await engine.add_conversation_message("s", "user", "x")
        assert await engine.cleanup_expired_sessions(1) == 0
    assert len(await engine.get_conversation_history("s")) == 1 + len(JUMPS)
    assert await engine.get_session("s") is not None


@pytest.mark.parametrize("hours", [2, -2])
async def test_a_jump_within_the_lifetime_ends_no_session(engine, clock, hours):
    await engine.create_session("s", "ann")
    clock.jump(hours)
    assert await engine.get_session("s") is not None
    assert [one.session_id for one in (await engine.list_sessions("ann")).items] == ["s"]


async def test_a_lifetime_is_measured_by_the_clock_of_the_store(engine, store, clock):
    await engine.create_session("s")
    clock.jump(4)
    assert (await engine.get_session("s") is not None) == served(store)
    clock.jump(-4)
    assert await engine.get_session("s") is not None


async def test_what_was_written_while_the_clock_was_ahead_does_not_live_for_ever(
    engine, store, clock
):
    clock.jump(2)
    await engine.create_session("s")
    clock.jump(-2)
    assert await engine.get_session("s") is not None
    clock.jump(5.01)
    assert (await engine.get_session("s") is not None) == served(store)
    await engine.cleanup_expired_sessions(5)
    assert (await engine.get_session("s") is not None) == served(store)


async def test_a_sweep_of_the_future_stops_no_sweep_of_today(engine, store, clock):
    sweep = engine._on.maintenance._lease
    clock.jump(2)
    assert await sweep()
    clock.jump(-2)
    assert await sweep() != served(store), "taken over where the clock was put right"
    assert not await sweep(), "leased for 50 s"


# --- waiting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [2, -2])
async def test_a_deadline_of_redis_knows_no_wall_clock(server, prefix, clock, hours):
    async with Proxy(server.port) as proxy, opened(proxy.url, prefix, DEADLINE) as store:
        await store.apply(creating())
        proxy.blackhole()
        await timed_out(store.apply(adding(b"x")), clock, hours)
        proxy.heal()


@pytest.mark.parametrize("hours", [2, -2])
async def test_a_deadline_of_sqlite_knows_no_wall_clock(path, clock, hours):
    store = SqliteStore(path, timeout=20)
    await store.apply(port.Batch(1, "g", (CREATE,)))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await timed_out(store.apply(append(b"x"), timeout=DEADLINE), clock, hours)
    await store.close()


async def timed_out(call, clock, hours):
    """The call ends at its deadline though the clock jumps while it waits."""
    started = time.monotonic()
    waiting = asyncio.ensure_future(call)
    await asyncio.sleep(0)
    clock.jump(hours)
    with pytest.raises(StoreTimeoutError):
        await waiting
    assert DEADLINE * 0.8 < time.monotonic() - started < DEADLINE + SLACK
