"""Fields that grow at their end."""

# ruff: noqa: D102, S101 - a test's name says what it holds
from __future__ import annotations

import pytest

from aiecs.core.errors import InvalidInputError
from aiecs.core.interface import store as port
from aiecs.core.interface.store import MAX_RECORD_BYTES, Delete, Extend, Get, Incr, Put, Result
from aiecs.testing.store.place import Place, together

_BINARY = bytes(range(256))


class ExtendContract:
    """`Extend`."""

    async def test_what_is_added_stands_at_the_end(self, here: Place) -> None:
        await here.create(Put("m", {"a": b"1", "other": b"x"}))

        first = await here.do(Extend("m", {"a": b"23", "b": _BINARY}), Extend("n", {"c": b""}))
        await here.do(Extend("m", {"b": _BINARY, "a": b""}))

        assert first == [True, True]
        assert await here.map() == {"a": b"123", "b": _BINARY * 2, "other": b"x"}
        assert await here.map("n") == {"c": b""}

    async def test_the_head_grows_too(self, here: Place) -> None:
        await here.create(Extend("", {"a": b"1"}))

        await here.do(Extend("", {"a": b"2", "b": b"3"}))

        head = await here.map("")
        assert (head["a"], head["b"]) == (b"12", b"3")

    async def test_it_creates_with_its_group(self, here: Place) -> None:
        await here.create(Extend("m", {"a": b"1"}), port.Expire(10**12))

        assert await here.map() == {"a": b"1"}

    async def test_an_absent_group_grows_nowhere(self, here: Place) -> None:
        with pytest.raises(port.GroupMissing):
            await here.do(Extend("m", {"a": b"1"}))
        await here.create(Extend("m", {"a": b"1"}))
        await here.expire()
        with pytest.raises(port.GroupMissing):
            await here.do(Extend("m", {"a": b"2"}))

        assert await here.one(Get("m"), raw=True) == {"a": b"1"}

    async def test_others_of_its_batch_may_refer_to_what_came_before(self, here: Place) -> None:
        await here.create(Put("m", {"n": b"1"}))

        results = await here.do(
            Get("m", ("a",)),
            Extend("m", {"a": b"x"}),
            Incr("m", {"n": 1}),
            Put("n", {"b": Result(2)}),
        )

        assert results == [[None], True, [2], True]
        assert await here.map("n") == {"b": b"2"}

    async def test_nothing_grows_beyond_what_a_record_may_hold(self, here: Place) -> None:
        half = b"x" * (MAX_RECORD_BYTES // 2)
        await here.create(Put("m", {"a": half}))

        await here.do(Extend("m", {"a": half}))
        refusal = await here.refused(
            Put("n", {"b": b"1"}), Extend("m", {"c": b"1"}), Extend("m", {"a": b"y"})
        )

        assert refusal.operation == 2  # noqa: PLR2004 - the last one
        found = await here.do(Get("m", ("a", "c")), Get("n"))
        assert [len(found[0][0]), found[0][1], found[1]] == [MAX_RECORD_BYTES, None, {}]

    async def test_of_many_at_once_none_is_lost(self, here: Place) -> None:
        await here.create()

        await together(*(here.do(Extend("m", {"a": b"%02d " % n})) for n in range(50)))

        assert sorted((await here.map())["a"].split()) == [b"%02d" % n for n in range(50)]

    async def test_a_receipt_makes_it_grow_once(self, here: Place) -> None:
        await here.create()
        receipt = port.Receipt("writer", 7)

        first = await here.send(Extend("m", {"a": b"1"}), receipt=receipt)
        again = await here.send(Extend("m", {"a": b"1"}), receipt=receipt)

        assert (first, again) == ([True], None)
        assert await here.map() == {"a": b"1"}

    async def test_by_a_plan(self, here: Place) -> None:
        await here.create()
        plan = port.Plan(
            "grow", Extend("m", {"a": port.Arg(0), "b": b"-"}), Extend("", {"h": port.Arg(1)})
        )
        for n in range(3):
            call = port.Call(plan, here.bucket, here.group, (b"%d" % n, b"h"))
            assert await here.store.apply(call) == [True, True]

        assert await here.map() == {"a": b"012", "b": b"---"}
        assert (await here.map(""))["h"] == b"hhh"

    @pytest.mark.parametrize(
        "ops",
        [
            (Extend("m", {}),),
            (Extend("m", {"a": port.NOW}),),
            (Extend("m", {"a": "text"}),),
            (Extend("m", {"~i": b"x"}),),
            (Extend("", {"~x": b"1"}),),
            (Extend("m", {"a": b"1"}), Put("m", {"a": b"2"})),
            (Extend("m", {"a": b"1"}), Extend("m", {"a": b"2"})),
            (Extend("m", {"a": b"1"}), Delete("m")),
            (Delete(""), Extend("m", {"a": b"1"})),
        ],
    )
    async def test_what_makes_no_sense_is_refused(
        self, here: Place, ops: tuple[port.Op, ...]
    ) -> None:
        await here.create(Put("m", {"a": b"1"}))

        with pytest.raises(InvalidInputError):
            await here.do(*ops)

        assert await here.map() == {"a": b"1"}
