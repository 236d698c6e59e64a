"""Engines with an archive: what is acknowledged arrives, whatever the archive does meanwhile."""

from __future__ import annotations

import asyncio
import time

import pytest
from support import servers as real
from support.waiting import until

from aiecs import ContextEngine
from aiecs.core.errors import (
    ArchiveAuthError,
    ArchiveRowError,
    ArchiveUnavailableError,
    InvalidInputError,
    LifecycleError,
    StoreFullError,
)
from aiecs.infrastructure.persistence.archive import ClickHouseArchive, gate
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

COUNTS = "SELECT count(), uniqExact(event_id) FROM context_conversations"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(gate, "LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(gate, "_FIRST_PACE", 0.02)


@pytest.fixture(params=["memory", "sqlite", *real.names()])
def store_url(request, servers, prefix, tmp_path, monkeypatch):
    if request.param == "memory":
        return "memory://"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("AIECS_KEY_PREFIX", prefix.strip(":"))
    return servers.shared(request.param).url


def counted(url):
    """Rows and ids of messages in the archive."""
    archive = ClickHouseArchive.from_url(url)
    archive.open()
    try:
        return archive.select(COUNTS)[0]
    finally:
        archive.close()


async def say(engine, count, session="s", text="hello"):
    for number in range(count):
        await engine.add_conversation_message(session, "user", f"{text} {number}")


async def test_a_barrier_waits_for_everything(store_url, archive_database):
    url = archive_database.url()
    async with ContextEngine(store=store_url, archive=url, operation_timeout=10) as engine:
        for number in range(20):
            await say(engine, 5, f"session {number}")
        await engine.archive_barrier(timeout=30)
        assert await asyncio.to_thread(counted, url) == (100, 100)
        state = (await engine.health_check())["archive"]
        assert (state["waiting"], state["dead"], state["breaker"]) == (0, 0, "closed")
        assert state["shipped"] == 120  # and the creation of 20 sessions


async def test_a_barrier_of_one_session_takes_its_threads_along(archive_database):
    url = archive_database.url()
    async with ContextEngine(store=MemoryStore(), archive=url) as engine:
        await say(engine, 3)
        await engine.store_checkpoint("thread", "c1", {"a": 1}, session_id="s")
        await engine.archive_barrier("s", timeout=30)
        archive = engine._on.cold._archiving.archive
        query = "SELECT count() FROM context_checkpoints WHERE checkpoint_id = 'c1'"
        assert await asyncio.to_thread(archive.select, query) == [(1,)]


async def test_the_variables_of_the_specification(archive_database, monkeypatch, tmp_path):
    from urllib.parse import urlsplit

    parts = urlsplit(archive_database.url())
    monkeypatch.setenv("CLICKHOUSE_ENABLED", "true")
    monkeypatch.setenv("CLICKHOUSE_HOST", parts.hostname)
    monkeypatch.setenv("CLICKHOUSE_PORT", str(parts.port))
    monkeypatch.setenv("CLICKHOUSE_DATABASE", parts.path[1:])
    if parts.username:
        monkeypatch.setenv("CLICKHOUSE_USER", parts.username)
        monkeypatch.setenv("CLICKHOUSE_PASSWORD", parts.password or "")
    async with ContextEngine(store=MemoryStore()) as engine:
        await say(engine, 3)
        await engine.archive_barrier(timeout=30)
    assert await asyncio.to_thread(counted, archive_database.url()) == (3, 3)


async def test_an_embedded_archive_keeps_what_is_left_at_the_end(tmp_path):
    url = f"chdb:///{tmp_path}/cold"
    async with ContextEngine(store=MemoryStore(), archive=url) as engine:
        await say(engine, 10)
    assert await asyncio.to_thread(counted, url) == (10, 10)


async def test_what_names_no_archive_is_refused():
    with pytest.raises(InvalidInputError, match="clickhouse://"):
        ContextEngine(archive="somewhere")
    with pytest.raises(InvalidInputError, match="IPermanentStorageBackend"):
        ContextEngine(permanent_backend=object())
    engine = ContextEngine(store=MemoryStore(), archive="postgres://localhost/x")
    with pytest.raises(InvalidInputError, match="chdb"):
        await engine.initialize()
    async with ContextEngine(store=MemoryStore()) as engine:
        with pytest.raises(LifecycleError, match="no archive"):
            await engine.archive_barrier()
        assert (await engine.health_check())["archive"] == {}


async def test_down_at_the_start_and_up_later(own_clickhouse):
    own_clickhouse.kill()
    async with ContextEngine(store=MemoryStore(), archive=own_clickhouse.url) as engine:
        await say(engine, 50)
        with pytest.raises(ArchiveUnavailableError, match="not in the archive yet"):
            await engine.archive_barrier(timeout=3)

        async def noticed():
            health = await engine.health_check()
            return health["status"] == "degraded" and any(
                "does not answer" in issue for issue in health["issues"]
            )

        await until(noticed)
        await asyncio.to_thread(own_clickhouse.start)
        await engine.archive_barrier(timeout=30)
        assert await asyncio.to_thread(counted, own_clickhouse.url) == (50, 50)
        assert (await engine.health_check())["status"] == "healthy"


async def test_what_is_left_is_brought_in_by_the_next_engine(own_clickhouse, tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    own_clickhouse.kill()
    async with ContextEngine(store=url, archive=own_clickhouse.url) as engine:
        await say(engine, 30)
    own_clickhouse.start()
    async with ContextEngine(store=url, archive=own_clickhouse.url) as engine:
        await engine.archive_barrier(timeout=30)
    assert await asyncio.to_thread(counted, own_clickhouse.url) == (30, 30)


async def test_an_archive_that_hangs_does_not_hold_up_the_end(own_clickhouse, monkeypatch):
    monkeypatch.setattr("aiecs.domain.context.lifecycle._DRAIN_SECONDS", 0.3)
    engine = ContextEngine(store=MemoryStore(), archive=own_clickhouse.url)
    await engine.initialize()
    await say(engine, 1)
    await engine.archive_barrier(timeout=30)
    own_clickhouse.fault("slow", seconds=60)
    await say(engine, 1)
    await asyncio.to_thread(own_clickhouse.wait_for, inserts=2)
    begun = time.monotonic()
    await engine.close()
    assert time.monotonic() - begun < 20  # the answer would have taken 60


# --- bounds -------------------------------------------------------------------------------------


@pytest.fixture
def small_room(monkeypatch):
    monkeypatch.setenv("AIECS_ARCHIVE_OUTBOX_BYTES", str(1024 * 1024))


async def test_when_there_is_no_room_writes_are_refused_until_there_is(own_clickhouse, small_room):
    own_clickhouse.kill()
    async with ContextEngine(store=MemoryStore(), archive=own_clickhouse.url) as engine:

        async def refused():
            try:
                await engine.add_conversation_message("s", "user", "x" * 50_000)
            except StoreFullError as error:
                return error.outcome == "not_applied"
            return False

        await until(refused)
        kept = len(await engine.get_conversation_history("s", None))
        health = await engine.health_check()
        assert any("may wait for the archive" in issue for issue in health["issues"])
        await engine.delete_session("another")  # what removes something is never refused
        await asyncio.to_thread(own_clickhouse.start)

        async def taken():
            return not await refused()

        await until(taken)
        await engine.archive_barrier(timeout=30)
        rows, unique = await asyncio.to_thread(counted, own_clickhouse.url)
        assert rows == unique == kept + 1


async def test_or_the_oldest_events_are_given_up_and_counted(
    own_clickhouse, small_room, monkeypatch
):
    monkeypatch.setenv("AIECS_ARCHIVE_WHEN_FULL", "drop_oldest")
    own_clickhouse.kill()
    async with ContextEngine(store=MemoryStore(), archive=own_clickhouse.url) as engine:

        async def dropped():
            await engine.add_conversation_message("s", "user", "x" * 50_000)
            return (await engine.get_metrics())["archive"]["dropped"] > 0

        await until(dropped)
        await engine.add_conversation_message("s", "user", "the last one")
        sent = len(await engine.get_conversation_history("s", None)) + 1  # and the creation
        health = await engine.health_check()
        assert any("given up" in issue for issue in health["issues"])
        await asyncio.to_thread(own_clickhouse.start)
        await engine.archive_barrier(timeout=30)
        rows, unique = await asyncio.to_thread(counted, own_clickhouse.url)
        state = (await engine.get_metrics())["archive"]
        query = "SELECT count() FROM context_sessions"
        archive = engine._on.cold._archiving.archive
        ((sessions,),) = await asyncio.to_thread(archive.select, query)
        assert rows == unique
        assert rows + state["dropped"] + sessions == sent
        assert rows > 5
        assert state["size"] < 1024 * 1024


async def test_a_row_that_is_refused_is_told_by_the_barrier(own_clickhouse):
    async with ContextEngine(store=MemoryStore(), archive=own_clickhouse.url) as engine:
        await say(engine, 1, "good")
        await engine.archive_barrier(timeout=30)
        own_clickhouse.fault("error", code=469, match="INSERT INTO", times=1)
        await say(engine, 1, "bad")
        with pytest.raises(ArchiveRowError, match="dead list"):
            await engine.archive_barrier("bad", timeout=30)
        await engine.archive_barrier("good", timeout=30)
        assert any("set aside" in issue for issue in (await engine.health_check())["issues"])


async def test_a_wrong_password_is_told(own_clickhouse):
    own_clickhouse.fault("error", code=516, match="", times=1_000)
    async with ContextEngine(store=MemoryStore(), archive=own_clickhouse.url) as engine:
        await say(engine, 5)

        async def alarmed():
            return ArchiveAuthError.__name__ in (await engine.health_check())["archive"]["alarm"]

        await until(alarmed)
        assert any("needs help" in issue for issue in (await engine.health_check())["issues"])
        assert len(await engine.get_conversation_history("s", None)) == 5
        with pytest.raises(ArchiveAuthError):
            await engine.get_conversation_history("s", None, include_archived=True)
        own_clickhouse.mend()
        await engine.archive_barrier(timeout=30)
    assert await asyncio.to_thread(counted, own_clickhouse.url) == (5, 5)


async def test_rows_name_the_owner(archive_database):
    async with ContextEngine(store=MemoryStore(), archive=archive_database.url()) as engine:
        await engine.create_session("owned", "alice")
        await say(engine, 2, "owned")
        await say(engine, 1, "unowned", "nobody's")
        await engine.archive_barrier(timeout=30)
        await say(engine, 1, "owned", "later")
        await engine.create_session("unowned", "bob")
        await say(engine, 1, "unowned", "adopted")
        await engine.archive_barrier(timeout=30)
        archive = engine._on.cold._archiving.archive
        query = "SELECT content, user_id FROM context_conversations ORDER BY seq"
        found = dict(await asyncio.to_thread(archive.select, query))
    owned = {"hello 0": "alice", "hello 1": "alice", "later 0": "alice", "adopted 0": "bob"}
    assert found == owned | {"nobody's 0": ""}


async def test_questions_and_reports(archive_database):
    async with ContextEngine(store=MemoryStore(), archive=archive_database.url()) as engine:
        await engine.create_session("s", "alice")
        metadata = {"model": "m", "input_tokens": 7, "output_tokens": 2}
        metadata |= {"cost_usd": 0.5, "latency_ms": 12, "error": True}
        await engine.add_conversation_message("s", "assistant", "a needle here", metadata)
        await engine.archive_barrier(timeout=30)
        query = "SELECT content FROM context_conversations WHERE session_id = {s:String}"
        assert await engine.archive.query(query, {"s": "s"}) == [("a needle here",)]
        for name in engine.archive.reports():
            needed = {"text": "needle"} if name == "search" else {}
            found = await engine.archive.report(name, **needed)
            assert found.rows, name
            assert all(len(row) == len(found.columns) for row in found.rows)
        with pytest.raises(InvalidInputError, match="begins with"):
            await engine.archive.query("DROP TABLE context_conversations")
        with pytest.raises(InvalidInputError, match="there are"):
            await engine.archive.report("nonsense")


async def test_nothing_to_ask():
    async with ContextEngine(store=MemoryStore()) as engine:
        with pytest.raises(LifecycleError, match="no archive"):
            await engine.archive.query("SELECT 1")


async def test_an_event_may_wait_only_so_long(own_clickhouse, monkeypatch):
    monkeypatch.setenv("AIECS_ARCHIVE_OUTBOX_SECONDS", "0.5")
    own_clickhouse.fault("error", code=252, match="INSERT INTO", times=100_000)
    async with ContextEngine(store=MemoryStore(), archive=own_clickhouse.url) as engine:
        await say(engine, 1)

        async def refused():
            try:
                await say(engine, 1)
            except StoreFullError:
                return True
            return False

        await until(refused)
        own_clickhouse.mend()

        async def taken():
            return not await refused()

        await until(taken)
        await engine.archive_barrier(timeout=30)
        kept = len(await engine.get_conversation_history("s", None))
    assert await asyncio.to_thread(counted, own_clickhouse.url) == (kept, kept)


async def test_questions_after_close_are_told_so(archive_database):
    async with ContextEngine(store="memory://", archive=archive_database.url()) as engine:
        questions = engine.archive
        assert await questions.query("SELECT 1") == [(1,)]
        reader = engine._opening.value.archiving.reader

    with pytest.raises(LifecycleError):
        await questions.query("SELECT 1")
    with pytest.raises(LifecycleError):
        await reader.run(lambda archive: archive.select("SELECT 1"), 1.0)
    with pytest.raises(ArchiveUnavailableError):
        await reader.lives("s", 0, 1.0, patient=True)
