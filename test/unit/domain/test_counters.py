"""Totals that wait in a process, when the store does not take them."""

from __future__ import annotations

import pytest

from aiecs.core.errors import StoreUnavailableError
from aiecs.domain.context.counters import Counters
from aiecs.domain.context.tasks import BackgroundTasks
from aiecs.infrastructure.persistence.stores.memory import MemoryStore


class Refusing:
    """A store that may be told to take nothing."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.refuses = False

    async def apply(self, batch):
        if self.refuses:
            raise StoreUnavailableError("gone")
        return await self.store.apply(batch)


@pytest.fixture
async def store():
    store = Refusing()
    yield store
    await store.store.close()


@pytest.fixture
async def counters(store):
    counters = Counters(store.apply, BackgroundTasks())
    yield counters
    await counters.close()


async def test_a_count_that_could_not_be_set_keeps_what_was_pending(store, counters):
    counters.add("sessions", 2)
    store.refuses = True
    with pytest.raises(StoreUnavailableError):
        await counters.replace({"sessions": 9})
    store.refuses = False
    assert await counters.totals() == {"sessions": 2}


async def test_a_count_takes_the_place_of_what_was_pending(counters):
    counters.add("sessions", 2)
    await counters.replace({"sessions": 9})
    assert (await counters.totals())["sessions"] == 9
