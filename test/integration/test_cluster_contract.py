"""The Redis store keeps the contract on a cluster, and when writes wait for replicas."""

from __future__ import annotations

import pytest

from aiecs.infrastructure.persistence.stores.redis import RedisStore
from aiecs.testing import StoreContract


class TestCluster(StoreContract):
    @pytest.fixture
    async def store(self, cluster, prefix):
        store = RedisStore.from_url(cluster.url, prefix=prefix, timeout=10.0)
        yield store
        await store.close()


class TestReplicatedCluster(StoreContract):
    @pytest.fixture
    async def store(self, cluster, prefix):
        url = f"{cluster.url}?durability=replicated"
        store = RedisStore.from_url(url, prefix=prefix, timeout=10.0)
        yield store
        await store.close()
