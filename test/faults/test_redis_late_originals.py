"""Requests cut at every byte, and first tries that arrive after the second one was answered."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from support.proxy import Frames, Proxy
from support.redis_keys import state
from support.redis_store import (
    BUCKET,
    DAY,
    GROUP,
    adding,
    batch,
    counting,
    creating,
    every,
    fields,
    items,
    opened,
)
from support.servers import free_port

from aiecs.core.interface.store import (
    Append,
    Batch,
    Delete,
    Expire,
    Get,
    GroupMissing,
    GuardFailed,
    Incr,
    Put,
    RequireEquals,
)

# --- cut at every byte --------------------------------------------------------------------------


def pipeline(number):
    """Three short writes to one session."""
    return [
        adding(b"%d a" % number),
        batch(Incr("", {"n": 1})),
        adding(b"%d b" % number),
    ]


async def sizes(proxy, store):
    """How many bytes the pipeline takes in each direction, once everything is known."""
    for number in (-2, -1):
        requested, replied = proxy.requested, proxy.bytes_replied
        await asyncio.gather(*map(store.apply, pipeline(number)))
    return proxy.requested - requested, proxy.bytes_replied - replied


class Counting(Proxy):
    """Counts the bytes of replies too."""

    bytes_replied = 0

    def _drop_here(self, link, data, *, alive):
        data, alive = super()._drop_here(link, data, alive=alive)
        self.bytes_replied += len(data)
        return data, alive


@pytest.mark.parametrize("direction", ["requests", "replies"])
async def test_a_pipeline_cut_at_every_byte(server, prefix, direction):
    async with Counting(server.port) as proxy, opened(proxy.url, prefix) as store:
        await store.apply(creating())
        size = (await sizes(proxy, store))[direction == "replies"]
        for cut in range(size):
            proxy.cut_after(cut, direction)
            told = await every(3, lambda n, cut=cut: store.apply(pipeline(cut)[n]))
            assert proxy.tripped.is_set()
            assert not any(isinstance(answer, Exception) for answer in told), told

        numbers = [-2, -1, *range(size)]
        stored = await items(store)
        assert stored == [b"%d %s" % (n, half) for n in numbers for half in (b"a", b"b")]
        assert (await fields(store))["n"] == b"%d" % len(numbers)


# --- late originals -----------------------------------------------------------------------------


class Delaying:
    """Keeps what one connection sends from the server, loses that connection, and sends it later.

    So does a network that holds a segment back while the client is already on a new connection.
    """

    def __init__(self, upstream):
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.held = asyncio.Event()
        self._upstream = upstream
        self._late = None
        self._armed = False
        self._tasks = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._late is not None:
            self._late[1].transport.abort()

    def hold(self):
        """The next request is held back and its connection lost."""
        self.held.clear()
        self._armed = True

    async def release(self, replies):
        """Let it arrive; return when the server has answered so many commands."""
        data, writer, reader = self._late
        writer.write(data)
        frames, answered = Frames(), 0
        while answered < replies:
            answered += len(frames.ends(await reader.read(65_536)))
        writer.transport.abort()
        self._late = None

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        upstream, to_server = await asyncio.open_connection("127.0.0.1", self._upstream)
        back = asyncio.create_task(self._pump(upstream, writer))
        self._tasks.add(back)
        back.add_done_callback(self._tasks.discard)
        keep = False
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(65_536):
                    if self._armed:
                        self._armed, keep = False, True
                        back.cancel()
                        await asyncio.gather(back, return_exceptions=True)
                        self._late = (data, to_server, upstream)
                        self.held.set()
                        return
                    to_server.write(data)
        finally:
            writer.transport.abort()
            if not keep:
                to_server.transport.abort()

    @staticmethod
    async def _pump(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)


WRITES = {
    "create": creating(group="s:new"),
    "add": adding(b"x"),
    "update": batch(counting(), Put("", {"a": b"1"}), Expire(DAY)),
    "idempotent": batch(
        RequireEquals("", "kn", None), Put("k0", {"k": b"d"}, "abort"), Append("m", (b"x",)),
        Incr("", {"kn": 1}),
    ),
    "delete": batch(Delete("m", kind="log"), Delete(""), counting("_gone")),
    "refused": batch(RequireEquals("", "never", b"x"), counting()),
    "missing": adding(b"x", group="s:missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITES)
async def test_a_first_try_that_arrives_late_changes_nothing(server, prefix, name):
    async with Delaying(server.port) as network, opened(network.url, prefix) as store:
        await store.apply(creating())
        network.hold()
        try:
            answer = await store.apply(WRITES[name])
        except GuardFailed as refusal:
            answer = refusal
        assert network.held.is_set()
        expected = {"refused": GuardFailed, "missing": GroupMissing}.get(name, list)
        assert type(answer) is expected

        before = await everything(server, prefix)
        await network.release(1)
        assert await everything(server, prefix) == before


@pytest.mark.parametrize("name", ["refused", "missing"])
async def test_a_refused_first_try_stays_refused_when_it_could_succeed(server, prefix, name):
    async with Delaying(server.port) as network, opened(network.url, prefix) as store:
        await store.apply(creating())
        network.hold()
        with pytest.raises(GuardFailed):
            await store.apply(WRITES[name])
        await store.apply(batch(Put("", {"never": b"x"})))
        await store.apply(creating("s:missing"))

        before = await everything(server, prefix)
        await network.release(1)
        assert await everything(server, prefix) == before


async def test_late_pipelines_of_many_writers(server, prefix):
    async with Delaying(server.port) as network, opened(network.url, prefix) as store:
        await store.apply(creating())
        for number in range(20):
            network.hold()

            async def write(task, number=number):
                step = batch(Append("m", (b"%d.%d" % (number, task),)), counting())
                return await store.apply(step)

            told = await every(20, write)
            assert not any(isinstance(answer, Exception) for answer in told)
            await network.release(20)

        stored = await items(store)
        assert stored == [b"%d.%d" % (number, task) for number in range(20) for task in range(20)]
        assert (await fields(store))["q"] == b"400"


async def test_a_cancelled_first_try_that_arrives_late_disturbs_no_later_one(server, prefix):
    """Its caller is gone, so it is not sent again; when it comes late, it comes alone and once."""
    async with Delaying(server.port) as network, opened(network.url, prefix) as store:
        await store.apply(creating())
        network.hold()
        cancelled = asyncio.create_task(store.apply(adding(b"given up")))
        kept = asyncio.create_task(store.apply(adding(b"kept")))
        await asyncio.sleep(0)
        cancelled.cancel()
        await kept
        await store.apply(adding(b"later"))
        await network.release(2)

        assert await items(store) == [b"kept", b"later"]


async def everything(server, prefix):
    """All that the server holds under the prefix, but for receipts."""
    async with opened(server.url, prefix) as store:
        return await state(store, prefix)


async def test_the_helpers_see_a_duplicate(server, prefix):
    """The checks above would notice: a write under another receipt does change everything."""
    async with opened(server.url, prefix) as store:
        await store.apply(creating())
        before = await everything(server, prefix)
        await store.apply(Batch(BUCKET, GROUP, (counting(),)))
        assert await everything(server, prefix) != before
        assert await store.apply(batch(Get("", ("q",)))) == [[b"1"]]
