"""Counters: integer fields that the store adds to."""

# ruff: noqa: D102, S101 - a test's name says what it holds
from __future__ import annotations

import pytest

from aiecs.core.interface import store as port
from aiecs.core.interface.store import MAX_INTEGER, Get, Incr, Put
from aiecs.testing.store.place import Place

_NO_INTEGERS = [
    b"",
    b"x",
    b"1.5",
    b"1e3",
    b"0x1",
    b" 1",
    b"1 ",
    b"1\n",
    b"+1",
    b"--1",
    b"-",
    b"\xff",
    b"1\x00",
    "٣".encode(),
    b"nan",
    b"inf",
    b"9007199254740992",
    b"-9007199254740992",
    b"12345678901234567890",
]


class CounterContract:
    """`Incr`."""

    async def test_absent_counts_as_zero(self, here: Place) -> None:
        await here.create()

        assert await here.one(Incr("m", {"b": 5, "a": -3, "c": 0})) == [5, -3, 0]
        assert await here.map() == {"b": b"5", "a": b"-3", "c": b"0"}

    async def test_counts_add_up_beside_other_fields(self, here: Place) -> None:
        await here.create(Put("m", {"text": b"x", "n": b"40"}), Incr("", {"n": 1}))

        assert await here.do(Incr("m", {"n": 2, "new": 7}), Incr("", {"n": 1})) == [[42, 7], [2]]
        assert await here.one(Incr("m", {"n": -50})) == [-8]
        assert await here.map() == {"text": b"x", "n": b"-8", "new": b"7"}
        assert await here.one(Get("", ("n",))) == [b"2"]

    @pytest.mark.parametrize("old", [b"0", b"-7", b"1", b"9007199254740990"])
    async def test_an_integer_that_was_put_can_be_added_to(self, here: Place, old: bytes) -> None:
        await here.create(Put("m", {"n": old}))

        assert await here.one(Incr("m", {"n": 1})) == [int(old) + 1]
        assert await here.map() == {"n": b"%d" % (int(old) + 1)}

    @pytest.mark.parametrize("sign", [1, -1])
    async def test_the_bounds_are_exact(self, here: Place, sign: int) -> None:
        await here.create()

        assert await here.one(Incr("m", {"n": sign * (MAX_INTEGER - 1)})) == [
            sign * (MAX_INTEGER - 1)
        ]
        assert await here.one(Incr("m", {"n": sign})) == [sign * MAX_INTEGER]
        refusal = await here.refused(Incr("m", {"n": sign}))

        assert (refusal.operation, refusal.found) == (0, b"%d" % (sign * MAX_INTEGER))
        assert await here.one(Incr("m", {"n": -2 * sign})) == [sign * (MAX_INTEGER - 2)]

    async def test_from_bound_to_bound(self, here: Place) -> None:
        await here.create(Put("m", {"n": b"%d" % -MAX_INTEGER}))

        assert await here.one(Incr("m", {"n": MAX_INTEGER})) == [0]
        assert await here.one(Incr("m", {"n": MAX_INTEGER})) == [MAX_INTEGER]

    async def test_an_overflow_leaves_the_other_counters_alone(self, here: Place) -> None:
        await here.create(Put("m", {"b": b"%d" % MAX_INTEGER}))
        before = await here.state()

        refusal = await here.refused(Put("m", {"x": b"1"}), Incr("m", {"a": 1, "b": 1}))

        assert (refusal.operation, refusal.found) == (1, b"%d" % MAX_INTEGER)
        assert await here.state() == before

    @pytest.mark.parametrize("old", _NO_INTEGERS, ids=repr)
    async def test_a_value_that_is_no_integer_is_left_alone(self, here: Place, old: bytes) -> None:
        await here.create(Put("m", {"n": old}))
        before = await here.state()

        with pytest.raises(port.CorruptField) as caught:
            await here.do(Put("m", {"x": b"1"}), Incr("m", {"a": 1, "n": 1}))

        assert caught.value.operation == 1
        assert await here.state() == before

    async def test_incr_sees_the_state_before_the_batch(self, here: Place) -> None:
        await here.create(Put("m", {"n": b"1"}))

        assert await here.do(Incr("m", {"n": 1}), Get("m", ("n",))) == [[2], [b"1"]]
