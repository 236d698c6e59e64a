"""Engines that leave the shipping to another process: they leave hints, count, and read."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from support.waiting import until

from aiecs import ContextEngine
from aiecs.core.errors import ContextEngineError
from aiecs.core.events import Events
from aiecs.core.settings import Settings
from aiecs.infrastructure.persistence.archive.opening import archiving_to
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

TEXTS = "SELECT content FROM context_conversations ORDER BY seq"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def engine(store, archive_database, monkeypatch):
    monkeypatch.setenv("AIECS_ARCHIVE_SHIP", "false")
    async with ContextEngine(store=store, archive=archive_database.url()) as engine:
        yield engine


async def say(engine, *texts):
    for text in texts:
        await engine.add_conversation_message("s", "user", text)


async def texts_in(engine):
    return [text for (text,) in await engine.archive.query(TEXTS)]


async def test_what_they_write_is_shipped_by_another_one(engine, store, archive_database):
    await say(engine, "one", "two")
    service = archiving_to(archive_database.url(), store, Settings(), linger=0.05)
    service.start(Events())
    await engine.archive_barrier(timeout=20)
    assert await texts_in(engine) == ["one", "two"]
    assert (await engine.health_check())["archive"]["breaker"] == "off"
    assert await service.close(10) == 0


async def test_they_can_read_though_they_never_ship(engine):
    async def readable():
        with suppress(ContextEngineError):
            return await texts_in(engine) == []
        return False

    await until(readable)


async def test_a_service_that_is_not_to_drain_leaves_the_rest(engine, store, own_clickhouse):
    await asyncio.to_thread(own_clickhouse.kill)
    service = archiving_to(own_clickhouse.url, store, Settings())
    service.start(Events())

    async def counted():
        return (await service.state()).waiting == 3

    await say(engine, "one", "two")
    await until(counted)
    assert await service.close(10, drain=False) == 3
