"""What the scripts of the Redis store touch: declared keys of one slot, by permitted commands."""

from __future__ import annotations

import asyncio
import random
import re
from binascii import crc_hqx

import pytest
from support import servers as real
from support.redis_store import opened, recovered
from support.redis_work import exercise, life

from aiecs.core.interface.store import BUCKETS
from aiecs.infrastructure.persistence.stores.redis import scripts
from aiecs.infrastructure.persistence.stores.redis.layout import Layout, tags


class Monitor:
    """All commands that a server runs, scripts' own included, as their words."""

    def __init__(self, server):
        self._server = server

    async def __aenter__(self):
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._server.port, limit=2**26
        )
        self._writer.write(b"MONITOR\r\n")
        assert await self._reader.readline() == b"+OK\r\n"
        return self

    async def __aexit__(self, *_):
        self._writer.transport.abort()

    async def commands(self):
        """Whether it was a script's, and the words, of each so far."""
        end = f"end-{random.random()}"
        self._server.command("ECHO", end)
        found = []
        while end.encode() not in (line := await self._reader.readline()):
            words = re.findall(rb'"((?:[^"\\]|\\.)*)"', line)
            found.append((b" lua] " in line, [word.decode() for word in words]))
        return found


async def commands_of(work, server, prefix):
    """All commands that the server ran for the work of a store, from its login on."""
    async with Monitor(server) as monitor:
        async with opened(server.url, prefix, 20.0) as store:
            await work(store)
        return await monitor.commands()


@pytest.mark.parametrize("work", [exercise, life])
async def test_scripts_touch_declared_keys_only_and_all_of_one_slot(server, prefix, work):
    declared: set[str] = set()
    counted = 0
    for of_script, (name, *words) in await commands_of(work, server, prefix):
        if name.upper() in ("EVAL", "EVALSHA") and words[1] != "0":
            declared = set(words[2 : 2 + int(words[1])])
            slots = {slot(key) for key in declared}
            assert len(slots) == 1, declared
        elif of_script and name.upper() != "TIME":
            assert words[0] in declared, (name, words[0], declared)
            counted += 1
        elif not of_script and words and words[0].startswith(prefix):
            declared = set()
    assert counted > 100


@pytest.mark.parametrize("work", [exercise, life])
async def test_reads_and_writes_stay_in_their_slot(server, prefix, work):
    """Every transaction too: nothing would be refused by a cluster."""
    together: set[int] = set()
    transactions = 0
    for _, (name, *words) in await commands_of(work, server, prefix):
        if name.upper() == "MULTI":
            together = set()
        together |= {slot(words[0])} if words and words[0].startswith(prefix) else set()
        if name.upper() == "EXEC":
            assert len(together) == 1
            transactions += 1
    assert transactions > 10


def slot(key):
    """As the cluster specification has it."""
    tag = key.partition("{")[2].partition("}")[0]
    return crc_hqx((tag or key).encode(), 0) % 16_384


@pytest.fixture(scope="module", params=real.names())
def cluster(request):
    """A cluster of one server that has all slots."""
    with real.running() as servers:
        server = servers.start(request.param, "--cluster-enabled", "yes")
        assert server.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383") == b"+OK\r\n"
        yield server


@pytest.mark.parametrize("work", [exercise, life])
async def test_on_a_cluster_every_batch_stays_in_its_slot(cluster, prefix, work, monkeypatch):
    """With `#!lua` a script may touch no key of another slot than the declared ones."""
    made = scripts.script_of
    monkeypatch.setattr(scripts, "script_of", lambda text: made("#!lua\n" + text))
    url = cluster.url.replace("redis://", "redis+cluster://")
    async with opened(url, prefix, 20.0) as store:
        await recovered(store, 20)  # it takes its slots into service after two seconds
        await work(store)
    for bucket in random.sample(range(BUCKETS), 100):
        key = Layout(prefix).key(bucket, "s:x", "log", "m")
        assert cluster.command("CLUSTER", "KEYSLOT", key) == b":%d\r\n" % bucket


def test_every_bucket_is_a_slot():
    assert [slot("{" + tag + "}") for tag in tags()] == list(range(BUCKETS))


@pytest.mark.parametrize("work", [exercise, life])
async def test_every_command_that_is_used_is_asked_for_at_login(server, prefix, work):
    """A user who lacks one would stop a script half-way: see `scripts.PERMISSIONS`."""
    used = {
        name.lower()
        for of_script, (name, *words) in await commands_of(work, server, prefix)
        if of_script or (words and words[0].startswith(prefix))
    }
    asked = {call.split(" ")[0] for call in scripts._CALLS.split("|")}
    assert used <= asked
    unused = {"multi", "exec", "evalsha", "time"}
    if work is exercise:
        unused |= {"lrange", "zcount", "zrange", "del"}
        assert asked - used <= unused
