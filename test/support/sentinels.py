"""A primary with a replica, and three sentinels that promote it when the primary fails."""

from __future__ import annotations

from contextlib import suppress
from itertools import chain
from typing import Self

from support.clusters import text, until_now
from support.servers import Server, Servers

NAME = "our-primary"
DOWN_SECONDS = 1.0
"""After which the sentinels call the primary down."""


class Watched:
    """Two servers and their sentinels."""

    def __init__(self, servers: Servers, name: str, *options: str) -> None:
        fixed = ("--repl-diskless-sync-delay", "0", *options)
        # Files, for who comes back empty may be promoted before it has got its data again.
        self.primary = servers.start(name, *fixed, aof=True)
        follow = ("--replicaof", f"127.0.0.1 {self.primary.port}")
        self.replica = servers.start(name, *fixed, *follow, aof=True)
        self.sentinels = [self._sentinel(servers, name) for _ in range(3)]
        until_now(lambda: "connected_slaves:1" in text(self.primary, "INFO", "replication"))
        until_now(lambda: all(map(self._knows_all, self.sentinels)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in (*self.sentinels, self.replica, self.primary):
            server.close()

    @property
    def url(self) -> str:
        """Where clients begin."""
        places = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{places}/{NAME}"

    def fail_over(self) -> None:
        """Tell the sentinels to promote the replica, though the primary is well."""
        said = text(self.sentinels[0], "SENTINEL", "FAILOVER", NAME)
        assert said == "+OK\r\n", said

    async def failed_over(self) -> bool:
        """Whether the replica is the primary now, and every sentinel says so."""
        with suppress(ConnectionError):  # who is promoted drops its connections
            if "role:master" in text(self.replica, "INFO", "replication"):
                return self._agreed()
        return False

    def _agreed(self) -> bool:
        said = [text(one, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME) for one in self.sentinels]
        return all(str(self.replica.port) in address for address in said)

    def _sentinel(self, servers: Servers, name: str) -> Server:
        found = servers.start(name, "--sentinel")
        words = ("MONITOR", NAME, "127.0.0.1", str(self.primary.port), "2")
        settings = {
            "down-after-milliseconds": f"{DOWN_SECONDS * 1000:.0f}",
            "failover-timeout": "3000",
        }
        for command in (words, ("SET", NAME, *chain.from_iterable(settings.items()))):
            said = text(found, "SENTINEL", *command)
            assert said == "+OK\r\n", said
        return found

    def _knows_all(self, sentinel: Server) -> bool:
        said = text(sentinel, "INFO", "sentinel")
        return "status=ok" in said and "slaves=1,sentinels=3" in said
