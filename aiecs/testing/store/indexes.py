"""Ordered indexes: members with scores."""

# ruff: noqa: D102, PLR2004, S101 - a test's name says what it holds
from __future__ import annotations

import pytest

from aiecs.core.interface.store import (
    MAX_INTEGER,
    NOW,
    Append,
    Clock,
    Incr,
    IndexCount,
    IndexDelete,
    IndexPut,
    IndexRange,
    Result,
    now_plus,
)
from aiecs.testing.store.place import Place


class IndexContract:
    """`IndexPut` and `IndexDelete`; what reads them is in `WindowContract`."""

    async def test_an_absent_index_is_empty(self, here: Place) -> None:
        await here.create()

        assert await here.do(IndexRange("i"), IndexCount("i")) == [[], 0]
        assert await here.one(IndexDelete("i", ("a",))) == 0

    async def test_members_come_by_score_then_by_name(self, here: Place) -> None:
        await here.create()

        assert await here.one(IndexPut("i", {"c": 1, "b": 2, "a": 2, "d": -1})) is True
        assert await here.index() == [("d", -1), ("c", 1), ("a", 2), ("b", 2)]

    async def test_a_score_moves(self, here: Place) -> None:
        await here.create(IndexPut("i", {"a": 1, "b": 2}))

        await here.do(IndexPut("i", {"a": 3}))
        assert await here.index() == [("b", 2), ("a", 3)]
        await here.do(IndexPut("i", {"a": -3}))
        assert await here.index() == [("a", -3), ("b", 2)]

    async def test_a_greater_put_never_lowers_a_score(self, here: Place) -> None:
        await here.create(IndexPut("i", {"a": 5, "b": 5, "c": 5}))

        assert (
            await here.one(IndexPut("i", {"a": 4, "b": 6, "c": 5, "d": -9}, greater=True)) is True
        )
        assert await here.index() == [("d", -9), ("a", 5), ("c", 5), ("b", 6)]

    @pytest.mark.parametrize("score", [MAX_INTEGER, -MAX_INTEGER, 0, 2**52 + 1, -(2**52) - 1])
    async def test_scores_are_exact(self, here: Place, score: int) -> None:
        await here.create(IndexPut("i", {"a": score}))

        assert await here.one(IndexRange("i", low=score, high=score)) == [("a", score)]
        assert await here.one(IndexCount("i", low=score, high=score)) == 1
        if score > -MAX_INTEGER:
            assert await here.one(IndexDelete("i", ("a",), at_most=score - 1)) == 0
        assert await here.one(IndexDelete("i", ("a",), at_most=score)) == 1

    async def test_neighbouring_large_scores_stay_apart(self, here: Place) -> None:
        top = MAX_INTEGER
        await here.create(IndexPut("i", {"a": top, "b": top - 1, "c": -top, "d": 1 - top}))

        assert await here.index() == [("c", -top), ("d", 1 - top), ("b", top - 1), ("a", top)]
        assert await here.one(IndexRange("i", low=top)) == [("a", top)]
        assert await here.one(IndexRange("i", cursor=("b", top - 1))) == [("a", top)]

    async def test_the_store_fills_in_scores(self, here: Place) -> None:
        await here.create()

        first, _, now, _ = await here.do(
            Append("l", (b"x", b"y")),
            Incr("m", {"n": 7}),
            Clock(),
            IndexPut("i", {"seq": Result(0, 1), "n": Result(1), "now": NOW, "later": now_plus(9)}),
        )

        assert dict(await here.index()) == {
            "seq": first + 1,
            "n": 7,
            "now": now,
            "later": now + 9,
        }

    async def test_delete_counts_the_members_that_existed(self, here: Place) -> None:
        await here.create(IndexPut("i", {"a": 1, "b": 2, "c": 3}))

        assert await here.one(IndexDelete("i", ("a", "x", "c"))) == 2
        assert await here.index() == [("b", 2)]
        assert await here.one(IndexDelete("i", ("b",))) == 1
        assert await here.index() == []

    async def test_a_conditional_delete_spares_what_has_moved(self, here: Place) -> None:
        await here.create(IndexPut("i", {"a": 1, "b": 2, "c": 1, "d": -3}))

        assert await here.one(IndexDelete("i", ("a", "b", "c", "d", "x"), at_most=1)) == 3
        assert await here.index() == [("b", 2)]

    async def test_a_conditional_delete_of_score_zero(self, here: Place) -> None:
        await here.create(IndexPut("i", {"a": 0, "b": 2}))

        assert await here.one(IndexDelete("i", ("a", "b"), at_most=0)) == 1
        assert await here.index() == [("b", 2)]

    async def test_members_are_any_text(self, here: Place) -> None:
        members = ["", " ", "\n", "\x00", "é", "\U0001f600", "a" * 255, "(", "[", "-", "+", "*"]
        await here.create(IndexPut("i", {member: n for n, member in enumerate(members)}))

        assert await here.index() == [(member, n) for n, member in enumerate(members)]

    async def test_a_thousand_members_at_once(self, here: Place) -> None:
        entries = {f"member {number:04}": number // 7 for number in range(1000)}
        await here.create(IndexPut("i", entries))

        assert await here.index() == list(entries.items())
        assert await here.one(IndexDelete("i", tuple(entries))) == 1000
