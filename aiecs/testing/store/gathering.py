"""What is read together: members of an index, values of maps, and what these link to."""

# ruff: noqa: D102, S101 - a test's name says what it holds
from __future__ import annotations

import pytest

from aiecs.core.interface import store as port
from aiecs.core.interface.store import Gather, Gathered, IndexPut, Put
from aiecs.testing.store.place import Place

_MEMBERS = ("a/1", "a/2", "a/3", "b/1", "a", "é", "a/\U0001f600")
_IN_A = ["a/1", "a/2", "a/3", "a/\U0001f600"]


async def _furnish(here: Place) -> None:
    values = {name: name.encode() for name in _MEMBERS[:5]}
    links = {
        "x": b"&y z\nx itself",
        "y": b"&z w nothing",
        "z": b"z & no link\n",
        "w": b"&x y z w\n",
        "v": b"never named",
    }
    await here.create(
        IndexPut("i", dict.fromkeys(_MEMBERS, 0)),
        Put("m", {**values, "a/2": b"&x\nrest", "a/3": b"&y x", "b/1": b"&"}),
        Put("n", {"a/1": b"other"}),
        Put("e", links),
    )


class GatherContract:
    """`Gather`."""

    async def test_members_by_their_beginning_in_either_direction(self, here: Place) -> None:
        await _furnish(here)

        found = await here.one(Gather("i", ("m", "n"), "a/"))
        last = await here.one(Gather("i", ("m",), "a/", limit=2, reverse=True))

        assert found == Gathered(
            _IN_A, [[b"a/1", b"&x\nrest", b"&y x", None], [b"other", None, None, None]], {}
        )
        assert last == Gathered(_IN_A[:1:-1], [[None, b"&y x"]], {})

    @pytest.mark.parametrize("reverse", [False, True])
    async def test_page_by_page_nothing_is_left_out_or_twice(
        self, here: Place, reverse: bool
    ) -> None:
        await _furnish(here)
        found: list[str] = []
        after = None
        while True:
            page = await here.one(Gather("i", ("m",), "a/", 2, reverse, after))
            found += page.members
            if len(page.members) < 2:  # noqa: PLR2004 - the size of a page
                break
            after = page.members[-1]

        assert found == (_IN_A[::-1] if reverse else _IN_A)

    async def test_a_page_may_begin_beyond_the_beginning(self, here: Place) -> None:
        await _furnish(here)

        below = await here.one(Gather("i", ("m",), "a/", after="\x00"))
        above = await here.one(Gather("i", ("m",), "a/", after="zzz", reverse=True))
        past = await here.one(Gather("i", ("m",), "a/", after="zzz"))

        assert (below.members, above.members, past.members) == (_IN_A, _IN_A[::-1], [])

    async def test_given_members_need_not_be_in_the_index(self, here: Place) -> None:
        await _furnish(here)

        found = await here.one(Gather("i", ("n", "m"), members=("a/1", "v", "a/1")))

        assert found == Gathered(
            ["a/1", "v", "a/1"],
            [[b"other", None, b"other"], [b"a/1", None, b"a/1"]],
            {},
        )

    async def test_links_are_followed_to_their_end_each_once(self, here: Place) -> None:
        await _furnish(here)
        stored = await here.map("e")

        found = await here.one(Gather("i", ("m",), members=("a/2",), links="e"))

        assert found.linked == {name: stored[name] for name in ("x", "y", "z", "w")}

    async def test_what_is_known_is_neither_fetched_nor_followed(self, here: Place) -> None:
        await _furnish(here)

        found = await here.one(Gather("i", ("m",), members=("a/2",), links="e", known=("y", "q")))

        assert sorted(found.linked) == ["x", "z"]

    async def test_only_values_of_the_first_map_link(self, here: Place) -> None:
        await _furnish(here)

        found = await here.one(Gather("i", ("n", "m"), "a/", links="e"))

        assert found.linked == {}

    async def test_a_mark_without_names_links_nowhere(self, here: Place) -> None:
        await _furnish(here)
        await here.do(Put("m", {"1": b"&\nx", "2": b"&  \n", "3": b" &x", "4": b"\n&x"}))

        found = await here.one(Gather("i", ("m",), members=("b/1", "1", "2", "3", "4"), links="e"))

        assert found.linked == {}

    async def test_a_thousand_members_and_their_links(self, here: Place) -> None:
        names = [f"n{number:04}" for number in range(1000)]
        await here.create(
            IndexPut("i", dict.fromkeys(names, 0)),
            Put("m", {name: b"&e" + name.encode() for name in names}),
            Put("e", {f"e{name}": name.encode() * 100 for name in names}),
        )

        found = await here.one(Gather("i", ("m",), limit=1000, links="e"))

        assert found.members == names
        assert found.linked == {f"e{name}": name.encode() * 100 for name in names}

    async def test_absent_things_read_as_nothing(self, here: Place) -> None:
        before = await here.do(Gather("i", ("m", "n")), Gather("i", ("m",), members=("a", "b")))
        await here.create()
        bare = await here.do(
            Gather("i", ("m",), links="e"), Gather("i", ("m",), members=("a",)), port.Clock()
        )

        assert before == [Gathered([], [[], []], {}), Gathered(["a", "b"], [[None, None]], {})]
        assert bare[:2] == [Gathered([], [[]], {}), Gathered(["a"], [[None]], {})]

    async def test_an_expired_group_is_seen_by_raw_batches_only(self, here: Place) -> None:
        await _furnish(here)
        await here.expire()

        assert await here.one(Gather("i", ("m",), "a/")) == Gathered([], [[]], {})
        found = await here.one(Gather("i", ("m",), "a/"), raw=True)
        assert found.members == _IN_A
