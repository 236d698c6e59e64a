"""A server that refuses: full, read-only, without disk, busy. Nothing is half applied."""

from __future__ import annotations

import asyncio

import pytest
from support import servers as real
from support.redis_keys import state
from support.redis_store import (
    ADD,
    BUCKET,
    GROUP,
    LARGE,
    adding,
    batch,
    counting,
    creating,
    every,
    fields,
    items,
    opened,
    recovered,
)
from support.redis_writes import GIVEN, WRITES, rotated
from support.waiting import until

from aiecs.core.errors import (
    StoreAuthError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from aiecs.core.interface.store import (
    Batch,
    Call,
    Delete,
    Expire,
    Get,
    GroupMissing,
    Incr,
    IndexDelete,
    IndexRange,
    Plan,
    Read,
    Trim,
    Truncate,
)

# --- memory -------------------------------------------------------------------------------------


@pytest.fixture(params=real.names())
def refusing(request, servers):
    """A server of the test's own, which may fill, demote and lock it."""
    server = servers.start(request.param)
    yield server
    server.close()


def limit(server, size):
    assert server.command("CONFIG", "SET", "maxmemory", str(size)) == b"+OK\r\n"


async def test_a_full_server_applies_nothing_at_any_position(refusing, prefix):
    async with opened(refusing.url, prefix) as store:
        await store.apply(creating(GROUP, BUCKET, *GIVEN))
        await store.apply(batch(*WRITES))
        for first in range(len(WRITES)):
            ops = rotated(WRITES, first)
            before = await state(store, prefix)
            limit(refusing, 1)
            (told,) = await every(1, lambda _, ops=ops: store.apply(batch(*ops)))
            limit(refusing, 0)
            after = await state(store, prefix)
            if isinstance(told, Exception):
                assert (type(told), told.outcome) == (StoreFullError, "not_applied")
                assert not told.retryable
                assert after == before, f"half applied, {ops[0]} first"
            else:
                # Redis lets a script finish that began by removing something.
                assert type(ops[0]) in (Delete, IndexDelete, Truncate, Trim, Expire), ops[0]
                assert (await fields(store))["b"] != before[
                    store._layout.key(BUCKET, GROUP, "map", "").encode()
                ][b"b"]


async def test_a_full_server_still_reads_and_deletes(refusing, prefix):
    async with opened(refusing.url, prefix) as store:
        await store.apply(creating(GROUP, BUCKET, *GIVEN))
        await store.apply(adding(b"x"))
        reads = [
            batch(Get(""), Get("d", ("a", "b")), Read("t"), Read("m", limit=1), IndexRange("j")),
            batch(Get("d"), Read("t", start=1, stop=2), IndexRange("j", prefix="a")),
            Batch(BUCKET, "", (Get("_none"),)),
        ]
        before = [await store.apply(read) for read in reads]
        limit(refusing, 1)
        assert [await store.apply(read) for read in reads] == before
        assert await items(store) == [b"x"]
        for refused in (adding(b"y"), batch(counting()), creating("s:two"), adding(b"." * LARGE)):
            with pytest.raises(StoreFullError):
                await store.apply(refused)
        assert await store.apply(batch(Delete("d"), Delete("j", kind="index"))) == [1, 1]
        assert await store.apply(batch(Trim("t", keep=0))) == [3]
        everything = [Delete(key, kind="log") for key in ("t", "u", "r", "f", "m")]
        await store.apply(batch(*everything, Delete("e"), Delete("g", kind="index"), Delete("")))
        assert await fields(store) == {}
        left = await state(store, prefix)
        assert left == {}, left
        limit(refusing, 0)
        await store.apply(creating())


async def test_memory_that_runs_out_under_load(refusing, prefix):
    """Whoever was told "full" has stored nothing; the others everything, once."""
    async with opened(refusing.url, prefix, 20.0) as store:
        await store.apply(creating())
        plan = Plan("counted", *ADD.ops, Incr("", {"n": 1}))

        async def write(number):
            item = b"%d %s" % (number, b"." * 5_000)
            return await store.apply(Call(plan, BUCKET, GROUP, (item,)))

        writing = asyncio.create_task(every(3_000, write))
        limit(refusing, 12_000_000)
        told = await writing
        limit(refusing, 0)

        refused = [n for n, answer in enumerate(told) if isinstance(answer, Exception)]
        assert {type(told[n]) for n in refused} == {StoreFullError}
        stored = [int(item.split(b" ")[0]) for item in await items(store)]
        assert sorted(stored) == sorted({*range(3_000)} - {*refused})
        assert 0 < len(refused) < 3_000
        assert (await fields(store))["n"] == b"%d" % len(stored)


# --- replicas, disks ----------------------------------------------------------------------------


async def said(store, section, text):
    """Return when INFO says so."""

    async def says():
        return text in await store.command("INFO", section)

    await until(says)


async def test_a_replica_refuses_writes_and_serves_reads(servers, refusing, prefix):
    replica = servers.start(refusing.name)
    refusing.command("CONFIG", "SET", "repl-diskless-sync-delay", "0")
    async with opened(refusing.url, prefix) as primary, opened(replica.url, prefix) as store:
        await primary.apply(creating())
        await primary.apply(adding(b"x"))
        replica.command("REPLICAOF", "127.0.0.1", str(refusing.port))
        await said(store, "replication", b"master_link_status:up")

        for refused in (adding(b"y"), batch(counting()), batch(Delete("")), creating("s:two")):
            with pytest.raises(StoreReadOnlyError) as caught:
                await store.apply(refused)
            assert caught.value.outcome == "not_applied"
        assert await items(store) == [b"x"]

        replica.command("REPLICAOF", "NO", "ONE")
        await store.apply(adding(b"z"))
        assert await items(store) == [b"x", b"z"]
    replica.close()


async def test_too_few_replicas(refusing, prefix):
    async with opened(refusing.url, prefix) as store:
        await store.apply(creating())
        refusing.command("CONFIG", "SET", "min-replicas-to-write", "1")
        with pytest.raises(StoreUnavailableError) as caught:
            await store.apply(adding(b"x"))
        assert caught.value.outcome == "not_applied"
        refusing.command("CONFIG", "SET", "min-replicas-to-write", "0")
        assert await items(store) == []


async def test_a_disk_that_cannot_be_written(refusing, prefix):
    async with opened(refusing.url, prefix) as store:
        await store.apply(creating())
        refusing.command("CONFIG", "SET", "save", "3600 1")
        (refusing.directory / "dump.rdb").mkdir()  # nothing can be put in its place
        refusing.command("BGSAVE")
        await said(store, "persistence", b"last_bgsave_status:err")

        for refused in (adding(b"x"), batch(counting()), batch(Delete(""))):
            with pytest.raises(StoreFullError) as caught:
                await store.apply(refused)
            assert caught.value.outcome == "not_applied"
            assert "disk" in str(caught.value)
        assert await items(store) == []
        refusing.command("CONFIG", "SET", "save", "")
        await recovered(store)
        await store.apply(adding(b"y"))
        assert await items(store) == [b"y"]


async def busy(server):
    return server.command("PING").startswith(b"-BUSY")


async def test_a_server_busy_with_a_long_script(refusing, prefix):
    async with opened(refusing.url, prefix, 20.0) as store:
        await store.apply(creating())
        refusing.command("CONFIG", "SET", "busy-reply-threshold", "20")
        _, writer = await asyncio.open_connection("127.0.0.1", refusing.port)
        writer.write(b"*3\r\n$4\r\nEVAL\r\n$17\r\nwhile true do end\r\n$1\r\n0\r\n")
        await until(lambda: busy(refusing))
        for refused in (adding(b"x"), batch(Get(""), Get("m"))):
            with pytest.raises(StoreUnavailableError) as caught:
                await store.apply(refused)
            assert "busy" in str(caught.value)
            assert caught.value.outcome == "not_applied"
        refusing.command("SCRIPT", "KILL")
        writer.transport.abort()
        await recovered(store)
        assert await items(store) == []


async def test_a_script_that_breaks_leaves_the_outcome_open(server, prefix):
    """None of ours does; but were it to, nobody may be told that nothing happened."""
    async with opened(server.url, prefix) as store:
        with pytest.raises(StoreUnavailableError) as caught:
            await store.command("EVAL", "redis.call('SET', KEYS[1], 1) return nil .. 1", 1, prefix)
        assert caught.value.outcome == "unknown"
        assert not isinstance(caught.value, StoreAuthError)


async def test_a_refusal_is_never_an_answer(refusing, prefix):
    """Whatever the server says instead of data, no read is empty and no write is True."""
    async with opened(refusing.url, prefix, 0.5) as store:
        await store.apply(creating())
        await store.apply(adding(b"x"))
        refusing.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        refusing.command("CONFIG", "SET", "requirepass", "later")
        for call in (adding(b"y"), batch(Get("")), batch(Read("m")), adding(b"z", "s:none")):
            with pytest.raises(StoreError) as caught:
                await store.apply(call)
            assert not isinstance(caught.value, GroupMissing)
        with pytest.raises(StoreAuthError):
            await store.ping()
