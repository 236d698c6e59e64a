"""A primary that sentinels watch: what it holds, and how clients follow when it fails."""

from __future__ import annotations

import pytest
from support import servers as real
from support.redis_store import Ledger, creating, items, opened
from support.sentinels import Watched
from support.waiting import until

from aiecs.core.errors import StoreUnavailableError
from aiecs.infrastructure.persistence.redis_client import RedisClient

TIMEOUT = 1.0
PATIENCE = 30.0


@pytest.fixture(params=real.names())
def watched(request, servers):
    with Watched(servers, request.param) as watched:
        yield watched


async def test_the_primary_is_killed_under_load(watched, prefix, measured):
    """The replica is promoted and found; nothing that was confirmed is lost or doubled."""
    url = f"{watched.url}?durability=replicated"
    async with opened(url, prefix, TIMEOUT) as store:
        async with Ledger(store, tasks=16) as ledger:
            await ledger.more(300)
            watched.primary.kill()
            await until(watched.failed_over, PATIENCE)
            watched.primary.mend_torn_tail()
            watched.primary.start()  # confirms as soon as the sentinels have made it a replica
            await ledger.more(300, PATIENCE)
        assert ledger.errors.keys() <= {"StoreUnavailableError", "StoreTimeoutError"}
        await ledger.check()
        assert reached(store) == {watched.replica.port}
        measured(f"{len(ledger.applied)} acknowledged, {len(ledger.unknown)} unknown, 0 lost")


async def test_the_primary_is_paused_under_load(watched, prefix, measured):
    """What the old primary takes when it goes on counts for nothing, and nobody was told so."""
    async with opened(watched.url, prefix, TIMEOUT) as store:
        async with Ledger(store, tasks=16) as ledger:
            await ledger.more(300)
            watched.primary.pause()
            try:
                await until(watched.failed_over, PATIENCE)
                await ledger.more(300, PATIENCE)
            finally:
                watched.primary.resume()
            await ledger.more(300)
        lost = await ledger.check(lossy=True)
        assert reached(store) == {watched.replica.port}
        measured(f"{len(ledger.applied)} acknowledged, {lost} of them lost")


async def test_a_plain_client_leaves_the_sentinels(watched):
    servers = [watched.primary, *watched.sentinels]

    def connections():
        listed = (server.command("CLIENT", "LIST", "TYPE", "normal") for server in servers)
        # Those of sentinels have names; one without is that which asks.
        return sum(found.count(b" name= ") - 1 for found in listed)

    client = RedisClient.from_url(watched.url)
    assert await client.here().ping()
    assert connections() >= 2, "to the primary and to a sentinel"

    await client.close()

    async def none_left():
        return connections() == 0

    await until(none_left)


def reached(store):
    """The ports of the servers that the store is connected to."""
    return {lane.address.port for lane in store.lanes() if lane.connected}


async def test_a_failover_on_request_refuses_nobody(watched, prefix):
    """The old primary goes on as a replica and says so: the writes go to the new one."""
    async with opened(watched.url, prefix, 20.0) as store:
        async with Ledger(store, tasks=16) as ledger:
            await ledger.more(300)
            watched.fail_over()
            await until(watched.failed_over, PATIENCE)
            await ledger.more(300, PATIENCE)
        assert not ledger.errors
        lost = await ledger.check(lossy=True)  # what the replica had not got yet
        assert lost < len(ledger.applied) / 2


async def test_sentinels_that_know_no_such_primary(watched, prefix):
    async with opened(watched.url.replace("/our-", "/other-"), prefix, TIMEOUT) as store:
        with pytest.raises(StoreUnavailableError, match="knows a primary of this name"):
            await store.ping()


async def test_one_sentinel_is_enough(watched, prefix):
    for sentinel in watched.sentinels[:2]:
        sentinel.kill()
    async with opened(watched.url, prefix, TIMEOUT) as store:
        await store.apply(creating())
        assert await items(store) == []
