"""Deletions reach into the archive, and nothing of what was deleted comes back."""

from __future__ import annotations

import asyncio

import pytest
from support import servers as real
from support.waiting import expired, until

from aiecs import ContextEngine
from aiecs.core.errors import SessionNotFoundError
from aiecs.domain.task.task_context import TaskContext
from aiecs.infrastructure.persistence.archive import erasing, gate
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

TABLES = (
    "context_sessions",
    "context_conversations",
    "context_task_contexts",
    "context_checkpoints",
    "context_checkpoint_writes",
    "context_conversation_sessions",
)
CANARY = "the canary sings"


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    monkeypatch.setenv("AIECS_ARCHIVE_READ_TIMEOUT", "20")
    monkeypatch.setattr(gate, "LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(gate, "_FIRST_PACE", 0.02)


@pytest.fixture(params=["memory", "sqlite", *real.names()])
def store(request, servers, prefix, tmp_path, monkeypatch):
    if request.param == "memory":
        return MemoryStore()
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("AIECS_KEY_PREFIX", prefix.strip(":"))
    return servers.shared(request.param).url


def engine_on(store, archive, **options):
    return ContextEngine(store=store, archive=archive, operation_timeout=10, **options)


async def fill(engine, session, user=""):
    """Something of every kind, with a canary in each."""
    await engine.create_session(session, user, {"canary": CANARY})
    for number in range(3):
        await engine.add_conversation_message(session, "user", f"{CANARY} {number}")
    await engine.store_task_context(session, TaskContext({"user_id": "u", "canary": CANARY}))
    key = await engine.create_conversation_session(session, [], "agent_to_agent")
    await engine.add_agent_communication_message(key, "a", "agent", "r", content=CANARY)
    await engine.store_checkpoint(f"thread of {session}", "c", {"x": CANARY}, session_id=session)
    await engine.put_writes(f"thread of {session}", "c", "task", [("channel", CANARY)])


async def songs(engine):
    """In how many rows of the archive the canary is, anywhere."""
    count = 0
    for table in TABLES:
        query = f"SELECT * FROM {table}"
        rows = await engine.archive.query(query)
        count += sum(CANARY in str(row) for row in rows)
    return count


async def contents(engine, session="s"):
    return [one.content for one in await engine.get_conversation_history(session, None)]


async def test_a_deleted_session_leaves_nothing_in_the_archive(store, archive_database):
    async with engine_on(store, archive_database.url()) as engine:
        await fill(engine, "s")
        await fill(engine, "other")
        await engine.archive_barrier(timeout=30)
        before = await songs(engine)
        report = await engine.delete_session("s")
        assert report.complete
        assert report.archived_rows >= before // 2
        assert await songs(engine) == before // 2
        assert await contents(engine) == []
        assert len(await contents(engine, "other")) == 3


async def test_deleted_before_it_was_shipped(store, own_clickhouse):
    own_clickhouse.kill()
    async with engine_on(store, own_clickhouse.url) as engine:
        await fill(engine, "s")
        report = await wait_less(engine, "s")
        assert not report.complete
        assert await contents(engine) == []
        await asyncio.to_thread(own_clickhouse.start)
        await engine.archive_barrier(timeout=30)
        assert await songs(engine) == 0
        report = await engine.delete_session("s")
        assert report.complete


async def wait_less(engine, session):
    from aiecs.domain.context import erasures

    seconds, erasures._SECONDS = erasures._SECONDS, 0.5
    try:
        return await engine.delete_session(session)
    finally:
        erasures._SECONDS = seconds


async def test_deleted_while_the_archive_is_down(store, own_clickhouse):
    async with engine_on(store, own_clickhouse.url, session_ttl=0.3) as engine:
        await fill(engine, "s")
        await engine.archive_barrier(timeout=30)
        await expired(engine, "s")
        await engine.create_session("s")
        await engine.add_conversation_message("s", "user", CANARY)
        own_clickhouse.kill()
        report = await wait_less(engine, "s")
        assert not report.complete
        # It comes back, but has not erased anything yet: nothing is shown.
        await asyncio.to_thread(own_clickhouse.start)
        own_clickhouse.fault("error", code=252, match="DELETE FROM", times=10_000)
        await engine.create_session("s")

        async def answers():
            return await engine.get_conversation_history("s", include_archived=True) == []

        await until(answers)
        own_clickhouse.mend()

        async def erased():
            return await songs(engine) == 0

        await until(erased, 30)
        assert await contents(engine) == []


async def test_a_late_write_does_not_bring_it_back_but_a_creation_does(store, archive_database):
    async with engine_on(store, archive_database.url()) as engine:
        await fill(engine, "s")
        await engine.archive_barrier(timeout=30)
        await engine.delete_session("s")
        with pytest.raises(SessionNotFoundError, match="create_session"):
            await engine.add_conversation_message("s", "user", "late")
        with pytest.raises(SessionNotFoundError):
            await engine.store_task_context("s", TaskContext({"user_id": "u"}))
        assert await engine.get_session("s") is None
        await engine.create_session("s")
        await engine.add_conversation_message("s", "user", "new")
        assert await contents(engine) == ["new"]
        await engine.archive_barrier(timeout=30)
        assert await songs(engine) == 0


async def test_a_late_insert_is_not_shown_and_goes_with_the_second_look(
    archive_database, monkeypatch
):
    async with engine_on(MemoryStore(), archive_database.url()) as engine:
        await fill(engine, "s")
        await engine.archive_barrier(timeout=30)
        archive = engine._on.cold._archiving.archive
        query = "SELECT * FROM context_conversations WHERE parent_session_id = ''"
        names = [n for (n, *_) in await engine.archive.query("DESCRIBE context_conversations")]
        rows = await engine.archive.query(query)
        assert (await engine.delete_session("s")).complete
        late = {name: [row[at] for row in rows] for at, name in enumerate(names)}
        late["created_at"] = [round(time.timestamp() * 1e6) for time in late["created_at"]]
        await asyncio.to_thread(archive.insert, "context_conversations", late, token="late")
        assert await songs(engine) == 3
        assert await contents(engine) == []
        monkeypatch.setattr(erasing, "KEPT_SECONDS", 0)
        store = engine._on.runtime.store
        for older in (0.0, 0.0):
            for bucket, ones in (await erasing.requested_in(store, [bucket_of_s()], older)).items():
                rows = await engine._on.cold._archiving._shipper._destination.erase(ones)
                await erasing.note_done(store, bucket, {one: rows[one.name] for one in ones})
        assert await songs(engine) == 0
        assert await contents(engine) == []


def bucket_of_s():
    from aiecs.core.keys import bucket_of

    return bucket_of("s")


async def test_everything_of_a_user_also_what_only_the_archive_has(store, archive_database):
    async with engine_on(
        store, archive_database.url(), session_ttl=1.0, checkpoint_ttl=0.9
    ) as engine:
        await fill(engine, "expired of alice", "alice")
        await fill(engine, "shared", "alice")
        await engine.archive_barrier(timeout=30)
        await expired(engine, "shared")
        await engine.cleanup_expired_sessions()
        await engine.create_session("shared", "bob")
        await engine.add_conversation_message("shared", "user", "of bob")
        await engine.create_session("hot of alice", "alice")
        await engine.add_conversation_message("hot of alice", "user", CANARY)
        report = await engine.delete_user("alice")
        assert report.complete
        assert report.archived_rows > 0
        query = "SELECT count() FROM context_sessions WHERE user_id = 'alice'"
        assert await engine.archive.query(query) == [(0,)]
        query = "SELECT content FROM context_conversations WHERE parent_session_id = ''"
        assert await engine.archive.query(query) == [("of bob",)]


async def test_dead_letters_are_erased_too(own_clickhouse):
    async with engine_on(MemoryStore(), own_clickhouse.url) as engine:
        await engine.create_session("s")
        await engine.archive_barrier(timeout=30)
        own_clickhouse.fault("error", code=469, match="INSERT INTO", times=1)
        await engine.add_conversation_message("s", "user", CANARY)

        async def dead():
            return (await engine.get_metrics())["archive"]["dead"] == 1

        await until(dead)
        assert (await engine.delete_session("s")).complete
        assert (await engine.get_metrics())["archive"]["dead"] == 0


async def test_a_thread_of_its_own(archive_database):
    async with engine_on(MemoryStore(), archive_database.url()) as engine:
        await engine.store_checkpoint("t", "c", {"x": CANARY})
        await engine.put_writes("t", "c", "task", [("channel", CANARY)])
        await engine.archive_barrier(timeout=30)
        report = await engine.delete_thread("t")
        assert (report.complete, report.archived_rows) == (True, 2)
        query = "SELECT count() FROM context_checkpoints WHERE data != ''"
        assert await engine.archive.query(query) == [(0,)]


async def test_without_an_archive_nothing_has_changed():
    async with ContextEngine(store=MemoryStore()) as engine:
        await fill(engine, "s")
        report = await engine.delete_session("s")
        assert (report.complete, report.archived_rows) == (True, 0)
        await engine.add_conversation_message("s", "user", "again")
        assert await contents(engine) == ["again"]
