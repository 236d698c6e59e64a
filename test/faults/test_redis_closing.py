"""A Redis store is closed while calls are under way, in line, elsewhere, or cannot be heard."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest
from support.proxy import Proxy
from support.redis_store import BUCKET, GROUP, adding, batch, creating, items, opened

from aiecs.core.errors import LifecycleError, StoreError, StoreUnavailableError
from aiecs.core.interface.store import Append, Batch, Get, Incr
from aiecs.infrastructure.persistence.stores.redis import RedisStore
from aiecs.infrastructure.persistence.stores.redis.room import MAX_ENTRIES


async def test_closing_while_calls_are_under_way(server, prefix):
    store = RedisStore.from_url(server.url, prefix=prefix, timeout=20.0)
    await store.apply(creating())
    tasks = [asyncio.create_task(store.apply(adding(b"%d" % n))) for n in range(6_000)]
    await asyncio.sleep(0)
    await store.close()

    told = await asyncio.gather(*tasks, return_exceptions=True)
    async with opened(server.url, prefix) as other:
        stored = await items(other)
    written = [b"%d" % n for n, answer in enumerate(told) if not isinstance(answer, Exception)]
    assert stored == written
    assert len(written) >= MAX_ENTRIES, "what was under way is finished"
    errors = {type(answer) for answer in told if isinstance(answer, Exception)}
    assert errors == {LifecycleError}, "who waited in line is told so"


async def test_closing_with_a_silent_server_ends_within_the_timeout(server, prefix):
    async with Proxy(server.port) as proxy:
        store = RedisStore.from_url(proxy.url, prefix=prefix, timeout=0.3)
        await store.apply(creating())
        proxy.blackhole()
        write = asyncio.create_task(store.apply(adding(b"x"), timeout=30.0))
        read = asyncio.create_task(store.apply(batch(Get("m")), timeout=30.0))
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        started = loop.time()
        await store.close()
        assert loop.time() - started < 1.5
        told = await asyncio.gather(write, read, return_exceptions=True)
        assert [error.outcome for error in told] == ["unknown", "not_applied"]
        assert {type(error) for error in told} == {StoreUnavailableError}


async def test_closing_while_connecting_and_while_the_server_is_gone(server, prefix):
    async with Proxy(server.port) as proxy:
        store = RedisStore.from_url(proxy.url, prefix=prefix)
        connecting = asyncio.create_task(store.ping())
        await asyncio.sleep(0)
        await store.close()
        with pytest.raises((LifecycleError, StoreError)):
            await connecting

        store = RedisStore.from_url(proxy.url, prefix=prefix)
        await store.ping()
        await proxy.refuse()
        with pytest.raises(StoreError):
            await store.apply(adding(b"x"))
        await store.close()
        await store.close()


async def test_after_close_every_call_is_a_lifecycle_error(server, prefix):
    store = RedisStore.from_url(server.url, prefix=prefix)
    await store.apply(creating())
    await store.close()
    calls = (
        lambda: store.apply(adding(b"x")),
        lambda: store.apply(batch(Incr("", {"n": 1}))),
        lambda: store.apply(batch(Get(""))),
        store.ping,
        lambda: store.command("PING"),
    )
    for call in calls:
        with pytest.raises(LifecycleError):
            await call()
    await store.close()


async def test_closed_from_another_loop(server, prefix):
    """Its own calls there end with an answer or a typed error; nothing hangs."""
    store = RedisStore.from_url(server.url, prefix=prefix, timeout=20.0)
    await store.apply(creating())
    ready, told = threading.Event(), []

    async def work():
        async def write(number):
            if number == 100:
                ready.set()
            await store.apply(Batch(BUCKET, GROUP, (Append("m", (b"%d" % number,)),)))

        for number in range(100_000):
            await write(number)

    def run():
        try:
            asyncio.run(work())
        except Exception as error:  # noqa: BLE001 - told to the test
            told.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert await asyncio.to_thread(ready.wait, 20)
    await store.close()
    await asyncio.to_thread(thread.join, 20)
    assert isinstance(told[0], LifecycleError | StoreUnavailableError)
    assert os.getpid() == store._pid
