"""The engine and the Redis client of the process: made once, whoever comes first."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.servers import NOWHERE

from aiecs import LifecycleError, StoreUnavailableError
from aiecs.infrastructure import persistence


async def test_the_specifications_start_up_and_shutdown(monkeypatch, server):
    monkeypatch.setenv("REDIS_URL", server.url)
    assert persistence.get_context_engine() is None

    await persistence.initialize_redis_client()
    engine = await persistence.initialize_context_engine(operation_timeout=10)
    assert persistence.get_context_engine() is engine
    assert await persistence.initialize_context_engine() is engine
    assert await engine.add_conversation_message("s", "assistant", "content")
    client = await persistence.get_redis_client()
    assert await (await client.get_client()).ping()

    await persistence.close_context_engine()
    assert persistence.get_context_engine() is None
    await persistence.close_context_engine()
    with pytest.raises(LifecycleError):
        await client.get_client()
    with pytest.raises(LifecycleError):
        await engine.get_session("s")


async def test_start_up_without_redis_falls_back(monkeypatch):
    monkeypatch.setenv("REDIS_URL", NOWHERE)
    await persistence.initialize_redis_client()
    engine = await persistence.initialize_context_engine()

    assert (await engine.health_check())["status"] == "degraded"
    await persistence.close_context_engine()


async def test_first_users_on_many_loops_get_one_engine():
    def first():
        return asyncio.run(persistence.initialize_context_engine(store="memory://"))

    with ThreadPoolExecutor(8) as pool:
        engines = set(pool.map(lambda _: first(), range(8)))

    assert len(engines) == 1
    await persistence.close_context_engine()


async def test_an_engine_that_did_not_open_is_not_kept():
    with pytest.raises(StoreUnavailableError):
        await persistence.initialize_context_engine(store=NOWHERE)
    assert persistence.get_context_engine() is None

    assert await persistence.initialize_context_engine(store="memory://")
    await persistence.close_context_engine()


def test_a_redis_client_serves_each_loop_its_own(server, monkeypatch):
    monkeypatch.setenv("REDIS_URL", server.url)

    async def use():
        client = await (await persistence.get_redis_client()).get_client()
        assert await client.ping()
        await client.aclose()
        return client

    assert asyncio.run(use()) is not asyncio.run(use())
    asyncio.run(persistence.close_redis_client())
