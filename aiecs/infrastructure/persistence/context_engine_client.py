"""The process-wide engine: opened at start-up, found by any component, closed at the end."""

from __future__ import annotations

from typing import Any

from aiecs.core.opening import Opening
from aiecs.domain.context.context_engine import ContextEngine
from aiecs.infrastructure.persistence.redis_client import close_redis_client

_process: Opening[ContextEngine] = Opening()


async def initialize_context_engine(**options: Any) -> ContextEngine:
    """The process's engine, opened by the first call with these options of `ContextEngine`.

    Later calls return the same engine, whatever their options. Raises what
    `ContextEngine.initialize` raises; then there is no engine, and the next call tries again.
    """

    async def open_engine() -> ContextEngine:
        engine = ContextEngine(**options)
        await engine.initialize()
        return engine

    return await _process.get(open_engine)


def get_context_engine() -> ContextEngine | None:
    """The process's engine; None before `initialize_context_engine` and after the close."""
    return _process.value


async def close_context_engine() -> None:
    """Close the process's engine, and the Redis client that components shared. Idempotent."""
    engine = _process.take()
    if engine is not None:
        await engine.close()
    await close_redis_client()
