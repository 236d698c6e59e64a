"""The memory store keeps the contract, on the real clock and on one that is moved by hand."""

from __future__ import annotations

import pytest
from support.clocks import HandClock

from aiecs.infrastructure.persistence.stores.memory import MemoryStore
from aiecs.testing import ClockContract, StoreContract


class TestMemory(StoreContract):
    @pytest.fixture
    async def store(self):
        store = MemoryStore()
        yield store
        await store.close()


class TestMemoryByHand(ClockContract, StoreContract):
    @pytest.fixture
    def clock(self):
        return HandClock()

    @pytest.fixture
    async def store(self, clock):
        store = MemoryStore(clock=clock)
        yield store
        await store.close()
