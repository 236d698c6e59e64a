"""`read_from=replicas`: what a replica cannot answer, its primary does."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from support import servers as real
from support.clusters import Cluster, text, until_now
from support.redis_store import adding, creating, items, opened
from support.slots import say
from support.waiting import until

TIMEOUT = 1.0
READS = 20
# Keys, and the microseconds that each takes to be loaded.
KEYS, DELAY = 2_000, 2_000


@pytest.fixture(scope="module", params=real.names())
def pair(request, servers):
    """A primary with a replica."""
    debug = ("--enable-debug-command", "yes")
    with Cluster(servers, request.param, *debug, primaries=1) as cluster:
        say(cluster.primaries[0], "DEBUG", "POPULATE", KEYS, "other", 100)
        yield cluster


@pytest.fixture
async def url(pair, prefix):
    """The cluster, whose replica has one group with a message."""
    async with opened(pair.url, prefix) as store:
        await store.apply(creating(bucket=0))
        await store.apply(adding(b"here", bucket=0))
    until_now(lambda: len(set(map(offset, pair.nodes))) == 1)
    return f"{pair.url}?read_from=replicas"


@pytest.fixture(params=["in_use", "new"])
async def reader(request, pair, url, prefix):
    """A store that reads from the replica, and one that knows it and has not read yet."""
    replica = pair.replicas[0]
    async with opened(url, prefix, TIMEOUT) as store:
        await store.ping()

        async def is_ready():
            lanes = [lane for lane in store.lanes() if lane.address.port == replica.port]
            if request.param == "new":
                return bool(lanes)
            assert await items(store, bucket=0) == [b"here"]
            return any(lane.connected for lane in lanes)

        await until(is_ready)
        yield store


def offset(node):
    """How much of its primary's writes a node has."""
    return told(node, "master_repl_offset")


def link(replica):
    """How the replica's connection to its primary is: up or down."""
    return told(replica, "master_link_status")


def told(node, name):
    """What a node says of its replication."""
    said = text(node, "INFO", "replication")
    return said.partition(f"{name}:")[2].partition("\r\n")[0]


@contextmanager
def cut(pair):
    """The replica is cut off from its primary, which refuses its login."""
    primary, replica = pair.primaries[0], pair.replicas[0]
    say(replica, "CONFIG", "SET", "masteruser", "nobody")
    say(replica, "CONFIG", "SET", "masterauth", "wrong")
    primary.command("CLIENT", "KILL", "TYPE", "replica")
    try:
        until_now(lambda: link(replica) == "down")
        yield
    finally:
        say(replica, "CONFIG", "SET", "masteruser", "")
        say(replica, "CONFIG", "SET", "masterauth", "")
        until_now(lambda: link(replica) == "up")


@contextmanager
def without_stale_data(replica):
    say(replica, "CONFIG", "SET", "replica-serve-stale-data", "no")
    try:
        yield
    finally:
        say(replica, "CONFIG", "SET", "replica-serve-stale-data", "yes")


@contextmanager
def loading(pair):
    """The replica gets all its data again, and is slow to load it."""
    primary, replica = pair.primaries[0], pair.replicas[0]
    say(replica, "CONFIG", "SET", "loading-process-events-interval-bytes", 1024)
    say(replica, "CONFIG", "SET", "key-load-delay", DELAY)
    say(primary, "DEBUG", "CHANGE-REPL-ID")
    primary.command("CLIENT", "KILL", "TYPE", "replica")
    try:
        until_now(lambda: "LOADING" in text(replica, "DBSIZE"))
        yield
    finally:
        say(replica, "CONFIG", "SET", "key-load-delay", 0)
        until_now(lambda: link(replica) == "up")


async def test_a_replica_that_is_cut_off(pair, reader):
    replica = pair.replicas[0]
    with cut(pair), without_stale_data(replica):
        for _ in range(READS):
            assert await items(reader, bucket=0) == [b"here"]
        assert "MASTERDOWN" in text(replica, "DBSIZE")


async def test_a_replica_that_loads_its_data(pair, reader):
    with loading(pair):
        for _ in range(READS):
            assert await items(reader, bucket=0) == [b"here"]
        assert "LOADING" in text(pair.replicas[0], "DBSIZE")


async def test_a_replica_that_is_killed(pair, reader):
    replica = pair.replicas[0]
    replica.kill()
    try:
        for _ in range(READS):
            assert await items(reader, bucket=0) == [b"here"]
    finally:
        replica.start()
        until_now(lambda: link(replica) == "up")
