"""TLS as it should be, and each way to get it wrong."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from support import servers as real
from support.redis_starts import serving, start
from support.redis_store import adding, creating, items, opened

from aiecs.core.errors import StoreMisconfiguredError

TLS = Path(__file__).parents[1] / "support" / "tls"


def certificate():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    return context


@contextlib.contextmanager
def tls_port(servers, name):
    """The TLS port of a server that speaks TLS itself."""
    port = real.free_port()
    files = {"cert": "cert.pem", "key": "key.pem", "ca-cert": "cert.pem"}
    options = [
        word for what, file in files.items() for word in (f"--tls-{what}-file", str(TLS / file))
    ]
    server = servers.start(name, "--tls-port", str(port), "--tls-auth-clients", "no", *options)
    yield port
    server.close()


@pytest.fixture(params=[f"before {name}" for name in real.names()] + real.names()[1:])
async def secure(request, servers):
    """A TLS port: our own in front of each server, and Redis's own where there is one."""
    if not request.param.startswith("before "):
        with tls_port(servers, request.param) as port:
            yield port
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
    with tls_port(servers, request.param) as port:
        yield port
