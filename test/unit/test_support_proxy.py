"""The fault proxy does what its plan says, to the reply and the byte."""

from __future__ import annotations

import asyncio
from typing import Self

import pytest
from support.proxy import Frames, Proxy

PING = b"*1\r\n$4\r\nPING\r\n"
PONG = b"+PONG\r\n"


def command(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(
        b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words
    )


class Client:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.proxy.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def ask(self, request: bytes, size: int) -> bytes:
        self.writer.write(request)
        return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """What still comes before the connection ends."""
        found = b""
        try:
            while data := await self.reader.read(65_536):
                found += data
        except ConnectionError:
            pass
        return found


@pytest.fixture
async def proxy(servers):
    async with Proxy(servers.shared("valkey").port) as proxy:
        yield proxy


async def test_it_passes_everything_on_and_counts(proxy):
    async with Client(proxy) as client:
        assert await client.ask(PING * 3, 21) == PONG * 3

    assert (proxy.accepted, proxy.requested, proxy.replied) == (1, 3 * len(PING), 3)


async def test_the_server_executes_what_the_client_never_hears_of(proxy, servers, prefix):
    key = prefix + "n"
    proxy.drop_reply(2)
    async with Client(proxy) as client:
        client.writer.write(command("INCR", key) * 3)
        heard = await client.rest()

    assert proxy.tripped.is_set()
    assert heard == b":1\r\n"
    assert servers.shared("valkey").command("GET", key) == b"$1\r\n3\r\n"


async def test_a_dropped_reply_may_leave_a_silent_connection(proxy):
    proxy.drop_reply(1, then="silence")
    async with Client(proxy) as client:
        client.writer.write(PING)
        await proxy.tripped.wait()
        client.writer.write(PING)
        proxy.heal()

        assert await client.reader.readexactly(7) == PONG
        assert proxy.replied == 1


async def test_a_large_reply_that_comes_in_pieces_is_lost_as_a_whole(proxy, prefix):
    value = "x" * 300_000
    async with Client(proxy) as client:
        await client.ask(command("SET", prefix + "k", value), 5)
        proxy.drop_reply(2)
        client.writer.write(PING + command("GET", prefix + "k"))

        assert await client.rest() == PONG


async def test_it_cuts_a_reply_in_the_middle(proxy):
    proxy.cut_after(3)
    async with Client(proxy) as client:
        client.writer.write(PING)

        assert await client.rest() == PONG[:3]
    assert proxy.tripped.is_set()


async def test_it_cuts_a_request_in_the_middle(proxy, servers, prefix):
    whole = command("SET", prefix + "k", "v")
    proxy.cut_after(len(whole) + 5, "requests")
    async with Client(proxy) as client:
        client.writer.write(whole)
        # Answered first: a connection's end takes with it what the server has not read yet.
        assert await client.reader.readexactly(5) == b"+OK\r\n"
        client.writer.write(command("SET", prefix + "k", "w"))
        await client.rest()

    assert proxy.requested == len(whole) + 5
    assert servers.shared("valkey").command("GET", prefix + "k") == b"$1\r\nv\r\n"


async def test_a_blackhole_holds_everything_until_it_heals(proxy):
    async with Client(proxy) as client:
        await client.ask(PING, 7)
        proxy.blackhole()
        client.writer.write(PING)
        with pytest.raises(TimeoutError):
            await proxy.until(lambda p: p.requested > len(PING), seconds=0.05)
        proxy.heal()

        assert await client.reader.readexactly(7) == PONG


async def test_refusing_resets_old_connections_and_takes_no_new_ones(proxy):
    async with Client(proxy) as client:
        await client.ask(PING, 7)
        proxy.blackhole()
        await proxy.refuse()
        assert await client.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", proxy.port)

    proxy.heal()
    await proxy.accept()
    async with Client(proxy) as client:
        assert await client.ask(PING, 7) == PONG


async def test_severing_takes_new_connections(proxy):
    async with Client(proxy) as client:
        await client.ask(PING, 7)
        proxy.sever()
        assert await client.rest() == b""
    async with Client(proxy) as client:
        assert await client.ask(PING, 7) == PONG

    await proxy.until(lambda p: p.accepted == 2)


async def test_latency_holds_in_both_directions(proxy):
    proxy.delay(0.02)
    loop = asyncio.get_running_loop()
    async with Client(proxy) as client:
        began = loop.time()
        await client.ask(PING, 7)

    assert loop.time() - began >= 0.04


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_replies_end_where_the_protocol_says(size):
    replies = [
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":5\r\n",
        b"$3\r\na\r\n\r\n",
        b"$-1\r\n",
        b"$0\r\n\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"*2\r\n*1\r\n:1\r\n$1\r\nx\r\n",
        b"%1\r\n+a\r\n*2\r\n:1\r\n:2\r\n",
        b"~1\r\n_\r\n",
        b"|1\r\n+ttl\r\n:9\r\n$1\r\nv\r\n",
        b"=7\r\ntxt:a\r\n\r\n",
        b",1.5\r\n",
    ]
    push = b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n"
    stream = push.join([b"", *replies])
    expected = []
    for reply in replies:
        expected.append((expected[-1] if expected else 0) + len(push) + len(reply))
    frames = Frames()

    found = [
        at + end
        for at in range(0, len(stream), size)
        for end in frames.ends(stream[at : at + size])
    ]

    assert found == expected
