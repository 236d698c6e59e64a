"""Engines on every kind of store, as source and as target."""

from __future__ import annotations

import pytest

from aiecs import ContextEngine
from aiecs.infrastructure.persistence.stores.memory import MemoryStore
from aiecs.infrastructure.persistence.stores.redis import RedisStore
from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore


@pytest.fixture
async def engine_on(servers, prefix, tmp_path):
    """Opens engines on new stores of a kind, and closes them after the test."""
    opened = []

    async def open_engine(kind, store=None, **options):
        if store is not None:
            pass
        elif kind == "memory":
            store = MemoryStore()
        elif kind == "sqlite":
            assert not (tmp_path / f"{len(opened)}.db").exists(), tmp_path
            store = SqliteStore(tmp_path / f"{len(opened)}.db", timeout=10.0)
        else:
            own = f"{prefix.strip(':')}.{len(opened)}"
            url = servers.shared(kind).url
            store = RedisStore.from_url(url, prefix=own, timeout=10.0)
        engine = ContextEngine(store=store, operation_timeout=10.0, **options)
        await engine.initialize()
        opened.append((engine, store))
        return engine

    yield open_engine
    for engine, store in opened:
        await engine.close()
        await store.close()
