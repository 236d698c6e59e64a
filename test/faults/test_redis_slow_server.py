"""A server that answers late: callers wait, up to a bound; beyond it they are told so at once."""

from __future__ import annotations

import pytest
from support.proxy import Proxy
from support.redis_store import Ledger, lanes, opened, recovered

from aiecs.infrastructure.persistence.stores.redis.room import MAX_BYTES, MAX_ENTRIES

LATE = 0.2
DEADLINE = 1.0
# What a call may take beyond its deadline, and a test for each step, on a shared machine.
SLACK = 10.0
PATIENCE = 35.0


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
    """What is under way stays bounded; who finds no room in time has written nothing.

    On a machine that is slow itself the server counts as silent before room runs out; that there
    is `StoreOverloadedError` is held by `test_redis_callers`.
    """
    most = [0, 0, 0]
    async with opened(slow.url, prefix, DEADLINE) as store:
        async with Ledger(store, tasks=MAX_ENTRIES + 1_000, pause=0.05) as ledger:
            small = lanes(store)[0]

            def refused(ledger):
                now = (*small.under_way, small.in_line)
                most[:] = map(max, most, now)
                return len(ledger.refused) >= 100

            slow.delay(LATE)
            await ledger.until(refused, PATIENCE)
            slow.heal()
            ledger.healed()
        assert ledger.errors.keys() <= {
            "StoreOverloadedError",
            "StoreTimeoutError",
            "StoreUnavailableError",
        }
        assert most[0] <= MAX_ENTRIES
        assert most[1] < MAX_BYTES
        assert max(ledger.failing) < DEADLINE + SLACK
        await recovered(store, PATIENCE)
        await ledger.check()
        async with Ledger(store, tasks=16, buckets=range(1, 5)) as later:
            await later.more(100)
        assert not later.errors
        await later.check()
        measured(f"{ledger.figures()}; at most {most[0]:,} under way, {most[2]:,} in line")
        measured(", ".join(f"{count:,} {name}" for name, count in ledger.errors.items()))
