"""Redis and Valkey."""

from __future__ import annotations

from aiecs.infrastructure.persistence.stores.redis.store import RedisStore

__all__ = ["RedisStore"]
