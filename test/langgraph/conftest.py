"""Savers on every store."""

from __future__ import annotations

import uuid

import pytest
from support import servers as real
from support.counted_store import CountedStore

from aiecs import ContextEngine
from aiecs.infrastructure.persistence.stores.memory import MemoryStore
from aiecs.infrastructure.persistence.stores.redis import RedisStore
from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore
from aiecs.integrations.langgraph import ContextEngineSaver

STORES = ["memory", "sqlite", *real.names()]


@pytest.fixture(params=STORES)
async def store(request, servers, prefix, tmp_path):
    if request.param == "memory":
        opened = MemoryStore()
    elif request.param == "sqlite":
        opened = SqliteStore(tmp_path / "store.db", timeout=10.0)
    else:
        url = servers.shared(request.param).url
        opened = RedisStore.from_url(url, prefix=prefix.strip(":"), timeout=10.0)
    counted = CountedStore(opened)
    yield counted
    await opened.close()


@pytest.fixture
async def engine(store):
    async with ContextEngine(store=store, operation_timeout=10) as engine:
        yield engine


@pytest.fixture
def saver(engine):
    return ContextEngineSaver(engine)


@pytest.fixture
def config():
    """The config of a thread of the test's own."""
    return {"configurable": {"thread_id": uuid.uuid4().hex}}
