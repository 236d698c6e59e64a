"""Which node of a cluster serves which slots, as one of the nodes tells it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    NoPermissionError,
    RedisError,
)

from aiecs.core.errors import (
    StoreAuthError,
    StoreError,
    StoreMisconfiguredError,
    StoreUnavailableError,
)
from aiecs.infrastructure.persistence.stores.redis.address import Address
from aiecs.infrastructure.persistence.stores.redis.connection import Server
from aiecs.infrastructure.persistence.stores.redis.plain_client import hurried_client
from aiecs.infrastructure.persistence.stores.redis.replies import error_of

_REFUSALS = (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    NoPermissionError,
)


class Part(NamedTuple):
    """Consecutive slots and who serves them."""

    first: int
    last: int
    primary: Address
    replicas: tuple[Address, ...]

    @property
    def slots(self) -> slice:
        """The slots, of a list of all."""
        return slice(self.first, self.last + 1)


class SlotMap(NamedTuple):
    """All slots that are served."""

    parts: tuple[Part, ...]

    def primaries(self) -> list[Address]:
        """Every node that serves slots, once."""
        return list(dict.fromkeys(part.primary for part in self.parts))

    def addresses(self) -> list[Address]:
        """Every node, once; primaries first."""
        replicas = (replica for part in self.parts for replica in part.replicas)
        return list(dict.fromkeys((*self.primaries(), *replicas)))


async def ask_slots(server: Server) -> SlotMap:
    """The map as this node sees it; a `StoreError` if it does not answer or serves nothing."""
    name = server.address.name
    try:
        async with hurried_client(server.address, server.timeout / 2) as client:
            client.response_callbacks.clear()  # what they make of it depends on the protocol
            told = await client.cluster("SLOTS")
    except RedisError as error:
        raise _failure(name, error) from None
    parts = [_part(server.address, *row) for row in told]
    if not parts:
        raise StoreUnavailableError(f"the Redis cluster at {name} serves no slots yet")
    return SlotMap(tuple(sorted(parts, key=lambda part: part.first)))


def _part(asked: Address, first: int, last: int, *nodes: Sequence[Any]) -> Part:
    primary, *replicas = (_address(asked, node) for node in nodes)
    return Part(first, last, primary, tuple(replicas))


def _address(asked: Address, node: Sequence[Any]) -> Address:
    """Where a node is; one that does not know its own name is where we asked."""
    host = bytes(node[0] or b"").decode()
    return replace(asked, host=asked.host if host in ("", "?") else host, port=int(node[1]))


def _failure(name: str, error: RedisError) -> StoreError:
    if isinstance(error, _REFUSALS):  # redis-py takes the code off what the server said
        return StoreAuthError(f"the Redis cluster at {name} refuses the login or CLUSTER SLOTS")
    message = str(error)
    if "cluster support disabled" in message:
        return StoreMisconfiguredError(f"{name} is no Redis Cluster; use a redis:// address")
    found = error_of(message)
    if isinstance(found, StoreError) and type(found) is not StoreUnavailableError:
        return found
    return StoreUnavailableError(f"cannot reach the Redis cluster at {name}")
