"""A server that answers late: callers wait, up to a bound; beyond it they are told so at once."""

from __future__ import annotations

import pytest
from support.proxy import Proxy
from support.redis_store import Ledger, lanes, opened, recovered

from aiecs.infrastructure.persistence.stores.redis.room import MAX_BYTES, MAX_ENTRIES

LATE = 0.2
DEADLINE = 1.0
# What a call may take beyond its deadline, on a shared machine.
SLACK = 5.0


@pytest.fixture
async def slow(server):
    """A proxy whose every piece of data is `LATE` once a test says so."""
    async with Proxy(server.port) as proxy:
        yield proxy


async def test_a_slow_server_refuses_nobody_who_has_time(slow, prefix, measured):
    async with opened(slow.url, prefix, 20.0) as store:
        async with Ledger(store) as ledger:
            await ledger.more(100)
            slow.delay(LATE)
            await ledger.more(300)
            slow.heal()
            ledger.healed()
            await ledger.more(100)
        assert not ledger.errors
        assert ledger.slowest >= LATE
        await ledger.check()
        measured(ledger.figures())


async def test_more_callers_than_a_slow_server_can_take(slow, prefix, measured):
    """What is under way stays bounded; who finds no room in time has written nothing."""
    most = [0, 0, 0]
    async with opened(slow.url, prefix, DEADLINE) as store:
        async with Ledger(store, tasks=MAX_ENTRIES * 3 // 2) as ledger:
            small = lanes(store)[0]

            def overloaded(ledger):
                now = (*small.under_way, small.in_line)
                most[:] = map(max, most, now)
                return ledger.errors["StoreOverloadedError"] >= 100

            await ledger.more(1_000)
            slow.delay(LATE)
            await ledger.until(overloaded)
            slow.heal()
            ledger.healed()
            await recovered(store)
            await ledger.more(1_000)
        assert ledger.errors.keys() <= {
            "StoreOverloadedError",
            "StoreTimeoutError",
            "StoreUnavailableError",
        }
        assert most[0] <= MAX_ENTRIES
        assert most[1] < MAX_BYTES
        assert max(ledger.failing) < DEADLINE + SLACK
        await ledger.check()
        measured(f"{ledger.figures()}; at most {most[0]:,} under way, {most[2]:,} in line")
