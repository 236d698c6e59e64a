"""Names of any kind stay names: no two of them meet, and none of them is a pattern or a path."""

# ruff: noqa: D102, S101 - a test's name says what it holds
from __future__ import annotations

import pytest

from aiecs.core.interface import store as port
from aiecs.core.interface.store import Append, Delete, Get, IndexPut, IndexRange, Put
from aiecs.testing.store.place import Place

_NAMES = [
    "a", "A", "a ", " a", "a:b", "a::b", "a:", ":a", "a.b", "..", "a*", "*", "?", "a?", "[a]",
    "{a}", "{}", "{", "}", "a{b}c", "a\nb", "\n", "\r", "\t", "\x00", "a\x00", "a\x00b", "\x7f",
    "%", "%2F", "%00", "\\", "'", '"', "`", ";", "--", "é", "e\u0301", "ñ", "İ", "ß", "\U0001f600",
    "\u202eabc", "\ufeff", "\uffff", "0", "00", "1", "-1", "h", "l", "z", "x" * 255, "é" * 127,
]  # fmt: skip
_GROUPS = [name for name in _NAMES if "/" not in name]
_KEYS = [*(name for name in _NAMES if name), "/", "a/b", "a/", "/a", "h/a", "s:one/m"]
_FIELDS = ["", *_NAMES, "/", "a/b", "_", "__proto__", "i", "x", "bl", "w:w"]


class IsolationContract:
    """Buckets, groups, keys and fields."""

    async def test_groups_do_not_meet(self, here: Place) -> None:
        for number, name in enumerate(_GROUPS):
            await here.at(name).create(
                Put("m", {"n": b"%d" % number}),
                Append("l", (b"%d" % number,)),
                IndexPut("i", {str(number): number}),
            )

        for number, name in enumerate(_GROUPS):
            place = here.at(name)
            assert await place.map() == {"n": b"%d" % number}, name
            assert (await place.log()).items == [b"%d" % number], name
            assert await place.index() == [(str(number), number)], name

    async def test_a_deleted_group_takes_no_other_with_it(self, here: Place) -> None:
        for name in _GROUPS:
            await here.at(name).create(Put("m", {"a": b"1"}))
        for name in _GROUPS[::2]:
            await here.at(name).do(Delete("m"), Delete(""))

        left = [name for name in _GROUPS if await here.at(name).map()]
        assert left == _GROUPS[1::2]

    @pytest.mark.parametrize("own", ["", "_"], ids=["group", "bucket"])
    async def test_keys_do_not_meet(self, here: Place, own: str) -> None:
        await here.create()
        keys = [own + key for key in _KEYS]
        for number, key in enumerate(keys):
            await here.do(
                Put(key, {"n": b"%d" % number}),
                Append(key, (b"%d" % number,), first=number),
                IndexPut(key, {str(number): number}),
            )

        for number, key in enumerate(keys):
            assert await here.map(key) == {"n": b"%d" % number}, key
            assert (await here.log(key))[1:] == (number, number + 1, number, [b"%d" % number]), key
            assert await here.index(key) == [(str(number), number)], key

    async def test_keys_of_a_group_and_of_its_bucket_do_not_meet(self, here: Place) -> None:
        await here.create(*(Put(key, {"n": b"group"}) for key in _KEYS))
        await here.do(*(Put(f"_{key}", {"n": b"bucket"}) for key in _KEYS))

        assert [await here.map(key) for key in _KEYS] == [{"n": b"group"}] * len(_KEYS)
        assert [await here.map(f"_{key}") for key in _KEYS] == [{"n": b"bucket"}] * len(_KEYS)

    async def test_fields_do_not_meet(self, here: Place) -> None:
        fields = {name: b"%d" % number for number, name in enumerate(_FIELDS)}
        await here.create(Put("m", fields), Put("", fields))

        assert await here.map() == fields
        assert await here.one(Get("m", tuple(fields))) == list(fields.values())
        assert await here.one(Get("", tuple(fields))) == list(fields.values())
        assert (await here.map("")).items() >= fields.items()
        assert await here.one(Delete("m", tuple(fields)[::2])) == len(tuple(fields)[::2])
        assert await here.map() == dict(list(fields.items())[1::2])

    async def test_members_do_not_meet(self, here: Place) -> None:
        entries = {name: number for number, name in enumerate(_FIELDS)}
        await here.create(IndexPut("i", entries))

        assert await here.index() == list(entries.items())

    async def test_a_prefix_is_no_pattern(self, here: Place) -> None:
        members = ["%", "%a", "*", "*a", "[a", "[ab", "a", "a%", "a*", "a?b", "a_", "a_b", "ab"]
        await here.create(IndexPut("i", dict.fromkeys(members, 0)))

        for prefix in ("%", "*", "[a", "a%", "a*", "a?", "a_"):
            found = await here.one(IndexRange("i", prefix=prefix))
            assert found == [(m, 0) for m in members if m.startswith(prefix)]

    async def test_buckets_do_not_meet(self, here: Place) -> None:
        buckets = [0, 1, 7, 10, 71, 8191, port.BUCKETS - 1]
        for bucket in buckets:
            await here.at(bucket=bucket).create(
                Put("m", {"n": b"%d" % bucket}), Put("_m", {"n": b"%d" % bucket})
            )

        for bucket in buckets:
            place = here.at(bucket=bucket)
            assert await place.map() == await place.map("_m") == {"n": b"%d" % bucket}

    async def test_results_are_the_callers_own(self, here: Place) -> None:
        await here.create(Put("m", {"a": b"1"}), Append("l", (b"x",)), IndexPut("i", {"a": 1}))

        for _ in range(2):
            found, log, index = await here.do(Get("m"), port.Read("l"), IndexRange("i"))
            assert (found, log.items, index) == ({"a": b"1"}, [b"x"], [("a", 1)])
            found.clear()
            log.items.clear()
            index.clear()
