"""The process-wide engine, the Redis and ClickHouse clients, and copies for good.

The names load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiecs.infrastructure.persistence.clickhouse_client import (
        ClickHouseClient,
        close_clickhouse_client,
        get_clickhouse_client,
        initialize_clickhouse_client,
    )
    from aiecs.infrastructure.persistence.clickhouse_permanent_backend import (
        ClickHousePermanentBackend,
    )
    from aiecs.infrastructure.persistence.context_engine_client import (
        close_context_engine,
        get_context_engine,
        initialize_context_engine,
    )
    from aiecs.infrastructure.persistence.redis_client import (
        RedisClient,
        close_redis_client,
        get_redis_client,
        initialize_redis_client,
    )

__all__ = [
    "ClickHouseClient",
    "ClickHousePermanentBackend",
    "RedisClient",
    "close_clickhouse_client",
    "close_context_engine",
    "close_redis_client",
    "get_clickhouse_client",
    "get_context_engine",
    "get_redis_client",
    "initialize_clickhouse_client",
    "initialize_context_engine",
    "initialize_redis_client",
]

_HOMES = {
    "permanent": "clickhouse_permanent_backend",
    "engine": "context_engine_client",
    "redis": "redis_client",
    "clickhouse": "clickhouse_client",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next(module for part, module in _HOMES.items() if part in name.lower())
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
