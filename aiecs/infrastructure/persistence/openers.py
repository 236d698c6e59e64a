"""The stores of this distribution, opened by URL; `core.registry` names these functions.

Each loads its driver when it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiecs.core.errors import InvalidInputError

if TYPE_CHECKING:
    from aiecs.core.archiving import Archiving
    from aiecs.core.interface.storage_interface import IPermanentStorageBackend
    from aiecs.core.interface.store import Store
    from aiecs.core.settings import Settings
    from aiecs.infrastructure.persistence.redis_client import RedisClient


def open_memory(url: str, settings: Settings) -> Store:
    """`memory://`, or `memory://?max_bytes=1000000`: a new store in this process."""
    name, _, bound = url.partition("://")[2].partition("max_bytes=")
    if name not in {"", "?"} or bool(name) != bound.isdecimal():
        raise InvalidInputError("a store in memory is memory://, or memory://?max_bytes=N")
    from aiecs.infrastructure.persistence.stores.memory import MemoryStore

    return MemoryStore(max_bytes=int(bound) if bound else settings.store_max_bytes)


def open_sqlite(url: str, settings: Settings) -> Store:
    """`sqlite:///relative.db` or `sqlite:////absolute/path.db`."""
    from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore

    defaults = {
        "synchronous": settings.sqlite_synchronous,
        "max_bytes": settings.store_max_bytes,
    }
    for name, value in defaults.items():
        if f"{name}=" not in url:
            url += f"{'&' if '?' in url else '?'}{name}={value}"
    return SqliteStore.from_url(url)


def open_redis(url: str, settings: Settings) -> Store:
    """`redis://`, `rediss://`, `unix://`, `redis+cluster://`, `redis+sentinel://` and the like."""
    from aiecs.infrastructure.persistence.stores.redis import RedisStore

    timeout = settings.operation_timeout
    return RedisStore.from_url(url, prefix=settings.key_prefix, timeout=timeout)


def redis_client_of(store: Store) -> RedisClient | None:
    """A client for the server of a Redis store; None for another store of that name."""
    from aiecs.infrastructure.persistence.redis_client import RedisClient

    target = getattr(store, "target", None)
    return None if target is None else RedisClient(target)


def open_archive(
    archive: str | IPermanentStorageBackend, store: Store, settings: Settings
) -> Archiving:
    """What brings a store's events into `clickhouse://`, `chdb:///`, or a backend of the user's.

    `MissingExtraError` without the packages that it needs; nothing is connected yet.
    """
    from aiecs.infrastructure.persistence.archive.opening import archiving_to

    return archiving_to(archive, store, settings)
