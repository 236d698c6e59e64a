"""The stores of this distribution, opened by URL; `core.registry` names these functions.

Each loads its driver when it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiecs.core.interface.store import Store
    from aiecs.infrastructure.persistence.redis_client import RedisClient


def open_memory(url: str, *, timeout: float, prefix: str) -> Store:  # noqa: ARG001 - no such thing
    """`memory://`: a new store in this process."""
    from aiecs.infrastructure.persistence.stores.memory import MemoryStore

    return MemoryStore()


def open_sqlite(url: str, *, timeout: float, prefix: str) -> Store:  # noqa: ARG001 - own file
    """`sqlite:///relative.db` or `sqlite:////absolute/path.db`."""
    from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore

    return SqliteStore.from_url(url)


def open_redis(url: str, *, timeout: float, prefix: str) -> Store:
    """`redis://`, `rediss://`, `unix://` and their valkey spellings."""
    from aiecs.infrastructure.persistence.stores.redis import RedisStore

    return RedisStore.from_url(url, prefix=prefix, timeout=timeout)


def redis_client_of(store: Store) -> RedisClient | None:
    """A client for the server of a Redis store; None for another store of that name."""
    from aiecs.infrastructure.persistence.redis_client import RedisClient

    address = getattr(store, "address", None)
    return None if address is None else RedisClient(address)
