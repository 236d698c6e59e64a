"""A wrong start: each is a typed error within a second, and none is taken for another."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import servers as real
from support.redis_store import adding, batch, creating, items, opened

from aiecs.core.errors import (
    InvalidInputError,
    StoreAuthError,
    StoreError,
    StoreMisconfiguredError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from aiecs.core.interface.store import Get, Put
from aiecs.infrastructure.persistence.stores.redis import RedisStore

TLS = Path(__file__).parents[1] / "support" / "tls"
WITHIN = 4.0  # the default timeout of a call, and some patience with a shared machine


async def start(url):
    """What a first ping, and then a first write, are told, each within the timeout."""
    told = []
    for first in (RedisStore.ping, lambda store: store.apply(batch(Put("_m", {"a": b"1"})))):
        store = RedisStore.from_url(url, prefix="wrong")
        started = time.monotonic()
        with pytest.raises(StoreError) as caught:
            await first(store)
        assert time.monotonic() - started < WITHIN
        assert caught.value.outcome == "not_applied"
        told.append(caught.value)
        await store.close()
    assert type(told[0]) is type(told[1])
    return told[0]


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


@contextlib.asynccontextmanager
async def serving(answer, **options):
    """A server of our own that does `answer(reader, writer)`."""

    async def serve(reader, writer):
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


# --- credentials and permissions ----------------------------------------------------------------


NEEDED = (
    "+time +multi +exec +eval +evalsha +exists +hget +hmget +hset +hdel +hlen +hgetall +hrandfield"
    " +rpush +llen +lrange +del +ltrim +lset +unlink +zadd +zrem +zscore +zcard +zcount +zrange"
    " +pexpireat +persist"
)


@pytest.fixture(scope="module", params=real.names())
def guarded(request, pytestconfig):
    """A server with a password, and users of different rights."""
    with real.running() as servers:
        server = servers.start(request.param)
        users = {
            "reader": "+@read +@connection +eval +evalsha +time ~*",
            "elsewhere": "+@all ~other:*",
            "nothing": "",
            "no-unlink": "+@all -unlink ~*",
            "no-eval": "+@all -eval -evalsha ~*",
            "lean": f"+@connection +script|load {NEEDED} ~lean:*",
            "minimal": f"+ping +select +auth {NEEDED} ~minimal:*",
        }
        for user, rights in users.items():
            made = server.command("ACL", "SETUSER", user, "on", ">secret", "-@all", *rights.split())
            assert made == b"+OK\r\n"
        assert server.command("CONFIG", "SET", "requirepass", "right") == b"+OK\r\n"
        yield server


@pytest.mark.parametrize(
    "login",
    [
        ":wrong@",
        "",
        "nobody:secret@",
        "reader:secret@",
        "elsewhere:secret@",
        "nothing:secret@",
        "no-unlink:secret@",
        "no-eval:secret@",
    ],
)
async def test_wrong_credentials_and_missing_rights(guarded, login):
    error = await start(f"redis://{login}127.0.0.1:{guarded.port}/0")
    assert type(error) is StoreAuthError
    assert not error.retryable
    assert "secret" not in str(error)
    assert "wrong" not in str(error)


async def test_what_a_user_lacks_is_named(guarded):
    error = await start(f"redis://no-unlink:secret@127.0.0.1:{guarded.port}/0")
    assert "unlink" in str(error)


async def test_a_password_where_none_is_wanted(server):
    assert type(await start(f"redis://:secret@127.0.0.1:{server.port}/0")) is StoreAuthError


@pytest.mark.parametrize("user", ["lean", "minimal"])
async def test_a_user_with_no_more_than_is_needed(guarded, user):
    """No administration, no KEYS, no INFO; the second not even CLIENT or SCRIPT."""
    url = f"redis://{user}:secret@127.0.0.1:{guarded.port}/0"
    async with opened(url, f"{user}:") as store:
        await store.apply(creating())
        await store.apply(adding(b"x"))
        assert await items(store) == [b"x"]
        assert await store.apply(batch(Get("", ("l",)), Get("m"))) != [[None], {}]


async def test_rights_taken_away_in_use(guarded, prefix):
    guarded_user = ("ACL", "SETUSER", "brief", "on", ">secret", "+@all", "~*")
    await admin(guarded, *guarded_user)
    async with opened(f"redis://brief:secret@127.0.0.1:{guarded.port}/0", prefix) as store:
        await store.apply(creating())
        await admin(guarded, "ACL", "SETUSER", "brief", "-evalsha", "-eval", "-hmget", "-multi")
        for call in (adding(b"x"), batch(Get("", ("l",)))):
            with pytest.raises(StoreAuthError) as caught:
                await store.apply(call)
            assert caught.value.outcome == "not_applied"
        await admin(guarded, "ACL", "SETUSER", "brief", "+@all")
        await store.apply(adding(b"y"))
        assert await items(store) == [b"y"]


async def admin(server, *words):
    store = RedisStore.from_url(f"redis://:right@127.0.0.1:{server.port}/0")
    await store.command(*words)
    await store.close()


# --- TLS ----------------------------------------------------------------------------------------


def certificate():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    return context


@pytest.fixture(params=[f"before {name}" for name in real.names()] + real.names()[1:])
async def secure(request, servers):
    """A TLS port: our own in front of each server, and Redis's own where there is one."""
    if not request.param.startswith("before "):
        port = real.free_port()
        files = ("cert", TLS / "cert.pem"), ("key", TLS / "key.pem"), ("ca-cert", TLS / "cert.pem")
        options = [word for what, file in files for word in (f"--tls-{what}-file", str(file))]
        server = servers.start(
            request.param, "--tls-port", str(port), "--tls-auth-clients", "no", *options
        )
        yield port
        server.close()
        return
    behind = servers.shared(request.param.removeprefix("before "))

    async def relay(reader, writer):
        upstream, to_server = await asyncio.open_connection("127.0.0.1", behind.port)
        try:
            await asyncio.gather(pump(reader, to_server), pump(upstream, writer))
        finally:
            to_server.transport.abort()

    async with serving(relay, ssl=certificate()) as port:
        yield port


async def pump(reader, writer):
    while data := await reader.read(65_536):
        writer.write(data)
    writer.transport.abort()


async def test_tls_as_it_should_be(secure, prefix):
    trusted = f"rediss://localhost:{secure}/0?ssl_ca_certs={TLS / 'cert.pem'}"
    for url in (trusted, f"rediss://127.0.0.1:{secure}/0?ssl_cert_reqs=none"):
        async with opened(url, prefix + url[:20]) as store:
            await store.apply(creating())
            await store.apply(adding(b"x" * 200_000))
            assert await items(store) == [b"x" * 200_000]


async def test_an_untrusted_certificate(secure):
    error = await start(f"rediss://localhost:{secure}/0")
    assert type(error) is StoreMisconfiguredError
    assert "not trusted" in str(error)


async def test_plain_against_tls(secure):
    error = await start(f"redis://127.0.0.1:{secure}/0")
    assert type(error) is StoreMisconfiguredError
    assert "rediss://" in str(error) or "protocol" in str(error)


async def test_tls_against_plain(server):
    error = await start(f"rediss://127.0.0.1:{server.port}/0")
    assert type(error) is StoreMisconfiguredError
    assert "redis://" in str(error)


@pytest.mark.parametrize("option", ["ssl_ca_certs=/no/such/file", "ssl_certfile=/no/such/file"])
async def test_tls_files_that_are_not_there(server, option):
    error = await start(f"rediss://127.0.0.1:{server.port}/0?{option}")
    assert type(error) is StoreMisconfiguredError
    assert "No such file" in str(error)


def test_a_loop_that_ends_without_close_leaves_no_warning_over_tls(secure_port, prefix):
    url = f"rediss://localhost:{secure_port}/0?ssl_ca_certs={TLS / 'cert.pem'}"
    script = (
        "import asyncio, gc\n"
        "from aiecs.infrastructure.persistence.stores.redis import RedisStore\n"
        f"asyncio.run(RedisStore.from_url({url!r}).ping())\n"
        "gc.collect()\n"
    )
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.fixture(params=real.names()[1:])
def secure_port(request, servers):
    port = real.free_port()
    files = ("--tls-cert-file", str(TLS / "cert.pem"), "--tls-key-file", str(TLS / "key.pem"))
    more = ("--tls-ca-cert-file", str(TLS / "cert.pem"), "--tls-auth-clients", "no")
    server = servers.start(request.param, "--tls-port", str(port), *files, *more)
    yield port
    server.close()


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
    assert "hunter" not in repr(store.address)
    with pytest.raises(StoreError) as caught:
        await store.ping()
    assert "hunter" not in repr(caught.value)
    await store.close()
