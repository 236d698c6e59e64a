"""Slots of a cluster in states that last a moment: unserved, half moved, moved without a word."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any

from support import slot_mover
from support.clusters import Cluster, known, node_id, option, text, until_now
from support.servers import Server, Servers, free_port
from support.waiting import until

from aiecs.infrastructure.persistence.stores.redis import RedisStore


def say(node: Server, *words: object) -> None:
    """A command that is answered OK."""
    said = text(node, *map(str, words))
    assert said == "+OK\r\n", said


def refusals(node: Server, code: str) -> int:
    """How many commands a node has refused with a code since it started."""
    found = re.search(rf"errorstat_{code}:count=(\d+)", text(node, "INFO", "errorstats"))
    return int(found[1]) if found else 0


@contextmanager
def unserved(slot: int, node: Server) -> Iterator[None]:
    """The slot's own node says that nobody serves it."""
    say(node, "CLUSTER", "DELSLOTS", slot)
    try:
        yield
    finally:
        say(node, "CLUSTER", "ADDSLOTS", slot)


@contextmanager
def moving(slot: int, source: Server, target: Server, *keys: str) -> Iterator[None]:
    """The slot is on its way and some of its keys are there; in the end it has not moved.

    At that moment nobody may be about to ask for the keys that come back.
    """
    say(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
    say(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(target))
    for key in keys:
        _migrate(key, source, target)
    try:
        yield
    finally:
        say(source, "CLUSTER", "SETSLOT", slot, "STABLE")
        for key in keys:
            _migrate(key, target, source)
        say(target, "CLUSTER", "SETSLOT", slot, "STABLE")


def _migrate(key: str, source: Server, target: Server) -> None:
    say(source, "MIGRATE", "127.0.0.1", target.port, key, 0, 5_000)


@contextmanager
def misled(slot: int, node: Server, other: Server) -> Iterator[None]:
    """The slot's node sends callers on to another, which sends them back."""
    say(node, "CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(other))
    try:
        yield
    finally:
        say(node, "CLUSTER", "SETSLOT", slot, "STABLE")


@contextmanager
def moved(slot: int, source: Server, target: Server) -> Iterator[None]:
    """The slot is elsewhere with all its keys; it comes back in the end."""
    move_now(slot, source, target)
    try:
        yield
    finally:
        move_now(slot, target, source)


def move_now(slot: int, source: Server, target: Server) -> None:
    """Move a slot with all its keys, and return when both know it; blocks."""
    ends = (source.port, node_id(source), target.port, node_id(target))
    slot_mover.move(*ends, range(slot, slot + 1))
    until_now(lambda: agreed(source, target))


def agreed(*nodes: Server) -> bool:
    """Whether nodes tell the same of who has which slots, and since when.

    Before that a slot must not move again: an old claim could win over the new one.
    """
    told = [text(node, "CLUSTER", "NODES").splitlines() for node in nodes]
    claims = [
        {(words[0], *words[6:7], *words[8:]) for words in map(str.split, lines) if words[8:]}
        for lines in told
    ]
    return all(claim == claims[0] for claim in claims)


@contextmanager
def spare(servers: Servers, cluster: Cluster) -> Iterator[Server]:
    """One more primary, which has no slots yet."""
    first = cluster.nodes[0]
    place = first.options.index("--cluster-port") + 1
    options = [*first.options, "--cluster-allow-replica-migration", "no"]  # stays a primary
    options[place] = str(free_port())
    node = servers.start(first.name, *options)
    say(first, "CLUSTER", "MEET", "127.0.0.1", node.port, option(node, "--cluster-port"))
    everyone = [*cluster.nodes, node]
    until_now(lambda: all(known(each) == len(everyone) for each in everyone))
    until_now(lambda: "cluster_state:ok" in text(node, "CLUSTER", "INFO"))
    yield node
    node.close()


# --- what a store has under way -----------------------------------------------------------------


async def sent(store: RedisStore) -> None:
    """Return when what the store was asked has left it."""

    async def gone() -> bool:
        found = store.lanes()
        return any(lane.under_way[0] for lane in found) and not any(
            lane._flushing for lane in found
        )

    await until(gone)


async def idle(store: RedisStore) -> bool:
    """Whether no node has been asked anything that it has not answered."""
    return not any(lane.under_way[0] for lane in store.lanes())


async def cut_off(node: Server, store: RedisStore, call: Awaitable[Any]) -> asyncio.Task[Any]:
    """A call that was sent when the node dropped its connections, without having read it."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=5) as before:
        before.sendall(b"PING\r\n")
        assert before.recv(100) == b"+PONG\r\n"
        node.pause()
        try:
            before.sendall(b"CLIENT KILL TYPE normal SKIPME yes\r\n")
            task = asyncio.ensure_future(call)
            await sent(store)
        finally:
            node.resume()
        assert before.recv(100).startswith(b":")
    return task
