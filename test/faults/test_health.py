"""Health says of a store that can be read but not written to what is the matter."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import pytest

from aiecs import ContextEngine, StoreError

REFUSALS = {
    "StoreFullError": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    "StoreReadOnlyError": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
    "StoreUnavailableError": (
        ("CONFIG", "SET", "min-replicas-to-write", "1"),
        ("CONFIG", "SET", "min-replicas-to-write", "0"),
    ),
}


async def write(engine):
    await engine.add_conversation_message("s", "user", "x")


async def refuses(engine, error):
    """Health while every write raises `error`."""
    with pytest.raises(StoreError) as caught:
        await write(engine)
    assert type(caught.value).__name__ == error
    health = await engine.health_check()
    assert health["status"] == "degraded"
    assert health["active_sessions"] == 1
    assert health["issues"][0].startswith(f"writes are refused: {error}: ")
    return health


@pytest.mark.parametrize("error", REFUSALS)
async def test_a_server_that_refuses_writes(own_server, error):
    refuse, allow = REFUSALS[error]
    async with ContextEngine(store=own_server.url, operation_timeout=10) as engine:
        await write(engine)
        assert (await engine.health_check())["status"] == "healthy"

        own_server.command(*refuse)
        health = await refuses(engine, error)

        assert health["redis_connected"] is True
        own_server.command(*allow)
        await write(engine)
        assert (await engine.health_check())["status"] == "healthy"


async def test_what_is_wrong_with_the_server_is_told(own_server):
    own_server.command("CONFIG", "SET", "save", "")
    own_server.command("CONFIG", "SET", "appendonly", "no")
    async with ContextEngine(store=own_server.url) as engine:
        fine = await engine.health_check()
        own_server.command("CONFIG", "SET", "maxmemory", "100mb")
        own_server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        found = await engine.health_check()

    assert (fine["status"], fine["issues"]) == ("healthy", [])
    assert any("a restart loses everything" in one for one in fine["warnings"])
    assert {"server", "role", "eviction"} <= {one["check"] for one in fine["server"]}
    assert found["status"] == "degraded"
    assert any("sessions vanish when memory is full" in one for one in found["issues"])


async def test_a_file_that_another_program_has_locked(path):
    async with ContextEngine(store=f"sqlite:///{path}", operation_timeout=0.5) as engine:
        await write(engine)
        await engine.get_metrics()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await refuses(engine, "StoreTimeoutError")
            other.execute("ROLLBACK")
        await write(engine)
        assert (await engine.health_check())["status"] == "healthy"


async def test_a_hung_server_costs_about_one_deadline(own_server):
    async with ContextEngine(store=own_server.url, operation_timeout=0.5) as engine:
        await write(engine)
        own_server.pause()
        start = time.monotonic()

        health = await engine.health_check()

        assert time.monotonic() - start < 3
        assert health["status"] == "unhealthy"
        assert health["redis_connected"] is False
        assert health["active_sessions"] is None
        own_server.resume()


async def test_whatever_goes_wrong_is_an_answer():
    async with ContextEngine(store="memory://") as engine:

        async def broken():
            raise RuntimeError("nobody thought of this")

        engine._on.runtime.counters.totals = broken

        health = await engine.health_check()

    assert health["status"] == "unhealthy"
    assert health["issues"] == ["RuntimeError: nobody thought of this"]
