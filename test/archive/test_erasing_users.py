"""Everything of a user goes, also what only the archive has: sooner or later, and to its end."""

from __future__ import annotations

import asyncio

import pytest
from support.archiving import heal, poison
from support.waiting import expired, until

from aiecs import ContextEngine
from aiecs.core.errors import ArchiveRowError
from aiecs.domain.context import erasures
from aiecs.infrastructure.persistence.archive import gate
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

TABLES = ("context_sessions", "context_conversations", "context_checkpoints")
TABLES += ("context_checkpoint_writes",)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("AIECS_ARCHIVE_READ_TIMEOUT", "20")
    monkeypatch.setattr(gate, "LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(gate, "_FIRST_PACE", 0.02)


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    return MemoryStore() if request.param == "memory" else f"sqlite:///{tmp_path}/store.db"


def engine_on(store, archive):
    return ContextEngine(
        store=store, archive=archive, operation_timeout=10, session_ttl=0.4, checkpoint_ttl=0.3
    )


def song_of(session):
    return f"the canary sings of {session};"


async def only_in_the_archive(engine, session, user):
    """A session with a thread, which the store has forgotten."""
    song = song_of(session)
    await engine.create_session(session, user)
    await engine.add_conversation_message(session, "user", song)
    await engine.store_checkpoint(f"thread of {session}", "c", {"x": song}, session_id=session)
    await engine.put_writes(f"thread of {session}", "c", "task", [("channel", song)])
    await engine.archive_barrier(timeout=30)
    await expired(engine, session)
    await engine.cleanup_expired_sessions()


async def songs(engine, session):
    """In how many rows of the archive the canary of a session is."""
    count = 0
    for table in TABLES:
        rows = map(str, await engine.archive.query(f"SELECT * FROM {table}"))
        count += sum(song_of(session) in row for row in rows)
    return count


async def contents(engine, session):
    found = await engine.get_conversation_history(session, None, include_archived=True)
    return [one.content for one in found]


async def test_what_only_the_archive_has_goes_with_its_threads(store, archive_database):
    async with engine_on(store, archive_database.url()) as engine:
        await only_in_the_archive(engine, "s", "ada")
        await only_in_the_archive(engine, "other", "bob")
        assert await songs(engine, "s") == 3

        report = await engine.delete_user("ada")

        assert report.complete
        assert await songs(engine, "s") == 0
        assert await songs(engine, "other") == 3
        assert await contents(engine, "other") == [song_of("other")]


async def test_a_thread_of_anothers_life_of_the_same_session_stays(store, archive_database):
    async with engine_on(store, archive_database.url()) as engine:
        await only_in_the_archive(engine, "s", "ada")
        await engine.create_session("s", "bob")
        await engine.store_checkpoint("of bob", "c", {"x": 1}, session_id="s")
        await engine.archive_barrier(timeout=30)

        assert (await engine.delete_user("ada")).complete

        threads = "SELECT thread_id FROM context_checkpoints WHERE data != ''"
        assert await engine.archive.query(threads) == [("of bob",)]


async def test_an_archive_that_is_down_does_it_later_and_shows_nothing_meanwhile(
    store, own_clickhouse, monkeypatch
):
    monkeypatch.setattr(erasures, "_SECONDS", 0.5)
    async with engine_on(store, own_clickhouse.url) as engine:
        await only_in_the_archive(engine, "s", "ada")
        own_clickhouse.kill()
        assert not (await engine.delete_user("ada")).complete
        await asyncio.to_thread(own_clickhouse.start)
        own_clickhouse.fault("error", code=252, match="DELETE FROM", times=10_000)
        assert await contents(engine, "s") == []
        assert await songs(engine, "s") == 3
        own_clickhouse.mend()

        async def erased():
            return await songs(engine, "s") == 0

        await until(erased, 30)
        assert await contents(engine, "s") == []


async def test_a_dead_letter_of_somebody_else_is_in_nobodys_way(store, archive_database):
    url = archive_database.url()
    async with engine_on(store, url) as engine:
        await only_in_the_archive(engine, "s", "ada")
        await asyncio.to_thread(poison, url)
        await engine.add_conversation_message("of bob", "user", "poison")
        with pytest.raises(ArchiveRowError):
            await engine.archive_barrier(timeout=30)

        assert (await engine.delete_user("ada")).complete
        assert await songs(engine, "s") == 0
    await asyncio.to_thread(heal, url)
