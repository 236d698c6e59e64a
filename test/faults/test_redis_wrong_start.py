"""A wrong start: each is a typed error within a second, and none is taken for another."""

from __future__ import annotations

import asyncio

import pytest
from support import servers as real
from support.redis_starts import serving, start
from support.redis_store import adding, creating, items, opened

from aiecs.core.errors import (
    InvalidInputError,
    StoreAuthError,
    StoreError,
    StoreMisconfiguredError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from aiecs.infrastructure.persistence.stores.redis import RedisStore

# --- nobody there, or somebody else -------------------------------------------------------------


async def test_a_refused_port():
    error = await start(f"redis://127.0.0.1:{real.free_port()}/0")
    assert type(error) is StoreUnavailableError
    assert error.retryable


async def test_a_name_that_leads_nowhere():
    error = await start("redis://no-such-host.invalid:6379/0")
    assert type(error) in (StoreUnavailableError, StoreTimeoutError)


async def test_a_socket_that_is_not_there(tmp_path):
    error = await start(f"unix://{tmp_path}/redis.sock")
    assert type(error) is StoreUnavailableError


async def http(reader, writer):
    await reader.read(1000)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()


async def test_an_http_server():
    async with serving(http) as port:
        error = await start(f"redis://127.0.0.1:{port}/0")
    assert type(error) is StoreMisconfiguredError
    assert not error.retryable


async def test_a_silent_server():
    done = asyncio.Event()

    async def silent(reader, writer):
        await done.wait()

    async with serving(silent) as port:
        for scheme in ("redis", "rediss"):
            error = await start(f"{scheme}://127.0.0.1:{port}/0")
            assert type(error) is StoreTimeoutError
        done.set()
        await asyncio.sleep(0)


async def test_a_server_that_closes_at_once():
    """As a proxy does whose server is not up yet: worth another try."""

    async def close(reader, writer):
        pass

    async with serving(close) as port:
        error = await start(f"redis://127.0.0.1:{port}/0")
    assert type(error) is StoreUnavailableError
    assert error.retryable


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"-ERR max number of clients reached\r\n", StoreUnavailableError),
        (b"-DENIED Redis is running in protected mode because ...\r\n", StoreAuthError),
        (b"-LOADING Redis is loading the dataset in memory\r\n" * 4, StoreUnavailableError),
        (b"-MASTERDOWN Link with MASTER is down\r\n" * 4, StoreUnavailableError),
        (b"+OK\r\n$\r\n", StoreMisconfiguredError),
    ],
)
async def test_a_server_that_refuses_the_conversation(said, kind):
    async def refuse(reader, writer):
        await reader.read(1000)
        writer.write(said)
        await writer.drain()

    async with serving(refuse) as port:
        assert type(await start(f"redis://127.0.0.1:{port}/0")) is kind


async def test_a_server_with_no_place_for_another_client(servers):
    server = servers.start("valkey", "--maxclients", "1")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"PING\r\n")
    assert await reader.readline() == b"+PONG\r\n"
    assert type(await start(server.url)) is StoreUnavailableError
    writer.transport.abort()
    await writer.wait_closed()
    server.close()


async def test_a_cluster_given_as_a_single_server(servers):
    for name in real.names():
        server = servers.start(name, "--cluster-enabled", "yes")
        error = await start(server.url)
        assert type(error) is StoreMisconfiguredError
        assert "redis+cluster://" in str(error)
        server.close()


@pytest.mark.parametrize("database", ["/999", "?db=-1"])
async def test_a_database_that_is_not_there(server, database):
    error = await start(f"redis://127.0.0.1:{server.port}{database}")
    assert type(error) is StoreMisconfiguredError
    assert "database" in str(error)


async def test_a_database_that_is_there_is_used(server, prefix):
    url = f"redis://127.0.0.1:{server.port}/3"
    async with opened(url, prefix) as third, opened(server.url, prefix) as first:
        await third.apply(creating())
        await third.apply(adding(b"here"))
        assert await items(third) == [b"here"]
        assert await items(first) == []


# --- addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "user:hunter2@localhost:6379",
        "http://:hunter2@localhost",
        "redis://:hunter2/x@localhost",
        "redis://:hunter2@localhost:port",
        "redis://:hunter2@localhost:99999",
        "redis://:hunter2@localhost/db",
        "redis://:hunter2@localhost?db=one",
        "redis://:hunter2@localhost?unknown=1",
    ],
)
def test_an_address_that_is_none_is_refused_without_its_password(url):
    with pytest.raises(InvalidInputError) as caught:
        RedisStore.from_url(url)
    assert "hunter" not in str(caught.value)


async def test_passwords_stay_out_of_representations():
    url = "rediss://user:hunter2@127.0.0.1:1/0?ssl_password=hunter2"
    store = RedisStore.from_url(url)
    assert "hunter" not in repr(store.target)
    with pytest.raises(StoreError) as caught:
        await store.ping()
    assert "hunter" not in repr(caught.value)
    await store.close()
