"""A server that refuses: full, read-only, without disk, wrong types. Nothing is half applied."""

from __future__ import annotations

import asyncio
import random

import pytest
from support import servers as real
from support.redis_store import (
    ADD,
    BUCKET,
    DAY,
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

from aiecs.core.errors import (
    StoreAuthError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from aiecs.core.interface import store as port
from aiecs.core.interface.store import (
    NEW_INCARNATION,
    NOW,
    Append,
    Arg,
    Batch,
    Call,
    Delete,
    Expire,
    Get,
    GroupMissing,
    Incr,
    IndexCount,
    IndexDelete,
    IndexPut,
    IndexRange,
    Plan,
    Put,
    Read,
    Redact,
    Result,
    Trim,
    Truncate,
)

# Each operation that writes, on keys of the group and of the bucket.
WRITES = (
    Put("", {"a": b"1", "b": NOW}),
    Put("p", {"a": b"1"}),
    Put("q", {"a": NOW}, if_absent="skip"),
    Put("_p", {"a": b"1"}),
    Incr("n", {"a": 1}),
    Incr("", {"c": 1}),
    Append("l", (b"1", b"2")),
    Append("s", (b"3",), (NOW, Result(4), Result(6))),
    Append("_l", (b"4",)),
    Trim("t", keep=1),
    Truncate("u", 1),
    Redact("r", (1,)),
    IndexPut("i", {"a": 1}),
    IndexPut("_i", {"a": NOW}, greater=True),
    IndexDelete("j", ("a",)),
    Delete("d", ("a",)),
    Delete("e"),
    Delete("f", kind="log"),
    Delete("g", kind="index"),
    Expire(DAY, (("map", "p"), ("log", "l"))),
)
GIVEN = (
    *(Append(key, (b"0", b"1", b"2"), first=0) for key in ("t", "u", "r", "f")),
    *(Put(key, {"a": b"0"}) for key in ("d", "e")),
    *(IndexPut(key, {"a": 0}) for key in ("j", "g")),
)


async def state(store, prefix):
    """Every key with its whole content, but for receipts."""
    found = {}
    for key in sorted(await store.command("KEYS", prefix + "*")):
        found[key] = await store.command("DUMP", key)
        if await store.command("TYPE", key) == b"hash":
            flat = await store.command("HGETALL", key)
            pairs = dict(zip(flat[::2], flat[1::2], strict=True))
            found[key] = {name: value for name, value in pairs.items() if name[:2] != b"w:"}
    return {key: value for key, value in found.items() if value}


def rotated(ops, first):
    """The same operations, another first one; references to results go along."""
    count = len(ops)
    places = {(first + n) % count: n for n in range(count)}
    moved = [ops[(first + n) % count] for n in range(count)]
    for at, op in enumerate(moved):
        if type(op) is Append and any(type(stamp) is Result for stamp in op.stamps):
            stamps = [s for s in op.stamps if type(s) is not Result or places[s.operation] < at]
            stamps = [
                Result(places[s.operation], s.item) if type(s) is Result else s for s in stamps
            ]
            moved[at] = op._replace(stamps=tuple(stamps))
    return tuple(moved)


# --- keys of a wrong type -----------------------------------------------------------------------

TOUCHED = [
    ("map", "p"), ("map", "q"), ("map", "_p"), ("map", "n"), ("log", "l"), ("log", "s"),
    ("log", "_l"), ("log", "t"), ("log", "u"), ("log", "r"), ("index", "i"), ("index", "_i"),
    ("index", "j"), ("map", "d"), ("map", ""),
]  # fmt: skip


@pytest.mark.parametrize("key", TOUCHED, ids=str)
async def test_a_key_of_a_wrong_type_applies_nothing_whatever_comes_first(server, prefix, key):
    kind, name = key
    async with opened(server.url, prefix) as store:
        await store.apply(creating(GROUP, BUCKET, *GIVEN))
        place = store._layout.key(BUCKET, GROUP, kind, name)
        await store.command("DEL", place)
        await store.command("SETBIT", place, 7, 1)
        before = await state(store, prefix)

        for first in range(len(WRITES)):
            ops = rotated(WRITES, first)
            with pytest.raises(port.CorruptField) as caught:
                await store.apply(batch(*ops))
            assert await state(store, prefix) == before, f"{ops[0]} came first"
            named = caught.value.operation
            assert named == -1 or getattr(ops[named], "key", None) == name
        # The same as plans, whose scripts are made in another way.
        named = [op for op in WRITES if getattr(op, "key", None) == name]
        others = [op for op in WRITES if op not in named and not getattr(op, "stamps", ())]
        for _ in range(10):
            chosen = [*random.sample(others, 6), random.choice(named)]
            random.shuffle(chosen)
            if any(getattr(op, "stamps", ()) for op in chosen):
                continue  # its stamps name operations that are not there
            with pytest.raises(port.CorruptField):
                await store.apply(Call(Plan("wrong", *chosen), BUCKET, GROUP, ()))
            assert await state(store, prefix) == before
        assert all(prepared._unrolled for prepared in store._prepared.values())


CREATING = (
    Put("", {"~i": NEW_INCARNATION, "l": NOW}, if_absent="abort"),
    Put("p", {"a": b"1"}),
    Put("q", {"a": b"1"}, if_absent="skip"),
    Incr("n", {"a": 1}),
    Append("l", (b"1",)),
    Append("_l", (b"1",)),
    IndexPut("i", {"a": 1}),
    IndexPut("_i", {"a": 1}),
    Expire(DAY),
)


@pytest.mark.parametrize(
    "key",
    [("map", "p"), ("map", "q"), ("map", "n"), ("log", "l"), ("log", "_l"), ("index", "i"),
     ("index", "_i")],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("length", range(2, len(CREATING) + 1))
async def test_remains_of_a_wrong_type_do_not_let_half_a_group_be_made(server, prefix, key, length):
    """Nobody has looked at the keys of a group that is only being made."""
    kind, name = key
    ops = (CREATING[0], *random.sample(CREATING[1:], length - 1))
    plan = Plan("create", *ops[:1], Put("z", {"z": Arg(0)}), *ops[1:])
    async with opened(server.url, prefix) as store:
        place = store._layout.key(BUCKET, GROUP, kind, name)
        await store.command("SETBIT", place, 7, 1)
        before = await state(store, prefix)
        touched = any(getattr(op, "key", None) == name for op in ops)
        if not touched:
            return
        for call in (batch(*ops), Call(plan, BUCKET, GROUP, (b"z",))):
            with pytest.raises(port.CorruptField):
                await store.apply(call)
            assert await state(store, prefix) == before


async def test_deleting_a_head_beside_a_key_of_a_wrong_type(server, prefix):
    async with opened(server.url, prefix) as store:
        await store.apply(creating())
        await store.command("SET", store._layout.key(BUCKET, GROUP, "log", "_l"), "x")
        before = await state(store, prefix)
        for ops in (
            (Delete(""), Append("_l", (b"gone",))),
            (Delete("", ("l",)), Append("_l", (b"gone",))),
            (Expire(None), Append("_l", (b"gone",))),
            (Put("", {"x": b"1"}, "skip"), Append("_l", (b"gone",))),
        ):
            with pytest.raises(port.CorruptField):
                await store.apply(batch(*ops))
            assert await state(store, prefix) == before


@pytest.mark.parametrize(
    "read",
    [Get("m"), Get("m", ("a",)), Read("m"), Read("m", limit=1), Read("m", start=1, base=0),
     IndexRange("m"), IndexRange("m", prefix="a"), IndexCount("m")],
    ids=str,
)  # fmt: skip
async def test_reading_a_key_of_a_wrong_type(server, prefix, read):
    async with opened(server.url, prefix) as store:
        await store.apply(creating(GROUP, BUCKET, Append("m", (b"x",))))
        for kind in ("map", "log", "index"):
            await store.command("DEL", store._layout.key(BUCKET, GROUP, kind, "m"))
            await store.command("SET", store._layout.key(BUCKET, GROUP, kind, "m"), "x")
        with pytest.raises(port.CorruptField) as caught:
            await store.apply(batch(Get(""), read))
        assert caught.value.operation == 1


async def test_a_corrupt_expiry(server, prefix):
    async with opened(server.url, prefix) as store:
        await store.apply(creating())
        head = store._layout.key(BUCKET, GROUP, "map", "")
        await store.command("HSET", head, "~x", "soon")
        for call in (batch(Get("")), batch(Put("m", {"a": b"1"})), adding(b"x")):
            with pytest.raises(port.CorruptField) as caught:
                await store.apply(call)
            assert caught.value.operation == -1
        assert await store.apply(Batch(BUCKET, GROUP, (Get("", ("~x",)),), raw=True)) == [[b"soon"]]


# --- memory -------------------------------------------------------------------------------------


@pytest.fixture(params=real.names())
def own_server(request, servers):
    server = servers.start(request.param)
    yield server
    server.close()


def limit(server, size):
    assert server.command("CONFIG", "SET", "maxmemory", str(size)) == b"+OK\r\n"


async def test_a_full_server_applies_nothing_at_any_position(own_server, prefix):
    async with opened(own_server.url, prefix) as store:
        await store.apply(creating(GROUP, BUCKET, *GIVEN))
        await store.apply(batch(*WRITES))
        for first in range(len(WRITES)):
            ops = rotated(WRITES, first)
            before = await state(store, prefix)
            limit(own_server, 1)
            (told,) = await every(1, lambda _, ops=ops: store.apply(batch(*ops)))
            limit(own_server, 0)
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


async def test_a_full_server_still_reads_and_deletes(own_server, prefix):
    async with opened(own_server.url, prefix) as store:
        await store.apply(creating(GROUP, BUCKET, *GIVEN))
        await store.apply(adding(b"x"))
        reads = [
            batch(Get(""), Get("d", ("a", "b")), Read("t"), Read("m", limit=1), IndexRange("j")),
            batch(Get("d"), Read("t", start=1, stop=2), IndexRange("j", prefix="a")),
            Batch(BUCKET, "", (Get("_none"),)),
        ]
        before = [await store.apply(read) for read in reads]
        limit(own_server, 1)
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
        limit(own_server, 0)
        await store.apply(creating())


async def test_memory_that_runs_out_under_load(own_server, prefix):
    """Whoever was told "full" has stored nothing; the others everything, once."""
    async with opened(own_server.url, prefix, 20.0) as store:
        await store.apply(creating())
        plan = Plan("counted", *ADD.ops, Incr("", {"n": 1}))

        async def write(number):
            item = b"%d %s" % (number, b"." * 5_000)
            return await store.apply(Call(plan, BUCKET, GROUP, (item,)))

        writing = asyncio.create_task(every(3_000, write))
        limit(own_server, 12_000_000)
        told = await writing
        limit(own_server, 0)

        refused = [n for n, answer in enumerate(told) if isinstance(answer, Exception)]
        assert {type(told[n]) for n in refused} == {StoreFullError}
        stored = [int(item.split(b" ")[0]) for item in await items(store)]
        assert sorted(stored) == sorted({*range(3_000)} - {*refused})
        assert 0 < len(refused) < 3_000
        assert (await fields(store))["n"] == b"%d" % len(stored)


# --- replicas, disks ----------------------------------------------------------------------------


async def said(store, section, text):
    """Return when INFO says so."""
    while text not in await store.command("INFO", section):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.02)


async def test_a_replica_refuses_writes_and_serves_reads(servers, own_server, prefix):
    replica = servers.start(own_server.name)
    own_server.command("CONFIG", "SET", "repl-diskless-sync-delay", "0")
    async with opened(own_server.url, prefix) as primary, opened(replica.url, prefix) as store:
        await primary.apply(creating())
        await primary.apply(adding(b"x"))
        replica.command("REPLICAOF", "127.0.0.1", str(own_server.port))
        async with asyncio.timeout(20):
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


async def test_too_few_replicas(own_server, prefix):
    async with opened(own_server.url, prefix) as store:
        await store.apply(creating())
        own_server.command("CONFIG", "SET", "min-replicas-to-write", "1")
        with pytest.raises(StoreUnavailableError) as caught:
            await store.apply(adding(b"x"))
        assert caught.value.outcome == "not_applied"
        own_server.command("CONFIG", "SET", "min-replicas-to-write", "0")
        assert await items(store) == []


async def test_a_disk_that_cannot_be_written(own_server, prefix):
    async with opened(own_server.url, prefix) as store:
        await store.apply(creating())
        own_server.command("CONFIG", "SET", "save", "3600 1")
        (own_server.directory / "dump.rdb").mkdir()  # nothing can be put in its place
        own_server.command("BGSAVE")
        async with asyncio.timeout(20):
            await said(store, "persistence", b"last_bgsave_status:err")

        for refused in (adding(b"x"), batch(counting()), batch(Delete(""))):
            with pytest.raises(StoreFullError) as caught:
                await store.apply(refused)
            assert caught.value.outcome == "not_applied"
            assert "disk" in str(caught.value)
        assert await items(store) == []
        own_server.command("CONFIG", "SET", "save", "")
        await recovered(store)
        await store.apply(adding(b"y"))
        assert await items(store) == [b"y"]


async def test_a_server_busy_with_a_long_script(own_server, prefix):
    async with opened(own_server.url, prefix, 20.0) as store:
        await store.apply(creating())
        own_server.command("CONFIG", "SET", "busy-reply-threshold", "20")
        _, writer = await asyncio.open_connection("127.0.0.1", own_server.port)
        writer.write(b"*3\r\n$4\r\nEVAL\r\n$17\r\nwhile true do end\r\n$1\r\n0\r\n")
        async with asyncio.timeout(10):
            while not own_server.command("PING").startswith(b"-BUSY"):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        for refused in (adding(b"x"), batch(Get(""), Get("m"))):
            with pytest.raises(StoreUnavailableError) as caught:
                await store.apply(refused)
            assert "busy" in str(caught.value)
            assert caught.value.outcome == "not_applied"
        own_server.command("SCRIPT", "KILL")
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


async def test_a_refusal_is_never_an_answer(own_server, prefix):
    """Whatever the server says instead of data, no read is empty and no write is True."""
    async with opened(own_server.url, prefix, 0.5) as store:
        await store.apply(creating())
        await store.apply(adding(b"x"))
        own_server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        own_server.command("CONFIG", "SET", "requirepass", "later")
        for call in (adding(b"y"), batch(Get("")), batch(Read("m")), adding(b"z", "s:none")):
            with pytest.raises(StoreError) as caught:
                await store.apply(call)
            assert not isinstance(caught.value, GroupMissing)
        with pytest.raises(StoreAuthError):
            await store.ping()
