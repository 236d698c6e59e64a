"""The process-wide engine and Redis client. The names load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    "RedisClient",
    "close_context_engine",
    "close_redis_client",
    "get_context_engine",
    "get_redis_client",
    "initialize_context_engine",
    "initialize_redis_client",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "context_engine_client" if name.endswith("_engine") else "redis_client"
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
