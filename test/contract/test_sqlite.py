"""The SQLite store keeps the contract, and its clock to the microsecond."""

from __future__ import annotations

import pytest
from support.clocks import HandClock

from aiecs.testing import ClockContract, StoreContract


class TestSqlite(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path):
        from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore

        store = SqliteStore(tmp_path / "store.db", timeout=10.0)
        yield store
        await store.close()


class TestSqliteByHand(ClockContract):
    @pytest.fixture
    def clock(self):
        return HandClock()

    @pytest.fixture
    async def store(self, tmp_path, clock):
        from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore

        store = SqliteStore(tmp_path / "store.db", timeout=10.0, clock=clock)
        yield store
        await store.close()
