"""How many scripts the Redis store needs, and how large batches and plans may be."""

from __future__ import annotations

import re

import pytest
from support.redis_store import (
    BUCKET,
    GROUP,
    adding,
    batch,
    counting,
    creating,
    fields,
    items,
    lanes,
    opened,
)
from support.redis_work import life

from aiecs.core.errors import InvalidInputError
from aiecs.core.interface import store as port
from aiecs.core.interface.store import (
    INCARNATION,
    NEW_INCARNATION,
    NOW,
    Append,
    Arg,
    Batch,
    Call,
    Expire,
    Get,
    Incr,
    IndexDelete,
    IndexPut,
    Plan,
    Put,
    Read,
    RequireEquals,
    RequireExists,
    RequireFields,
    Trim,
)
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

# --- shapes -------------------------------------------------------------------------------------


async def test_the_product_needs_few_scripts(server, prefix):
    async with opened(server.url, prefix, 20.0) as store:
        await life(store)
        assert 10 < store.shapes <= 64


async def test_shapes_without_end_are_forgotten(server, prefix):
    async with opened(server.url, prefix, 20.0) as store:
        await store.apply(creating())
        for number in range(400):
            kinds = [counting("m"), Put("p", {"a": b"1"}), Get("m"), Append("l", (b"x",))]
            ops = [kinds[number >> shift & 3] for shift in (0, 2, 4, 6, 8)]
            keyed = [op._replace(key=f"{op.key}{at}") for at, op in enumerate(ops)]
            await store.apply(batch(*keyed, Get("")))
        assert 250 < store.shapes < 300
        server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await store.apply(batch(counting("m")))
        assert sum(lane.reconnects for lane in lanes(store)) == 1


# --- sizes --------------------------------------------------------------------------------------


NAMES = [f"{number}" for number in range(1_000)]
CROWDS = {
    "head fields": [Put("", {f"{op}.{name}": b"%d" % op for name in NAMES}) for op in range(12)],
    "counted": [Incr("", {f"{op}.{name}": op for name in NAMES}) for op in range(9)],
    "looked at": [*(Get("", tuple(NAMES)) for _ in range(9)), Incr("", {"a": 1})],
    "missing": [RequireFields("", tuple(NAMES)), Put("m", {"a": b"1"})],
    "different": [
        [Append("l", (b"%d" % n,)), Incr("m", {f"f{n}": n}), Put("", {f"f{n}": b"1"})][n % 3]
        for n in range(1_000)
    ],
    "logs": [Append(f"l{n}", (b"x",)) for n in range(1_000)],
    "guards": [*(RequireEquals("", f"f{n}", None) for n in range(999)), counting()],
    "items": [Append("l", tuple(b"%d" % n for n in range(1_000)), (NOW,)), Trim("l", keep=9)],
    "members": [
        IndexPut("i", dict.fromkeys(NAMES, 1)),
        IndexDelete("i", tuple(f"-{n}" for n in NAMES)),
    ],
}


@pytest.mark.parametrize("name", CROWDS)
async def test_large_batches_do_what_they_do_in_memory(server, prefix, name):
    """Lua takes some 8,000 values at once; what stood behind that was half a batch."""
    memory = MemoryStore()
    async with opened(server.url, prefix, 30.0) as store:
        found = []
        for each in (store, memory):
            await each.apply(creating())
            try:
                results = await each.apply(batch(*CROWDS[name]))
            except port.GuardFailed as refusal:
                results = [refusal.operation, refusal.found]
            reads = (Get("m"), Get("", tuple(f"8.{n}" for n in range(1_000))))
            state = await each.apply(batch(*reads, port.IndexCount("i")))
            logs = await each.apply(batch(*(Read(key) for key in ("l", "l0", "l999"))))
            sequences = [result for result in results if type(result) is int and result > 10**9]
            results = [result for result in results if result not in sequences]
            found.append((results, len(sequences), state, [len(log.items) for log in logs]))
        assert found[0] == found[1]


async def test_more_arguments_than_redis_takes_are_refused_before_any_of_it(server, prefix):
    names = {f"{number}": b"" for number in range(1_000)}
    ops = tuple(Put(f"{op}", names) for op in range(600))
    async with opened(server.url, prefix, 20.0) as store:
        await store.apply(creating())
        with pytest.raises(InvalidInputError):
            await store.apply(batch(*ops))
        assert await fields(store, "0") == {}
        assert sum(lane.reconnects for lane in lanes(store)) == 0


# --- plans --------------------------------------------------------------------------------------


async def test_a_plan_may_be_long(server, prefix):
    length = 200
    plan = Plan("long", *(Append("m", (Arg(n),)) for n in range(length)), Incr("", {"n": Arg(200)}))
    async with opened(server.url, prefix) as store:
        await store.apply(creating())
        values = tuple(b"%d" % n for n in range(length))
        results = await store.apply(Call(plan, BUCKET, GROUP, (*values, 7)))
        assert results[-1] == [7]
        assert await items(store) == list(values)
        with pytest.raises(InvalidInputError):
            await store.apply(Call(plan, BUCKET, GROUP, values))


async def test_a_plan_may_only_read(server, prefix):
    plan = Plan("reading", Get("", ("l",)), Read("m", limit=1), RequireExists(""))
    async with opened(server.url, prefix) as store:
        await store.apply(creating())
        await store.apply(adding(b"x"))
        head, log, _ = await store.apply(Call(plan, BUCKET, GROUP, ()))
        assert int(head[0])
        assert log.items == [b"x"]


async def test_none_is_a_value_of_a_plan_where_the_port_says_so(server, prefix):
    plan = Plan("expiring", Put("", {"a": Arg(0)}), Expire(Arg(1)), RequireEquals("", "z", Arg(2)))
    async with opened(server.url, prefix) as store:
        await store.apply(creating())
        await store.apply(Call(plan, BUCKET, GROUP, (b"1", 5_000_000, None)))
        assert "~x" in await fields(store)
        await store.apply(Call(plan, BUCKET, GROUP, (b"1", None, None)))
        assert "~x" not in await fields(store)


async def test_the_random_part_of_an_incarnation_is_no_value_of_the_call(server, prefix):
    """Also where the plan leaves a position out, or the call brings more than is asked for."""
    make = Put("", {"~i": NEW_INCARNATION, "a": Arg(0), "b": Arg(2)}, if_absent="abort")
    plan = Plan("making", make, Append("l", (Arg(2),), (INCARNATION,)))
    found = set()
    async with opened(server.url, prefix) as store:
        for number in range(20):
            group = f"s:{number}"
            call = Call(plan, BUCKET, group, (b"first", b"unused", b"third", b"beyond"))
            await store.apply(call)
            head = await fields(store, "", group)
            assert re.fullmatch(rb"[0-9]{16}[0-9a-f]{4}", head["~i"])
            assert (head["a"], head["b"]) == (b"first", b"third")
            (log,) = await store.apply(batch(Read("l"), group=group))
            assert log.items == [head["~i"] + b"\nthird"]
            found.add(head["~i"][16:])
    assert len(found) > 10


async def test_a_plan_on_the_bucket_alone_knows_the_incarnation(server, prefix):
    plan = Plan("event", Append("_o", (Arg(0),), (INCARNATION,)))
    async with opened(server.url, prefix) as store:
        await store.apply(creating())
        await store.apply(Call(plan, BUCKET, GROUP, (b"event",)))
        await store.apply(Call(plan, BUCKET, "", (b"event",)))
        (outbox,) = await store.apply(Batch(BUCKET, "", (Read("_o"),)))
        assert outbox.items == [(await fields(store))["~i"] + b"\nevent", b"\nevent"]
