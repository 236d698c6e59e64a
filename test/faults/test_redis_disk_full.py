"""The disk of the append-only file is full: the server's files may not grow for a while.

A limit on the size of its files (RLIMIT_FSIZE) is what everybody may set on their own process. It
fails writes as a full disk does: in part at first, then whole.
"""

from __future__ import annotations

import asyncio

import pytest
from support import servers as real
from support.redis_store import Ledger, items, opened, recovered
from support.waiting import until

resource = pytest.importorskip("resource", reason="Windows has no such limits")
pytestmark = pytest.mark.skipif(
    not hasattr(resource, "prlimit"), reason="only Linux limits a process that runs"
)

ROOM = 20_000
TIMEOUT = 1.0


@pytest.fixture(params=real.names())
def name(request):
    """Each server present."""
    return request.param


def fill(server):
    """No file of the server may grow by more than `ROOM`."""
    (file,) = server.directory.glob("appendonlydir/*.incr.aof")
    _limit(server, file.stat().st_size + ROOM)


def make_room(server):
    """Files may grow again."""
    _limit(server, resource.RLIM_INFINITY)


def _limit(server, size):
    hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, hard))


async def started_again(server):
    """Whatever was acknowledged has to be in the file by now."""
    server.kill()
    server.mend_torn_tail()
    await asyncio.to_thread(server.start)


async def test_everysec_refuses_until_there_is_room(servers, name, prefix, measured):
    server = servers.start(name, "--appendonly", "yes", "--appendfsync", "everysec")
    async with opened(server.url, prefix, TIMEOUT) as store:
        async with Ledger(store, tasks=16) as ledger:
            await ledger.more(200)
            fill(server)
            await ledger.until(lambda ledger: ledger.errors["StoreFullError"] >= 50)
            bucket, group = ledger.groups[0]
            assert await items(store, group, bucket), "a full disk keeps nobody from reading"
            make_room(server)
            ledger.healed()
            await recovered(store)
            await ledger.more(200)
        assert ledger.errors.keys() == {"StoreFullError"}
        assert not ledger.unknown
        await ledger.check()
        await until(lambda: written(store))
        await started_again(server)
        await recovered(store)
        await ledger.check()
        measured(ledger.figures())
    server.close()


async def test_everysec_killed_while_there_is_no_room(servers, name, prefix, measured):
    """What was acknowledged as room ran out may be lost: Redis's own limit."""
    server = servers.start(name, "--appendonly", "yes", "--appendfsync", "everysec")
    async with opened(server.url, prefix, TIMEOUT) as store:
        async with Ledger(store, tasks=16) as ledger:
            await ledger.more(200)
            fill(server)
            await ledger.until(lambda ledger: ledger.errors["StoreFullError"] >= 50)
            await started_again(server)
            ledger.healed()
            await recovered(store)
            await ledger.more(200)
        lost = await ledger.check(lossy=True)
        measured(f"{ledger.figures()}; {lost} acknowledged and lost")
        assert lost <= 16, "more than was under way in that moment"
    server.close()


async def test_always_ends_rather_than_to_acknowledge(servers, name, prefix, measured):
    server = servers.start(name, aof=True)
    async with opened(server.url, prefix, TIMEOUT) as store:
        async with Ledger(store, tasks=16) as ledger:
            await ledger.more(200)
            fill(server)
            await ledger.until(lambda ledger: len(ledger.failing) >= 50)
            await started_again(server)
            ledger.healed()
            await recovered(store)
            await ledger.more(200)
        assert ledger.errors.keys() <= {"StoreUnavailableError", "StoreTimeoutError"}
        await ledger.check()
        measured(ledger.figures())
    server.close()


async def written(store):
    """Whether all that the server holds has gone into its file."""
    return b"aof_last_write_status:ok" in await store.command("INFO", "persistence")
