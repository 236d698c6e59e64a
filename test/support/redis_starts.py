"""A first use of a Redis address, and servers of our own that may stand there."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from support.redis_store import batch

from aiecs.core.errors import StoreError
from aiecs.core.interface.store import Put
from aiecs.infrastructure.persistence.stores.redis import RedisStore

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_WITHIN = 4.0  # the default timeout of a call, and some patience with a shared machine


async def start(url: str) -> StoreError:
    """What a first ping, and then a first write, are told, each within the timeout."""
    told = []
    for first in (RedisStore.ping, lambda store: store.apply(batch(Put("_m", {"a": b"1"})))):
        store = RedisStore.from_url(url, prefix="wrong")
        started = time.monotonic()
        with pytest.raises(StoreError) as caught:
            await first(store)
        assert time.monotonic() - started < _WITHIN
        assert caught.value.outcome == "not_applied"
        told.append(caught.value)
        await store.close()
    assert type(told[0]) is type(told[1])
    return told[0]


@contextlib.asynccontextmanager
async def serving(answer: Answer, **options: Any) -> AsyncIterator[int]:
    """A server of our own that does `answer(reader, writer)`; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await answer(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if hasattr(server, "close_clients"):  # Python 3.13
            server.close_clients()
