"""Which store an engine opens: a named one or none; else Redis, or the memory of the process."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from support.servers import NOWHERE

from aiecs import (
    ContextEngine,
    InvalidInputError,
    LifecycleError,
    StoreAuthError,
    StoreUnavailableError,
)
from aiecs.core import registry
from aiecs.core.errors import StoreMisconfiguredError
from aiecs.infrastructure.persistence.stores.memory import MemoryStore


async def test_an_unknown_scheme_lists_the_known_ones():
    with pytest.raises(InvalidInputError, match=r"mongodb.*memory.*redis.*sqlite"):
        await ContextEngine(store="mongodb://x").initialize()
    with pytest.raises(InvalidInputError, match="scheme://"):
        await ContextEngine(store="data.db").initialize()


async def test_a_store_by_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("AIECS_STORE_URL", f"sqlite:///{tmp_path}/env.db")
    async with ContextEngine() as engine:
        assert (await engine.health_check())["storage_backend"] == "sqlite"
        assert engine.redis_client is None
    assert (tmp_path / "env.db").exists()


async def test_redis_by_url_and_by_its_parts(monkeypatch, server):
    monkeypatch.setenv("REDIS_URL", server.url)
    async with ContextEngine(operation_timeout=10) as engine:
        assert (await engine.health_check())["redis_connected"] is True
    monkeypatch.delenv("REDIS_URL")
    host, _, port = server.url.split("//")[1].split("/")[0].partition(":")
    monkeypatch.setenv("REDIS_HOST", host)
    monkeypatch.setenv("REDIS_PORT", port)
    monkeypatch.setenv("REDIS_DB", "3")
    async with ContextEngine(operation_timeout=10) as engine:
        assert (await engine.health_check())["storage_backend"] == "redis"
        assert await engine.redis_client.ping()
        assert engine.redis_client.connection_pool.connection_kwargs["db"] == 3


async def test_the_redis_client_is_on_the_stores_server(server):
    engine = ContextEngine(store=server.url, operation_timeout=10)
    assert engine.redis_client is None
    async with engine:
        assert await engine.redis_client.ping()
        assert engine.redis_client is engine.redis_client
    assert engine.redis_client is None


async def test_engines_share_the_connections_of_the_process(monkeypatch, server):
    monkeypatch.setenv("REDIS_URL", server.url)
    first, second = ContextEngine(operation_timeout=10), ContextEngine(operation_timeout=10)
    own = ContextEngine(use_existing_redis=False, operation_timeout=10)
    for engine in (first, second, own):
        assert await engine.initialize()
    stores = [engine._on.runtime.store for engine in (first, second, own)]
    assert stores[0] is stores[1] is not stores[2]

    await first.close()
    await second.get_session("s")
    await second.close()
    await own.close()


@pytest.mark.parametrize("named", ["store", "environment"])
async def test_a_named_store_that_does_not_answer_raises(monkeypatch, named):
    engine = ContextEngine(store=NOWHERE)
    if named == "environment":
        monkeypatch.setenv("AIECS_STORE_URL", NOWHERE)
        engine = ContextEngine()
    with pytest.raises(StoreUnavailableError):
        await engine.initialize()
    with pytest.raises(LifecycleError):
        await engine.get_session("s")


async def test_without_redis_the_memory_of_the_process_is_used(monkeypatch, caplog):
    monkeypatch.setenv("REDIS_URL", NOWHERE)
    engine, other = ContextEngine(), ContextEngine()
    with caplog.at_level(logging.WARNING, "aiecs"):
        assert await engine.initialize() is False

    assert "NOT REACHABLE" in caplog.text
    assert await engine.initialize() is False
    health = await engine.health_check()
    assert (health["status"], health["storage_backend"]) == ("degraded", "memory")
    assert health["issues"]
    assert engine.redis_client is None

    await engine.create_session("s", "u")
    assert await other.initialize() is False
    assert await other.get_session("s"), "one fallback store for all engines of the process"
    await engine.close()
    await other.close()


async def test_the_fallback_is_for_the_life_of_the_process(monkeypatch, server):
    monkeypatch.setenv("REDIS_URL", NOWHERE)
    async with ContextEngine() as engine:
        await engine.create_session("s", "u")
    monkeypatch.setenv("REDIS_URL", server.url)

    engine = ContextEngine()
    assert await engine.initialize() is False
    assert await engine.get_session("s")
    await engine.close()
    async with ContextEngine(store=server.url, operation_timeout=10) as named:
        assert (await named.health_check())["storage_backend"] == "redis"


async def test_a_wrong_password_never_falls_back(monkeypatch, servers):
    server = servers.start("valkey")
    server.command("CONFIG", "SET", "requirepass", "right")
    monkeypatch.setenv("REDIS_URL", server.url.replace("://", "://:wrong@"))
    with pytest.raises(StoreAuthError) as caught:
        await ContextEngine(operation_timeout=10).initialize()
    assert "wrong" not in str(caught.value).replace("WRONGPASS", "")
    assert registry.fallback_in_use() is None
    server.close()


@pytest.mark.parametrize("share", [True, False])
async def test_a_server_that_is_not_as_configured_never_falls_back(monkeypatch, server, share):
    monkeypatch.setenv("REDIS_HOST", "127.0.0.1")
    monkeypatch.setenv("REDIS_PORT", str(server.port))
    monkeypatch.setenv("REDIS_TLS", "true")
    with pytest.raises(StoreMisconfiguredError):
        await ContextEngine(use_existing_redis=share, operation_timeout=10).initialize()
    assert registry.fallback_in_use() is None


@pytest.mark.parametrize(
    ("store", "says"),
    [
        ("", "leave store= out"),
        (5, "got int"),
        (b"memory://", "got bytes"),
        (Path("data.db"), "a URL or a Store"),
        (MemoryStore, "got "),
    ],
)
def test_what_is_no_store_is_refused(store, says):
    with pytest.raises(InvalidInputError, match=says):
        ContextEngine(store=store)


async def test_a_third_party_can_add_a_scheme(monkeypatch):
    class Entry:
        name = "mine"

        @staticmethod
        def load():
            return lambda url, settings: MemoryStore()

    monkeypatch.setattr(registry, "_third_party", lambda name="": [Entry])
    async with ContextEngine(store="mine://anything") as engine:
        await engine.create_session("s", "u")
    assert "mine" in registry.schemes()
