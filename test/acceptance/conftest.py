"""Engines on every store: each test runs on all of them."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import servers as real
from support import services

from aiecs import ContextEngine
from aiecs.core import registry
from aiecs.core.interface.store import Store
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

# Every store that engines are tested on; a server is skipped nowhere, it is listed or not.
STORES = ["memory", "sqlite", *real.names()]

# The specification is no part of this repository: its test is there where it is.
collect_ignore = [] if os.environ.get("AIECS_SPEC") else ["test_specification.py"]

OpenStore = Callable[[], Store]
MakeEngine = Callable[..., Awaitable[ContextEngine]]


@pytest.fixture(params=STORES)
def open_store(
    request: pytest.FixtureRequest, servers: real.Servers, prefix: str, tmp_path: Path
) -> OpenStore:
    """Opens a store on the test's own data; each call is another handle on the same data."""
    if request.param == "memory":
        shared = MemoryStore()
        return lambda: shared
    if request.param == "sqlite":
        from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore

        return lambda: SqliteStore(tmp_path / "data.db", timeout=10.0)
    from aiecs.infrastructure.persistence.stores.redis import RedisStore

    url = servers.shared(request.param).url
    return lambda: RedisStore.from_url(url, prefix=prefix, timeout=10.0)


@pytest.fixture
async def make_engine(open_store: OpenStore) -> AsyncIterator[MakeEngine]:
    """Makes engines on the same data, as in several processes; closes them after the test.

    They expire sessions as by default on Redis, on SQLite too, and have time for a slow machine.
    """
    engines: list[ContextEngine] = []
    stores: list[Store] = []

    async def make(**options: Any) -> ContextEngine:
        stores.append(open_store())
        usual = {"session_ttl": 86_400, "checkpoint_ttl": 604_800, "operation_timeout": 10.0}
        engine = ContextEngine(store=stores[-1], **usual | options)
        assert await engine.initialize()
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        await engine.close()
    for store in stores:
        await store.close()


@pytest.fixture
async def engine(make_engine: MakeEngine) -> ContextEngine:
    return await make_engine()


@pytest.fixture
async def timed() -> AsyncIterator[tuple[ContextEngine, services.Store]]:
    """An engine in memory and its store, whose clock the test moves (`ahead`, microseconds)."""
    store = services.Store()
    async with ContextEngine(store=store) as engine:
        yield engine, store


@pytest.fixture(autouse=True)
def forget_the_process() -> Iterator[None]:
    """No test finds the fallback store or the process-wide engine of another."""
    yield
    registry.forget_fallback()
    client = sys.modules.get("aiecs.infrastructure.persistence.context_engine_client")
    assert client is None or client.get_context_engine() is None, "close_context_engine() missing"
