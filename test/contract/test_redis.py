"""The Redis store keeps the contract on every server present."""

from __future__ import annotations

import pytest

from aiecs.testing import StoreContract


class TestRedis(StoreContract):
    @pytest.fixture
    async def store(self, server, prefix):
        from aiecs.infrastructure.persistence.stores.redis import RedisStore

        store = RedisStore.from_url(server.url, prefix=prefix, timeout=10.0)
        yield store
        await store.close()
