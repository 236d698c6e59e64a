"""The contract of a hot store, as tests to inherit.

    class TestMyStore(StoreContract):
        @pytest.fixture
        async def store(self):
            store = MyStore(...)        # open and empty
            yield store
            await store.close()

The suite needs pytest and pytest-asyncio. Nothing in it sleeps: what depends on time waits until
the store's own clock has passed. A store whose clock can be moved gives a `clock` fixture too, with
`advance(microseconds)`, and is held to the microsecond by `ClockContract`.
"""

# ruff: noqa: D102, S101 - a test's name says what it holds
from __future__ import annotations

import pytest

from aiecs.core.interface import store as port
from aiecs.testing.store.atomicity import AtomicityContract
from aiecs.testing.store.counters import CounterContract
from aiecs.testing.store.expiry import ExpiryContract
from aiecs.testing.store.extending import ExtendContract
from aiecs.testing.store.gathering import GatherContract
from aiecs.testing.store.guards import GuardContract
from aiecs.testing.store.indexes import IndexContract
from aiecs.testing.store.isolation import IsolationContract
from aiecs.testing.store.limits import LimitContract
from aiecs.testing.store.logs import LogContract
from aiecs.testing.store.maps import MapContract
from aiecs.testing.store.place import ManualClock, Place
from aiecs.testing.store.plans import LifeContract, PlanContract
from aiecs.testing.store.receipts import ReceiptContract
from aiecs.testing.store.windows import WindowContract

__all__ = ["ClockContract", "StoreContract"]


class Suite:
    """What the suites share."""

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def clock(self) -> ManualClock | None:
        """How to move the store's clock; None when it cannot be moved."""
        return None

    @pytest.fixture
    def here(self, store: port.Store, clock: ManualClock | None) -> Place:
        """The group that a test works in."""
        return Place(store, clock)


class StoreContract(
    MapContract,
    ExtendContract,
    CounterContract,
    GuardContract,
    LogContract,
    WindowContract,
    IndexContract,
    GatherContract,
    ExpiryContract,
    ReceiptContract,
    AtomicityContract,
    IsolationContract,
    LimitContract,
    PlanContract,
    LifeContract,
    Suite,
):
    """Everything that a `Store` promises."""


class ClockContract(Suite):
    """What holds to the microsecond; for stores that give a `clock` to move."""

    async def test_a_group_expires_exactly_when_its_time_has_come(
        self, here: Place, clock: ManualClock
    ) -> None:
        await here.create(port.Put("m", {"a": b"1"}), port.Expire(1000))

        clock.advance(999)
        assert await here.map() == {"a": b"1"}
        clock.advance(1)
        assert await here.map() == {}

    async def test_before_holds_at_its_very_microsecond(
        self, here: Place, clock: ManualClock
    ) -> None:
        await here.create()
        now = await here.now()

        await here.do(port.RequireBefore(now))
        clock.advance(1)
        refusal = await here.refused(port.RequireBefore(now))

        assert (refusal.operation, refusal.found) == (0, now + 1)

    async def test_at_most_now_holds_at_its_very_microsecond(
        self, here: Place, clock: ManualClock
    ) -> None:
        await here.create(port.Put("m", {"time": port.now_plus(1)}))

        await here.refused(port.RequireAtMost("m", "time", port.NOW))
        clock.advance(1)
        await here.do(port.RequireAtMost("m", "time", port.NOW))
