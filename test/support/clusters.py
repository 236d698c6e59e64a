"""A real cluster: three primaries with a replica each, in processes of their own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from itertools import chain
from typing import Self

from support.servers import Server, Servers, free_port

SLOTS = 16_384
NODE_TIMEOUT = 1.0
"""Seconds after which the others call a node failed."""


class Cluster:
    """Six nodes; `primaries[n]` is replicated by `replicas[n]` until one fails."""

    def __init__(self, servers: Servers, name: str, *options: str, primaries: int = 3) -> None:
        settings = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": f"{NODE_TIMEOUT * 1000:.0f}",
            "repl-diskless-sync-delay": "0",
            "cluster-replica-validity-factor": "0",
            "cluster-require-full-coverage": "no",
        }
        fixed = tuple(chain.from_iterable((f"--{key}", value) for key, value in settings.items()))
        self.nodes = [
            servers.start(name, *fixed, "--cluster-port", str(free_port()), *options)
            for _ in range(2 * primaries)
        ]
        self.primaries, self.replicas = self.nodes[:primaries], self.nodes[primaries:]
        self._join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.close()

    @property
    def url(self) -> str:
        """Where clients begin."""
        places = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])
        return f"redis+cluster://{places}"

    def _join(self) -> None:
        first, *others = self.nodes
        for node in others:
            bus = option(node, "--cluster-port")
            said = first.command("CLUSTER", "MEET", "127.0.0.1", str(node.port), bus)
            assert said == b"+OK\r\n", said
        share = SLOTS // len(self.primaries)
        for number, node in enumerate(self.primaries):
            last = SLOTS - 1 if node is self.primaries[-1] else (number + 1) * share - 1
            said = node.command("CLUSTER", "ADDSLOTSRANGE", str(number * share), str(last))
            assert said == b"+OK\r\n", said
        until_now(lambda: all(known(node) == len(self.nodes) for node in self.nodes))
        for primary, replica in zip(self.primaries, self.replicas, strict=True):
            name = node_id(primary)
            until_now(
                lambda replica=replica, name=name: (
                    replica.command("CLUSTER", "REPLICATE", name) == b"+OK\r\n"
                )
            )
        until_now(lambda: all(self._is_ready(node) for node in self.nodes))

    def _is_ready(self, node: Server) -> bool:
        """Whether a node sees the whole cluster, and has its data if it is a replica."""
        if "cluster_state:ok" not in text(node, "CLUSTER", "INFO"):
            return False
        if text(node, "CLUSTER", "NODES").count("slave ") < len(self.replicas):
            return False
        said = text(node, "INFO", "replication")
        return "master_link_status:up" in said or "connected_slaves:1" in said


def option(node: Server, name: str) -> str:
    """An option that a node was started with."""
    words = node.options
    return words[words.index(name) + 1]


def text(node: Server, *words: str) -> str:
    """The reply to a command as text."""
    return node.command(*words).decode(errors="replace")


def node_id(node: Server) -> str:
    """The name that a node has in its cluster."""
    found = re.search(r"[0-9a-f]{40}", text(node, "CLUSTER", "MYID"))
    assert found
    return found[0]


def known(node: Server) -> int:
    """How many nodes a node knows and reaches."""
    said = text(node, "CLUSTER", "NODES")
    return sum(" connected" in line and "handshake" not in line for line in said.splitlines())


def until_now(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Return when the condition holds; blocks."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the cluster did not get ready"
        time.sleep(0.01)
