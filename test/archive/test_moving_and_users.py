"""What migrations, retention and exports have to do with the archive."""

from __future__ import annotations

import pytest
from support.moved import TALK, fill_all
from support.waiting import expired

from aiecs import ContextEngine
from aiecs.domain.context.migration import migrate
from aiecs.domain.context.transfer import MessageRecord, SessionRecord
from aiecs.infrastructure.persistence.archive import gate
from aiecs.infrastructure.persistence.stores.memory import MemoryStore
from aiecs.integrations.langgraph import ContextEngineSaver


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    monkeypatch.setenv("AIECS_ARCHIVE_READ_TIMEOUT", "20")
    monkeypatch.setattr(gate, "LONGEST_PAUSE", 0.2)


TABLES = (
    "context_conversations",
    "context_task_contexts",
    "context_checkpoints",
    "context_checkpoint_writes",
    "context_checkpoint_elements",
    "context_conversation_sessions",
)


def engine_on(store, archive=None, **options):
    return ContextEngine(store=store, archive=archive, operation_timeout=30, **options)


async def rows(engine, table):
    (found,) = await engine.archive.query(f"SELECT count() AS n FROM {table} FINAL")
    return found[0]


async def test_the_archive_of_the_target_is_told_of_all_that_is_moved(archive_database):
    async with (
        engine_on(MemoryStore()) as source,
        engine_on(MemoryStore(), archive_database.url()) as target,
    ):
        await fill_all(source)

        report = await migrate(source, target)
        await target.archive_barrier(timeout=60)

        assert report.complete, report.troubles
        assert await rows(target, "context_conversations") == 917
        assert await rows(target, "context_task_contexts") == 1
        saver = ContextEngineSaver(target, include_archived=True)
        kept = [one async for one in saver.alist(TALK)]
        await target.delete_thread("nothing")
        await ContextEngineSaver(target).aprune(["talk"], strategy="keep_latest")
        assert [one.config async for one in saver.alist(TALK)] == [one.config for one in kept]


async def test_the_same_archive_gets_nothing_twice(archive_database):
    url = archive_database.url()
    async with engine_on(MemoryStore(), url) as source:
        await fill_all(source)
        await source.archive_barrier(timeout=60)
        before = [await rows(source, table) for table in TABLES]
        async with engine_on(MemoryStore(), url) as target:
            await migrate(source, target)
            await target.archive_barrier(timeout=60)
            assert [await rows(target, table) for table in TABLES] == before


async def test_what_retention_trims_can_be_read_from_the_archive(archive_database):
    async with engine_on(MemoryStore(), archive_database.url()) as engine:
        minted = (await engine.create_session(user_id="u")).session_id
        for name in (minted, "named"):
            for number in range(6):
                await engine.add_conversation_message(name, "user", str(number))
        await engine.archive_barrier(timeout=30)

        assert (await engine.apply_retention(max_messages=2)).messages == 8

        for name in (minted, "named"):
            hot = await engine.get_conversation_history(name, None, include_archived=False)
            assert [m.content for m in hot] == ["4", "5"]
            whole = await engine.get_conversation_history(name, None, include_archived=True)
            assert [m.content for m in whole] == [str(number) for number in range(6)]


async def test_an_export_has_what_only_the_archive_has(archive_database):
    async with engine_on(MemoryStore(), archive_database.url(), session_ttl=0.3) as engine:
        for user, text in (("ada", "once"), ("eve", "eve's own")):
            await engine.create_session(f"gone {user}", user)
            await engine.add_conversation_message(f"gone {user}", "user", text)
            await engine.create_session("both", user)
            await engine.add_conversation_message("both", "user", f"{user} in both")
            await engine.archive_barrier(timeout=30)
            await expired(engine, f"gone {user}")
            await expired(engine, "both")
        await engine.create_session("both", "eve")
        await engine.create_session("alive", "ada")
        await engine.add_conversation_message("alive", "user", "now")

        found = [record async for record in engine.export_user("ada")]

    sessions = {r.session.session_id: r.session for r in found if isinstance(r, SessionRecord)}
    said = {(r.session_id, r.message.content) for r in found if isinstance(r, MessageRecord)}
    assert set(sessions) >= {"gone ada", "both"}
    assert said >= {("gone ada", "once"), ("both", "ada in both")}
    assert not any("eve" in content for _, content in said)
    assert {session.user_id for session in sessions.values()} == {"ada"}
