"""Nodes that send callers on, to each other, or away: what callers are told, and what it costs."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

import pytest
from redis import Redis
from support import servers as real
from support.clusters import Cluster, text, until_now
from support.redis_store import Ledger, adding, creating, every, items, opened
from support.resharding import move
from support.rights import login, make_user
from support.sentinels import NAME
from support.slots import (
    agreed,
    cut_off,
    idle,
    misled,
    moved,
    moving,
    refusals,
    sent,
    spare,
    unserved,
)
from support.waiting import until

from aiecs.core.errors import StoreAuthError, StoreError, StoreTimeoutError, StoreUnavailableError
from aiecs.core.interface.store import Batch, Get
from aiecs.infrastructure.persistence.stores.redis import RedisStore

TIMEOUT = 1.0
# Less than nodes take to call each other failed.
SHORT = 0.3
# Far more than a call's deadline, on a shared machine.
PATIENCE = 10.0
# Buckets of the first primary that no other test of this folder moves.
SLOT, OTHER = 4_003, 4_005
CALLERS = 50
MOST_TRIES = 30
MOVES = 6
# What a caller is told who could not be served in time.
LATE = {StoreUnavailableError, StoreTimeoutError}


@pytest.fixture(scope="module", params=real.names())
def grown(request, servers):
    """A primary with a replica, and one that has joined and has no slots yet."""
    with (
        Cluster(servers, request.param, primaries=1) as cluster,
        spare(servers, cluster) as joined,
    ):
        yield cluster, joined


# --- nothing is lost ----------------------------------------------------------------------------


async def test_a_write_that_is_refused_after_its_connection_was_lost(cluster, prefix):
    """Later writes to its bucket pass it; it is stored all the same."""
    node = cluster.primaries[0]
    async with opened(cluster.url, prefix) as store:
        for group in ("s:one", "s:two"):
            await store.apply(creating(group, SLOT))
        for name in (b"one", b"two", b"three"):
            before = refusals(node, "CLUSTERDOWN")
            with unserved(SLOT, node):
                call = await cut_off(node, store, store.apply(adding(name, "s:one", SLOT)))

                async def refused(before=before):
                    return refusals(node, "CLUSTERDOWN") > before and await idle(store)

                await until(refused)
            await store.apply(adding(name, "s:two", SLOT))
            await call
            assert name in await items(store, "s:one", SLOT), "acknowledged and not stored"
        for group in ("s:one", "s:two"):
            assert await items(store, group, SLOT) == [b"one", b"two", b"three"]


async def test_slots_move_while_connections_are_lost(cluster, prefix, measured):
    source, target = cluster.primaries[:2]
    for node in cluster.nodes:
        make_user(node, prefix, extra=True)
    slots = range(SLOT, SLOT + 8)
    lost = 0
    async with opened(login(cluster.url), prefix, 20.0) as store:
        async with Ledger(store, tasks=32, buckets=slots) as ledger:

            async def move_about():
                for number in range(MOVES):
                    ends = (source, target) if number % 2 == 0 else (target, source)
                    await move(slots, *ends)
                    until_now(lambda: agreed(source, target))
                    await ledger.more(50)

            moves = asyncio.create_task(move_about())
            while not moves.done():
                await ledger.more(50)
                for node in (source, target):
                    lost += int(text(node, "CLIENT", "KILL", "USER", "app")[1:])
            await moves
        assert not ledger.errors
        assert lost > MOVES
        await ledger.check()
        measured(f"{len(ledger.applied):,} acknowledged, {lost} connections lost, 0 writes lost")


# --- closing ------------------------------------------------------------------------------------


@contextmanager
def sending_on(code, slot, source, target):
    """The slot is another node's now, or about to be; the store has not heard of it."""
    with moved(slot, source, target) if code == "MOVED" else moving(slot, source, target):
        yield


@pytest.mark.parametrize("met", [False, True], ids=["new_node", "known_node"])
@pytest.mark.parametrize("code", ["MOVED", "ASK"])
async def test_the_store_is_closed_while_a_write_is_sent_on(grown, prefix, code, met):
    cluster, joined = grown
    node = cluster.primaries[0]
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    store = RedisStore.from_url(cluster.url, prefix=prefix, timeout=TIMEOUT)
    await store.apply(creating(bucket=0))
    if met:
        with moved(OTHER, node, joined):
            await store.apply(creating(bucket=OTHER))
    with sending_on(code, SLOT, node, joined):
        before = refusals(node, code)
        node.pause()
        try:
            call = asyncio.create_task(store.apply(creating(bucket=SLOT)))
            await sent(store)
            lanes = store.lanes()
            closing = asyncio.create_task(store.close())
            await until(lambda: refuse_calls(lanes))
        finally:
            node.resume()
        async with asyncio.timeout(PATIENCE):
            await closing
            with pytest.raises(StoreUnavailableError, match="closed") as caught:
                await call
        assert caught.value.outcome == "not_applied"
        assert refusals(node, code) > before
    await until(lambda: nobody_connected(*cluster.nodes, joined))
    assert not complaints


async def refuse_calls(lanes):
    """Whether lanes are about to close."""
    return all(lane._closed for lane in lanes)


async def nobody_connected(*nodes):
    """Whether no store is connected to any of the nodes."""
    return not any("name=aiecs" in text(node, "CLIENT", "LIST") for node in nodes)


# --- what waiting costs -------------------------------------------------------------------------


async def test_many_writers_of_a_slot_that_nobody_serves(cluster, prefix, measured):
    node = cluster.primaries[0]
    async with opened(cluster.url, prefix, TIMEOUT) as store:
        await store.apply(creating(bucket=SLOT))
        before = refusals(node, "CLUSTERDOWN")
        with unserved(SLOT, node):
            told = await every(CALLERS, lambda n: store.apply(adding(b"%d" % n, bucket=SLOT)))
        tries = (refusals(node, "CLUSTERDOWN") - before) / CALLERS
        assert {type(error) for error in told} <= LATE
        assert 1 <= tries <= MOST_TRIES
        assert await items(store, bucket=SLOT) == []
        measured(f"{tries:.1f} tries of each caller in {TIMEOUT:.0f} s")


async def test_many_readers_that_are_sent_in_a_circle(cluster, prefix, measured):
    """One node has given a slot away; the other does not want it. Reads end in time."""
    node, other = cluster.primaries[:2]
    async with opened(cluster.url, prefix, TIMEOUT) as store:
        for bucket in (0, 6_000):
            await store.apply(creating(bucket=bucket))
        read = Batch(SLOT, "s:one", (Get("", ("~i",)),))
        before = refusals(node, "ASK")
        with misled(SLOT, node, other):
            async with asyncio.timeout(PATIENCE):
                told = await every(CALLERS, lambda _: store.apply(read))
        tries = (refusals(node, "ASK") - before) / CALLERS
        assert {type(error) for error in told} <= LATE
        assert 1 <= tries <= MOST_TRIES
        measured(f"{tries:.1f} tries of each reader in {TIMEOUT:.0f} s")


async def test_gauges_do_not_fall_when_a_node_leaves(grown, prefix):
    cluster, joined = grown
    node = cluster.primaries[0]
    async with opened(cluster.url, prefix, TIMEOUT) as store:
        with moved(SLOT, node, joined):
            await store.apply(creating(bucket=SLOT))
            joined.pause()
            try:
                with pytest.raises(StoreError) as caught:
                    await store.apply(adding(b"one", bucket=SLOT), timeout=SHORT)
            finally:
                joined.resume()
            assert caught.value.outcome == "unknown"
            joined.command("CLIENT", "KILL", "TYPE", "normal")
            await until(lambda: written(store))
            before = store.gauges()
            assert before.reconnects > 0
            assert before.unknown_outcomes > 0
        await until(lambda: written(store))

        async def forgotten():
            return joined.port not in {lane.address.port for lane in store.lanes()}

        await until(forgotten)
        after = store.gauges()
        assert after.reconnects >= before.reconnects
        assert after.unknown_outcomes >= before.unknown_outcomes


async def written(store):
    """Whether a write is acknowledged."""
    try:
        await store.apply(adding(b"more", bucket=SLOT))
    except StoreError:
        return False
    return True


# --- who may not ask ----------------------------------------------------------------------------


async def refused(url, prefix):
    """The store is told that its login is at fault, not the servers."""
    async with opened(url, prefix, TIMEOUT) as store:
        with pytest.raises(StoreAuthError) as caught:
            await store.apply(creating(bucket=SLOT))
    assert not caught.value.retryable
    assert "wrong" not in str(caught.value)


async def test_a_wrong_password(cluster, prefix):
    for node in cluster.nodes:
        make_user(node, prefix, extra=True)
    await refused(login(cluster.url).replace(":right@", ":wrong@"), prefix)


async def test_no_right_to_ask_for_the_slots(cluster, prefix):
    for node in cluster.nodes:
        make_user(node, prefix)
    await refused(login(cluster.url), prefix)


async def test_no_password(cluster, prefix):
    asked_first = cluster.nodes[:2]
    words = ("reset", "on", ">right", "~*", "&*", "+@all")
    for node in asked_first:
        node.command("ACL", "SETUSER", "boss", *words)
        node.command("ACL", "SETUSER", "default", "resetpass", ">secret")
    try:
        await refused(cluster.url, prefix)
    finally:
        for node in asked_first:
            with Redis(port=node.port, username="boss", password="right") as boss:
                boss.execute_command("ACL SETUSER default nopass")


@pytest.mark.parametrize("name", real.names())
async def test_a_wrong_password_at_sentinels(servers, prefix, name):
    sentinel = servers.start(name, "--sentinel")
    try:
        sentinel.command("ACL", "SETUSER", "default", "resetpass", ">right")
        place = f"redis+sentinel://127.0.0.1:{sentinel.port}/{NAME}"
        await refused(f"{place}?sentinel_password=wrong", prefix)
        await refused(place, prefix)
    finally:
        sentinel.close()
