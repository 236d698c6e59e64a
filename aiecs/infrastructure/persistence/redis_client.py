"""Plain `redis.asyncio` clients on the configured server: one per event loop.

The engine's own store does not need them; they are for diagnosis and for applications that keep
other data on the same server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from threading import Lock
from typing import NamedTuple

from redis.asyncio import Redis, RedisCluster

from aiecs.core.errors import LifecycleError
from aiecs.core.opening import Opening
from aiecs.core.settings import load_settings
from aiecs.infrastructure.persistence.stores.redis.plain_client import client_of, close_client
from aiecs.infrastructure.persistence.stores.redis.target import Target, target_of

Client = Redis | RedisCluster

_process: Opening[RedisClient] = Opening()


class _Held(NamedTuple):
    """A client and what closes it; the event loop closes that too when it ends in good order."""

    client: Client
    closer: AsyncGenerator[None]


class RedisClient:
    """Gives each event loop its own `redis.asyncio.Redis`; each connects when it is first used.

    For a cluster it is a `redis.asyncio.RedisCluster`. Each is closed with its loop.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._held: dict[asyncio.AbstractEventLoop, _Held] = {}
        self._lock = Lock()
        self._closed = False

    @classmethod
    def from_url(cls, url: str) -> RedisClient:
        """A client for a URL as the store takes it; nothing is connected yet."""
        return cls(target_of(url))

    def __repr__(self) -> str:
        return f"RedisClient({self._target.name})"

    async def get_client(self) -> Client:
        """The running loop's client. `LifecycleError` after `close()`."""
        return self.here()

    def here(self) -> Client:
        """As `get_client`, to be called on a running loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._closed:
                raise LifecycleError("the Redis client is closed")
            held = self._held.get(loop)
            if held is None:
                for ended in [other for other in self._held if other.is_closed()]:
                    del self._held[ended]
                held = self._held[loop] = _held(client_of(self._target))
        return held.client

    async def close(self) -> None:
        """Disconnect on every loop; idempotent."""
        here = asyncio.get_running_loop()
        with self._lock:
            self._closed = True
            everywhere, self._held = self._held, {}
        for loop, held in everywhere.items():
            if loop is here:
                await held.closer.aclose()
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(held.closer.aclose(), loop)


def _held(client: Client) -> _Held:
    closer = _closer(client)
    with suppress(StopIteration):  # begun, without waiting: now the loop knows of it
        closer.__anext__().send(None)
    return _Held(client, closer)


async def _closer(client: Client) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await close_client(client)


async def initialize_redis_client() -> RedisClient:
    """Make the process's client for the REDIS_* settings; it connects when it is first used.

    Idempotent. `InvalidInputError` for settings that name no server.
    """
    return await _process.get(_open)


async def get_redis_client() -> RedisClient:
    """The process's client, made if there is none yet."""
    return await _process.get(_open)


async def close_redis_client() -> None:
    """Close the process's client; the next `get_redis_client` makes a new one. Idempotent."""
    client = _process.take()
    if client is not None:
        await client.close()


async def _open() -> RedisClient:
    return RedisClient.from_url(load_settings().redis_url)
