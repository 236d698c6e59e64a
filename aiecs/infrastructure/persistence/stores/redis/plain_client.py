"""redis-py clients for an address: for diagnosis, sentinels and cluster maps, never for data."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLostError

from aiecs.infrastructure.persistence.stores.redis.address import Address
from aiecs.infrastructure.persistence.stores.redis.target import Target

_ANSWER_WITHIN = 5.0


def client_options(address: Address) -> dict[str, Any]:
    """What redis-py calls the parts of an address."""
    options = login_options(address) | {"db": address.db}
    if address.path is not None:
        return options | {"unix_socket_path": address.path}
    return options | {"host": address.host, "port": address.port}


def login_options(address: Address) -> dict[str, Any]:
    """The user and the TLS of an address, not its place."""
    options: dict[str, Any] = {"username": address.username, "password": address.password}
    if address.tls is None:
        return options
    tls = dict(address.tls)
    verify = str(tls.get("ssl_check_hostname", "true")).lower() not in ("false", "0", "no")
    tls["ssl_check_hostname"] = verify and str(tls.get("ssl_cert_reqs", "required")) != "none"
    return options | tls | {"ssl": True}


def hurried(seconds: float) -> dict[str, Any]:
    """Options of a client that answers or fails within about so many seconds."""
    return {
        "socket_connect_timeout": seconds,
        "socket_timeout": seconds,
        "retry": Retry(NoBackoff(), 0),
    }


def hurried_client(address: Address, seconds: float) -> Redis:
    """A client that is asked once and closed."""
    return Redis(**client_options(address), **hurried(seconds))


def client_of(target: Target) -> Redis | RedisCluster:
    """A client of the application's own: of the server, the cluster, or the watched primary.

    It waits 5 s for a connection and for an answer. A command whose connection was lost is sent
    once more, on a cluster not.
    """
    first = target.seeds[0]
    if target.clustered:
        nodes = [ClusterNode(seed.host, seed.port) for seed in target.seeds]
        # A cluster's client would also repeat what timed out, and wait as often.
        options = login_options(first) | hurried(_ANSWER_WITHIN)
        return RedisCluster(startup_nodes=nodes, **options)
    patience = hurried(_ANSWER_WITHIN) | {"retry": Retry(NoBackoff(), 1, (ConnectionLostError,))}
    if target.login is not None:
        options = login_options(target.login) | {"db": target.login.db} | patience
        watched: Redis = sentinels_of(target, _ANSWER_WITHIN).master_for(target.primary, **options)
        return watched
    return Redis(**client_options(first), **patience)


async def close_client(client: Redis | RedisCluster) -> None:
    """Disconnect it, and the clients of sentinels that it has of its own."""
    await client.aclose()
    watchers = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for sentinel in () if watchers is None else watchers.sentinels:
        await sentinel.aclose()


def sentinels_of(target: Target, seconds: float) -> Any:
    """A client of the sentinels that waits so many seconds for each."""
    places = [(seed.host, seed.port) for seed in target.seeds]
    login = login_options(target.seeds[0])
    sentinel: Any = Sentinel  # redis-py gives it no types
    return sentinel(places, sentinel_kwargs=login | hurried(seconds))
