"""A cluster whose slots move and whose nodes die, under load; then everything is counted."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest
from support import servers as real
from support.clusters import SLOTS, Cluster, text
from support.redis_store import Ledger, creating, items, opened, recovered
from support.resharding import move, move_whole
from support.slots import agreed
from support.waiting import until

from aiecs.core.errors import StoreError
from aiecs.core.interface.store import Batch, Get

TIMEOUT = 1.0
MOVED = 2_000
# Far more than the second that nodes take to notice and the few that an election takes.
PATIENCE = 30.0


@pytest.fixture(params=real.names())
def own_cluster(request, servers):
    """A cluster whose nodes the test may kill."""
    with Cluster(servers, request.param) as cluster:
        yield cluster


# Buckets of the first primary, and of the others.
FIRST, OTHERS = range(0, SLOTS // 3, 700), range(SLOTS // 3, SLOTS, 700)


async def promoted(node):
    """Whether a node is a primary now."""
    return "role:master" in text(node, "INFO", "replication")


class Creating:
    """Creates sessions in random buckets until it is told to stop."""

    def __init__(self, store, buckets):
        self._store = store
        self._buckets = buckets
        self.created = []
        self.errors = []
        self._done = False

    async def __aenter__(self):
        self._tasks = [asyncio.create_task(self._create(task)) for task in range(8)]
        return self

    async def __aexit__(self, *_):
        self._done = True
        await asyncio.gather(*self._tasks)

    async def _create(self, task):
        for number in itertools.count():
            if self._done:
                return
            place = (f"s:new{task}.{number}", random.choice(self._buckets))
            try:
                await self._store.apply(creating(*place))
            except StoreError as error:
                self.errors.append(error)
            else:
                self.created.append(place)
            await asyncio.sleep(0.02)  # the keys that move are not to become more without end


async def test_slots_move_under_load(cluster, prefix):
    """2,000 filled slots change their node; nobody is refused, nothing is lost or doubled."""
    source, target = cluster.primaries[:2]
    moving = range(MOVED)

    async def settled():
        return agreed(source, target)

    async with opened(cluster.url, prefix, 10.0) as store:
        async with (
            Ledger(store, tasks=32, buckets=moving, pause=0.03) as ledger,
            Creating(store, moving) as making,
        ):
            await ledger.more(MOVED)
            by_key = moving[:500] if source.name == "valkey" else moving
            assert await move(by_key, source, target) > 2 * len(by_key)
            if source.name == "valkey":
                await move_whole(moving[500:], source, target)
            await ledger.more(100)
            await until(settled)  # an old claim to a slot could win over a new one
            await move(moving[:10], target, source)
            await ledger.more(100)
        assert not ledger.errors
        assert not making.errors
        await ledger.check()
        for group, bucket in making.created:
            ((there,),) = await store.apply(Batch(bucket, group, (Get("", ("~i",)),)))
            assert there is not None, "created and lost"


@pytest.mark.parametrize("replicated", [False, True], ids=["acknowledged", "replicated"])
async def test_a_primary_is_killed_under_load(own_cluster, prefix, replicated, measured):
    dead = own_cluster.primaries[0]
    url = own_cluster.url + ("?durability=replicated" if replicated else "")
    async with opened(url, prefix, TIMEOUT) as store:
        async with (
            Ledger(store, tasks=16, buckets=FIRST) as ledger,
            Ledger(store, tasks=16, buckets=OTHERS) as undisturbed,
        ):
            await ledger.more(300)
            dead.kill()
            await until(lambda: promoted(own_cluster.replicas[0]), PATIENCE)
            if replicated:  # who comes back is the replica that confirms
                dead.start()
            await ledger.more(300, PATIENCE)
            await undisturbed.more(300)
        assert not undisturbed.errors
        await undisturbed.check()
        assert ledger.errors.keys() <= {"StoreUnavailableError", "StoreTimeoutError"}
        lost = await ledger.check(lossy=not replicated)
        measured(f"{len(ledger.applied)} acknowledged, {lost} of them lost")


async def test_a_primary_is_paused_under_load(own_cluster, prefix, measured):
    """It comes back as a replica, and what it still had on its way is not applied again."""
    paused = own_cluster.primaries[0]
    async with opened(own_cluster.url, prefix, TIMEOUT) as store:
        async with Ledger(store, tasks=16, buckets=FIRST) as ledger:
            await ledger.more(300)
            paused.pause()
            try:
                await ledger.until(lambda ledger: ledger.failing)
                await ledger.more(300, PATIENCE)
            finally:
                paused.resume()
            await ledger.more(300)
        lost = await ledger.check(lossy=True)
        measured(f"{len(ledger.applied)} acknowledged, {lost} of them lost")


async def test_confirmations_that_do_not_come_are_told(cluster, prefix):
    url = cluster.url + "?durability=replicated"
    primary, replica = cluster.primaries[0], cluster.replicas[0]
    async with opened(url, prefix, TIMEOUT) as store:
        await store.apply(creating(bucket=0))
        replica.pause()
        try:
            with pytest.raises(StoreError, match="0 of 1 replicas") as caught:
                await store.apply(creating("s:two", 0))
            assert caught.value.outcome == "unknown"
            assert await items(store, bucket=0) == []  # reads need nobody's confirmation
        finally:
            replica.resume()
        assert primary.command("PING") == b"+PONG\r\n"

        async def confirmed():
            try:
                await store.apply(creating(f"s:{random.random()}", 0))
            except StoreError:
                return False
            return True

        await until(confirmed)


async def test_a_client_that_knows_one_node_finds_the_others(cluster, prefix):
    only = cluster.replicas[2]
    async with opened(f"redis+cluster://127.0.0.1:{only.port}", prefix) as store:
        for bucket in (*FIRST, *OTHERS):
            await store.apply(creating(bucket=bucket))
        assert {lane.address.port for lane in store.lanes()} == {
            node.port for node in cluster.primaries
        }


async def test_reads_go_to_replicas_when_asked(own_cluster, prefix):
    replica = own_cluster.replicas[0]
    async with opened(own_cluster.url, prefix) as store:
        await store.apply(creating(bucket=0))
    async with opened(f"{own_cluster.url}?read_from=replicas", prefix) as store:

        async def reads_from(port):
            ((there,),) = await store.apply(Batch(0, "s:one", (Get("", ("~i",)),)))
            reached = {lane.address.port for lane in store.lanes() if lane.connected}
            return there is not None and port in reached

        await until(lambda: reads_from(replica.port))
        own_cluster.primaries[0].pause()  # it would be missed by whoever asked it
        try:
            assert await reads_from(replica.port)
        finally:
            own_cluster.primaries[0].resume()


async def test_a_replica_that_dies_is_not_asked_any_more(own_cluster, prefix):
    url = f"{own_cluster.url}?read_from=replicas"
    async with opened(url, prefix, TIMEOUT) as store:
        await store.apply(creating(bucket=0))
        await until(lambda: read(store))
        own_cluster.replicas[0].kill()
        await until(lambda: read(store))
        await recovered(store)


async def read(store):
    """Whether the session could be read."""
    try:
        ((there,),) = await store.apply(Batch(0, "s:one", (Get("", ("~i",)),)))
    except StoreError:
        return False
    return there is not None
