"""The redis-py clients that applications are given: hung servers, loops that end."""

from __future__ import annotations

import asyncio
import gc
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from support.waiting import until

from aiecs.infrastructure.persistence.redis_client import RedisClient
from aiecs.infrastructure.persistence.stores.redis import plain_client
from aiecs.infrastructure.persistence.stores.redis.plain_client import client_of
from aiecs.infrastructure.persistence.stores.redis.target import target_of


async def test_a_hung_server_is_waited_for_once(own_server, monkeypatch):
    monkeypatch.setattr(plain_client, "_ANSWER_WITHIN", 0.5)
    used, fresh = RedisClient.from_url(own_server.url), RedisClient.from_url(own_server.url)
    assert await used.here().ping()
    own_server.pause()
    start = time.monotonic()

    for client in (used.here(), fresh.here()):
        with pytest.raises(redis.TimeoutError):
            async with asyncio.timeout(10):
                await client.ping()

    assert time.monotonic() - start < 4
    own_server.resume()
    assert await used.here().ping()
    await used.close()
    await fresh.close()


async def test_a_restarted_server_costs_no_error(own_server):
    client = RedisClient.from_url(own_server.url)
    assert await client.here().ping()

    own_server.restart()

    assert await client.here().ping()
    await client.close()


@pytest.mark.parametrize(
    "url", ["redis://h:1/0", "redis+cluster://h:1", "redis+sentinel://h:1/main/0"]
)
async def test_clients_of_every_kind_have_a_limit(url):
    client = client_of(target_of(url))

    options = client.get_connection_kwargs()
    assert options["socket_timeout"] == options["socket_connect_timeout"] == 5.0
    retry = client.retry if "cluster" in url else options["retry"]
    assert retry.get_retries() == (0 if "cluster" in url else 1)
    assert "cluster" in url or redis.TimeoutError not in retry._supported_errors
    await client.aclose()


async def clients_of(server):
    return server.command("CLIENT", "LIST").count(b" name=plain ")


async def use(client):
    plain = client.here()
    await plain.client_setname("plain")
    assert await plain.ping()


@pytest.mark.filterwarnings("error")
def test_a_loop_that_ends_leaves_no_connection(own_server):
    client = RedisClient.from_url(own_server.url)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with ThreadPoolExecutor(5) as threads:
            list(threads.map(lambda _: asyncio.run(use(client)), range(5)))

        async def none_left():
            return await clients_of(own_server) == 0

        async def close():
            await until(none_left)
            await use(client)
            assert len(client._held) == 1, "clients of ended loops are forgotten"
            await client.close()
            await until(none_left)

        asyncio.run(close())
        gc.collect()
    assert [str(one.message) for one in told] == []
