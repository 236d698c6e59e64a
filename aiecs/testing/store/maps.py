"""Maps: fields of bytes, put, counted and deleted."""

# ruff: noqa: D102, S101 - a test's name says what it holds
from __future__ import annotations

import pytest

from aiecs.core.interface import store as port
from aiecs.core.interface.store import Append, Clock, Delete, Get, IndexPut, Put
from aiecs.testing.store.place import Place

_BINARY = [
    b"",
    b"\x00",
    b"a\x00b",
    b"\r\n",
    b"\xff\xfe\x80",
    bytes(range(256)),
    "naïve \U0001f600".encode(),
    b"0",
    b"nil",
    b"x" * 200_000,
]


class MapContract:
    """`Get`, `Put` and `Delete`."""

    async def test_an_absent_map_reads_as_nothing(self, here: Place) -> None:
        await here.create()

        assert await here.do(Get("m"), Get("m", ("a", "b"))) == [{}, [None, None]]

    async def test_fields_come_in_the_order_asked_for(self, here: Place) -> None:
        await here.create(Put("m", {"a": b"1", "b": b"2", "c": b"3"}))

        assert await here.one(Get("m", ("c", "x", "a", "c"))) == [b"3", None, b"1", b"3"]

    async def test_put_tells_that_it_was_applied_and_keeps_other_fields(self, here: Place) -> None:
        await here.create(Put("m", {"a": b"1", "b": b"2"}))

        assert await here.one(Put("m", {"b": b"3", "c": b"4"})) is True
        assert await here.map() == {"a": b"1", "b": b"3", "c": b"4"}

    @pytest.mark.parametrize("value", _BINARY, ids=lambda value: repr(value[:12]))
    async def test_any_bytes_come_back_unchanged(self, here: Place, value: bytes) -> None:
        await here.create(Put("m", {"f": value}), Put("", {"f": value}))

        assert await here.one(Get("m", ("f",))) == [value]
        assert await here.map() == {"f": value}
        assert (await here.map(""))["f"] == value

    async def test_a_thousand_fields_at_once(self, here: Place) -> None:
        fields = {f"field {number}": b"%d" % number for number in range(1000)}
        await here.create(Put("m", fields))

        assert await here.map() == fields
        assert await here.one(Get("m", tuple(fields))) == list(fields.values())

    async def test_get_sees_the_state_before_its_batch(self, here: Place) -> None:
        await here.create(Put("m", {"a": b"1"}))

        results = await here.do(
            Put("m", {"a": b"2"}), Get("m", ("a",)), Get("m"), Get("n"), Put("n", {"b": b"3"})
        )

        assert results == [True, [b"1"], {"a": b"1"}, {}, True]
        assert (await here.map(), await here.map("n")) == ({"a": b"2"}, {"b": b"3"})

    async def test_the_head_shows_incarnation_and_expiry_but_no_marks(self, here: Place) -> None:
        incarnation = await here.create(
            Put("", {"user": b"u"}), Append("l", (b"x",), epoch=3), port.Expire(10**12)
        )
        head = await here.map("")
        (deadline,) = await here.one(Get("", ("~x",)))

        assert head == {"~i": incarnation, "~x": deadline, "user": b"u"}

    # --- conditions -----------------------------------------------------------------------------

    async def test_skip_leaves_all_fields_alone_when_one_exists(self, here: Place) -> None:
        await here.create(Put("m", {"b": b"old"}))

        results = await here.do(
            Put("m", {"a": b"new", "b": b"new"}, "skip"), Put("n", {"c": b"new"})
        )

        assert results == [False, True]
        assert (await here.map(), await here.map("n")) == ({"b": b"old"}, {"c": b"new"})

    @pytest.mark.parametrize("condition", ["skip", "abort"])
    async def test_an_if_absent_put_is_applied_when_no_field_exists(
        self, here: Place, condition: str
    ) -> None:
        await here.create(Put("m", {"other": b"1"}))

        assert await here.one(Put("m", {"a": b"2", "b": b"3"}, condition)) is True  # type: ignore[arg-type]
        assert await here.map() == {"other": b"1", "a": b"2", "b": b"3"}

    async def test_abort_refuses_the_batch_and_tells_the_value(self, here: Place) -> None:
        await here.create(Put("m", {"b": b"old"}))
        before = await here.state()

        refusal = await here.refused(
            Put("n", {"x": b"1"}), Put("m", {"a": b"new", "b": b"new"}, "abort")
        )

        assert (refusal.operation, refusal.found) == (1, b"old")
        assert await here.state() == before

    async def test_a_field_with_an_empty_value_exists(self, here: Place) -> None:
        await here.create(Put("m", {"a": b""}))

        assert await here.one(Put("m", {"a": b"new"}, "skip")) is False
        assert (await here.refused(Put("m", {"a": b"new"}, "abort"))).found == b""

    async def test_conditions_look_at_the_state_before_the_batch(self, here: Place) -> None:
        await here.create(Put("m", {"gone": b"1"}))

        results = await here.do(Delete("m", ("gone",)), Put("m", {"new": b"2"}, "abort"))

        assert results == [1, True]
        assert await here.map() == {"new": b"2"}

    # --- values that the store fills in ---------------------------------------------------------

    async def test_now_is_the_clock_of_the_batch(self, here: Place) -> None:
        await here.create()

        results = await here.do(
            Put("m", {"now": port.NOW, "later": port.now_plus(5), "before": port.now_plus(-5)}),
            Clock(),
        )
        now = results[1]

        assert await here.map() == {
            "now": b"%d" % now,
            "later": b"%d" % (now + 5),
            "before": b"%d" % (now - 5),
        }

    async def test_a_put_may_store_what_earlier_operations_returned(self, here: Place) -> None:
        await here.create(Put("m", {"n": b"40"}))

        first, counts, _ = await here.do(
            Append("l", (b"x", b"y")),
            port.Incr("m", {"n": 2, "o": -1}),
            Put("n", {"first": port.Result(0), "n": port.Result(1), "o": port.Result(1, 1)}),
        )

        assert counts == [42, -1]
        assert await here.map("n") == {"first": b"%d" % first, "n": b"42", "o": b"-1"}

    async def test_the_second_item_of_an_append_is_one_further(self, here: Place) -> None:
        await here.create()

        first, _ = await here.do(
            Append("l", (b"x", b"y", b"z")), Put("m", {"last": port.Result(0, 2)})
        )

        assert await here.map() == {"last": b"%d" % (first + 2)}

    # --- deletion -------------------------------------------------------------------------------

    async def test_delete_counts_the_fields_that_existed(self, here: Place) -> None:
        await here.create(Put("m", {"a": b"1", "b": b"2"}))

        assert await here.one(Delete("m", ("a", "x"))) == 1
        assert await here.map() == {"b": b"2"}

    async def test_a_map_without_fields_does_not_exist(self, here: Place) -> None:
        await here.create(Put("m", {"a": b"1"}))
        await here.do(port.RequireExists("m"))
        await here.do(Delete("m", ("a",)))

        await here.do(port.RequireExists("m", exists=False))
        assert await here.one(Delete("m")) == 0

    async def test_delete_removes_a_whole_key_of_its_kind_only(self, here: Place) -> None:
        await here.create(Put("k", {"a": b"1"}), Append("k", (b"x",)), IndexPut("k", {"a": 1}))

        assert await here.one(Delete("k")) == 1
        assert (await here.map("k"), len((await here.log("k")).items)) == ({}, 1)
        assert await here.one(Delete("k", kind="log")) == 1
        assert (await here.log("k"), await here.index("k")) == (_NO_LOG, [("a", 1)])
        assert await here.one(Delete("k", kind="index")) == 1
        assert await here.index("k") == []

    @pytest.mark.parametrize("kind", ["map", "log", "index"])
    async def test_deleting_what_is_absent_counts_nothing(
        self, here: Place, kind: port.Kind
    ) -> None:
        await here.create()

        assert await here.do(Delete("k", kind=kind), Delete("_k", kind=kind)) == [0, 0]

    async def test_a_group_without_its_head_is_gone(self, here: Place) -> None:
        await here.create(Put("m", {"a": b"1"}), Append("l", (b"x",)), IndexPut("i", {"a": 1}))

        removed = await here.do(
            Delete("m"), Delete("l", kind="log"), Delete("i", kind="index"), Delete("")
        )

        assert removed == [1, 1, 1, 1]
        assert await here.state() == [{}, {}, {}, {}, _NO_LOG, _NO_LOG, _NO_LOG, [], []]
        assert type(await here.refused(Put("m", {"a": b"1"}))) is port.GroupMissing

    async def test_a_group_made_anew_is_empty_and_has_another_incarnation(
        self, here: Place
    ) -> None:
        first = await here.create(Put("m", {"a": b"1"}), Append("l", (b"x",)))
        await here.do(Delete("m"), Delete("l", kind="log"), Delete(""))
        await here.wait_until(await here.now() + 1)

        second = await here.create()

        assert second > first
        assert await here.state() == [
            {"~i": second}, {}, {}, {}, _NO_LOG, _NO_LOG, _NO_LOG, [], [],
        ]  # fmt: skip

    # --- keys of the bucket itself --------------------------------------------------------------

    async def test_a_bucket_key_needs_no_group(self, here: Place) -> None:
        bucket = here.at("")
        await bucket.do(Put("_m", {"a": b"1"}))

        assert await bucket.map("_m") == {"a": b"1"}
        assert await here.map("_m") == {"a": b"1"}
        assert await here.at("s:two").map("_m") == {"a": b"1"}

    async def test_a_batch_may_write_its_bucket_beside_its_group(self, here: Place) -> None:
        await here.create(Put("_m", {"a": b"1"}), Put("m", {"b": b"2"}))

        assert await here.at("").map("_m") == {"a": b"1"}
        assert await here.map() == {"b": b"2"}

    async def test_a_batch_may_write_its_bucket_while_its_group_is_absent(
        self, here: Place
    ) -> None:
        assert await here.do(Put("_m", {"a": b"1"}), Get("m")) == [True, {}]
        assert await here.at("").map("_m") == {"a": b"1"}


_NO_LOG = port.LogSlice("", 0, 0, 0, [])
