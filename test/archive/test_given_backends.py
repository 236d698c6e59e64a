"""Engines that are given a permanent backend as an object: ours, or the application's own."""

from __future__ import annotations

import asyncio

import pytest
from support import servers as real
from support.recording import Recording

from aiecs import ContextEngine
from aiecs.core.errors import ArchiveRowError, ArchiveUnavailableError
from aiecs.infrastructure.persistence import ClickHousePermanentBackend
from aiecs.infrastructure.persistence.archive import gate

TEXTS = [str(number) for number in range(30)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(gate, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(gate, "LONGEST_PAUSE", 0.05)


@pytest.fixture(params=["memory", "sqlite", *real.names()])
def store_url(request, servers, prefix, tmp_path, monkeypatch):
    if request.param == "memory":
        return "memory://"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("AIECS_KEY_PREFIX", prefix.strip(":"))
    return servers.shared(request.param).url


async def talk(engine):
    for text in TEXTS:
        await engine.add_conversation_message("s", "user", text)


async def test_an_applications_own_backend_gets_every_event_in_order(store_url):
    backend = Recording()
    backend.answers = [False, True, OSError("down"), True, OSError("down")]
    engine = ContextEngine(store=store_url, permanent_backend=backend, operation_timeout=10)
    async with engine:
        await talk(engine)
        await engine.archive_barrier(timeout=30)
        assert list(dict.fromkeys(backend.contents())) == TEXTS
        history = await engine.get_conversation_history("s", limit=None)
        assert [message.content for message in history] == TEXTS
        health = await engine.health_check()
        assert (health["archive"]["waiting"], health["status"]) == (0, "healthy")
    names = [call[0] for call in backend.calls]
    assert names[:2] == ["initialize", "initialize"]
    assert names.count("close") == 1
    assert names[-1] == "close"


async def test_what_a_backend_refuses_is_told_by_the_barrier():
    backend = Recording()
    backend.answers = [True, True, False]
    async with ContextEngine(store="memory://", permanent_backend=backend) as engine:
        await talk(engine)
        with pytest.raises(ArchiveRowError):
            await engine.archive_barrier(timeout=30)
        assert (await engine.health_check())["archive"]["dead"] == 1


async def test_a_backend_that_hangs_holds_nothing_up(monkeypatch):
    monkeypatch.setattr("aiecs.domain.context.lifecycle._DRAIN_SECONDS", 0.1)
    backend = Recording()
    backend.answers = [True, asyncio.Event()]
    async with ContextEngine(store="memory://", permanent_backend=backend) as engine:
        await talk(engine)
        with pytest.raises(ArchiveUnavailableError):
            await engine.archive_barrier(timeout=0.2)
        assert len(await engine.get_conversation_history("s")) == len(TEXTS)


async def test_our_backend_only_names_the_archive_that_the_engine_ships_to(archive_database):
    backend = ClickHousePermanentBackend.from_url(archive_database.url())
    async with ContextEngine(store="memory://", permanent_backend=backend) as engine:
        await talk(engine)
        await engine.archive_barrier(timeout=30)
        query = "SELECT content FROM context_conversations ORDER BY seq"
        rows = await asyncio.to_thread(backend.archive.select, query)
        assert [content for (content,) in rows] == TEXTS
