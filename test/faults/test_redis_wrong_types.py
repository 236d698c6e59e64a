"""Keys of a wrong type: whatever else a batch does beside them, nothing of it is applied."""

from __future__ import annotations

import random

import pytest
from support.redis_keys import state
from support.redis_store import BUCKET, DAY, GROUP, adding, batch, creating, opened
from support.redis_writes import GIVEN, WRITES, rotated

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
    Gather,
    Get,
    Incr,
    IndexCount,
    IndexPut,
    IndexRange,
    Plan,
    Put,
    Read,
)

TOUCHED = [
    ("map", "p"), ("map", "q"), ("map", "_p"), ("map", "n"), ("log", "l"), ("log", "s"),
    ("log", "_l"), ("log", "t"), ("log", "u"), ("log", "r"), ("index", "i"), ("index", "_i"),
    ("index", "j"), ("map", "d"), ("map", ""),
]  # fmt: skip


def touching(name, ops):
    """The operations that touch the key of this name, and the others."""
    ops = list(ops)
    named = [op for op in ops if getattr(op, "key", None) == name]
    return named, [op for op in ops if op not in named]


def unstamped(op):
    """Stamps name operations that a choice of some leaves out."""
    return op._replace(stamps=()) if type(op) is Append else op


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
        named, others = touching(name, map(unstamped, WRITES))
        for _ in range(10):
            chosen = [*random.sample(others, 6), random.choice(named)]
            random.shuffle(chosen)
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
    named, others = touching(name, CREATING[1:])
    chosen = [*named, *random.sample(others, length - 2)]
    random.shuffle(chosen)
    ops = (CREATING[0], *chosen)
    plan = Plan("create", *ops[:1], Put("z", {"z": Arg(0)}), *ops[1:])
    async with opened(server.url, prefix) as store:
        place = store._layout.key(BUCKET, GROUP, kind, name)
        await store.command("SETBIT", place, 7, 1)
        before = await state(store, prefix)
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
     IndexRange("m"), IndexRange("m", prefix="a"), IndexCount("m"),
     Gather("m", ("n",)), Gather("n", ("m",), members=("a",)),
     Gather("n", ("n", "m"), members=("a",))],
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
