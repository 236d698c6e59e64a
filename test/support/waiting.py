"""Waiting for what nobody tells: a store's clock has run on, another process has written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiecs import ContextEngine
from aiecs.core.interface.store import Batch, Get
from aiecs.core.keys import session_place

_POLL_SECONDS = 0.005


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
    """Return when the condition holds."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(_POLL_SECONDS)


async def expired(engine: ContextEngine, session_id: str) -> None:
    """Return when the store no longer shows the session."""
    await until(lambda: _gone(engine, session_id, raw=False))


async def swept(engine: ContextEngine, session_id: str) -> None:
    """Return when the store no longer holds the session, whether it would show it or not."""
    await until(lambda: _gone(engine, session_id, raw=True))


async def _gone(engine: ContextEngine, session_id: str, *, raw: bool) -> bool:
    batch = Batch(*session_place(session_id), (Get("", ("~i",)),), raw=raw)
    (found,) = await engine._on.runtime.read(batch)
    return found == [None]
