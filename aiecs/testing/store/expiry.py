"""Groups come into being, expire, and are removed before they come again."""

# ruff: noqa: D102, PLR2004, S101 - a test's name says what it holds
from __future__ import annotations

import pytest

from aiecs.core.interface import store as port
from aiecs.core.interface.store import (
    INCARNATION,
    Append,
    Clock,
    Delete,
    Expire,
    Get,
    IndexCount,
    IndexDelete,
    IndexPut,
    IndexRange,
    LogSlice,
    Put,
    Read,
    Redact,
    RequireEquals,
    RequireExists,
    RequireFields,
    Trim,
    Truncate,
)
from aiecs.testing.store.place import Place

_HOUR = 3_600_000_000
_NEW = Put("", {"~i": port.NEW_INCARNATION}, "abort")
_ABSENT = LogSlice("", 0, 0, 0, [])
_WRITES: list[port.Op] = [
    Put("", {"a": b"1"}),
    Put("m", {"a": b"1"}),
    Put("m", {"a": b"1"}, "skip"),
    Put("m", {"a": b"1"}, "abort"),
    port.Incr("m", {"n": 1}),
    Delete("m", ("a",)),
    Delete("m"),
    Delete("l", kind="log"),
    Delete("i", kind="index"),
    Delete(""),
    Append("l", (b"x",)),
    Trim("l", keep=0),
    Truncate("l", 0),
    Redact("l", (1,)),
    IndexPut("i", {"a": 1}),
    IndexDelete("i", ("a",)),
    Expire(_HOUR),
    Expire(None),
]


def _name(op: object) -> str:
    return repr(op)


class ExpiryContract:
    """The life of a group: `NEW_INCARNATION`, `Expire`, `GroupMissing`, `GroupExpired`, `raw`."""

    # --- creation -------------------------------------------------------------------------------

    async def test_an_incarnation_begins_with_the_clock(self, here: Place) -> None:
        _, now = await here.do(_NEW, Clock())
        (incarnation,) = await here.one(Get("", ("~i",)))

        assert incarnation[:16] == b"%016d" % now
        assert len(incarnation) > 16
        assert incarnation.isalnum()

    async def test_incarnations_of_one_moment_differ(self, here: Place) -> None:
        places = [here.at(f"s:{number}") for number in range(20)]

        assert len({await place.create() for place in places}) == 20

    async def test_creating_what_exists_is_refused_or_skipped(self, here: Place) -> None:
        incarnation = await here.create()

        refusal = await here.refused(Put("m", {"a": b"1"}), _NEW)
        skipped, _ = await here.do(
            Put("", {"~i": port.NEW_INCARNATION}, "skip"), Put("m", {"b": b"2"})
        )

        assert (refusal.operation, refusal.found, skipped) == (1, incarnation, False)
        assert await here.map("") == {"~i": incarnation}
        assert await here.map() == {"b": b"2"}

    async def test_a_group_can_be_created_if_absent_in_every_batch(self, here: Place) -> None:
        ensure = Put("", {"~i": port.NEW_INCARNATION}, "skip")

        assert await here.do(ensure, Append("l", (b"1",)), Expire(_HOUR)) != [False]
        assert (await here.do(ensure, Append("l", (b"2",)), Expire(_HOUR)))[0] is False
        assert (await here.log()).items == [b"1", b"2"]

    async def test_an_imported_group_keeps_its_incarnation(self, here: Place) -> None:
        await here.do(Put("", {"~i": b"0000000000000007beef"}, "abort"), Append("l", (b"x",)))

        assert await here.one(Get("", ("~i",))) == [b"0000000000000007beef"]
        assert (await here.log()).epoch == "0000000000000007beef.0"

    @pytest.mark.parametrize("write", _WRITES, ids=_name)
    async def test_writing_to_an_absent_group_is_refused(self, here: Place, write: port.Op) -> None:
        refusal = await here.refused(Put("_m", {"a": b"1"}), write)

        assert type(refusal) is port.GroupMissing
        assert (refusal.operation, refusal.found) == (-1, None)
        assert await here.state() == [{}, {}, {}, {}, _ABSENT, _ABSENT, _ABSENT, [], []]

    # --- expiry ---------------------------------------------------------------------------------

    async def test_expire_counts_from_the_clock_of_its_batch(self, here: Place) -> None:
        _, _, now = await here.do(_NEW, Expire(_HOUR), Clock())

        assert (await here.map(""))["~x"] == b"%d" % (now + _HOUR)

    async def test_a_group_lives_until_its_time(self, here: Place) -> None:
        await here.create(Put("m", {"a": b"1"}), Expire(_HOUR, (("map", "m"), ("log", "absent"))))

        assert await here.do(Get("m"), RequireExists("")) == [{"a": b"1"}, None]
        assert await here.one(Put("m", {"a": b"2"})) is True

    async def test_the_last_expire_counts(self, here: Place) -> None:
        await here.create(Expire(_HOUR), Put("m", {"a": b"1"}))
        results = await here.do(Expire(2 * _HOUR), Clock())
        assert (await here.map(""))["~x"] == b"%d" % (results[1] + 2 * _HOUR)

        assert await here.one(Expire(None)) is None
        assert "~x" not in await here.map("")
        assert await here.map() == {"a": b"1"}

    async def test_an_expired_group_reads_as_absent(self, here: Place) -> None:
        await here.create(
            Put("m", {"a": b"1"}),
            Append("l", (b"x",)),
            IndexPut("i", {"a": 1}),
            Put("", {"u": b"1"}),
        )
        base = (await here.log()).base
        await here.expire()

        assert await here.do(
            *(Get(""), Get("", ("~i", "u")), Get("m"), Get("m", ("a",))),
            *(Read("l"), Read("l", base=base), IndexRange("i"), IndexCount("i")),
            RequireExists("", exists=False),
            RequireExists("m", exists=False),
            RequireEquals("m", "a", None),
        ) == [{}, [None, None], {}, [None], _ABSENT, _ABSENT, [], 0, None, None, None]
        assert await here.one(IndexRange("i", prefix="a")) == []
        assert (await here.refused(RequireFields("m", ("a",)))).found == ["a"]
        assert (await here.refused(RequireExists("m"))).operation == 0

    @pytest.mark.parametrize("write", _WRITES, ids=_name)
    async def test_writing_to_an_expired_group_is_refused(
        self, here: Place, write: port.Op
    ) -> None:
        await here.create(Put("m", {"a": b"1"}), Append("l", (b"x",)), IndexPut("i", {"a": 1}))
        await here.expire()
        before = await here.state()

        refusal = await here.refused(Put("_m", {"a": b"1"}), write)

        assert type(refusal) is port.GroupMissing
        assert await here.state() == before

    @pytest.mark.parametrize("condition", ["skip", "abort"])
    async def test_creating_over_an_expired_group_is_refused(
        self, here: Place, condition: str
    ) -> None:
        await here.create(Put("m", {"a": b"1"}))
        await here.expire()
        before = await here.state()

        refusal = await here.refused(
            Put("", {"~i": port.NEW_INCARNATION}, condition),  # type: ignore[arg-type]
            Put("m", {"b": b"2"}),
            Expire(_HOUR),
        )

        assert type(refusal) is port.GroupExpired
        assert isinstance(refusal, port.GroupMissing)
        assert await here.state() == before

    async def test_raw_sees_an_expired_group_as_it_is(self, here: Place) -> None:
        incarnation = await here.create(
            Put("m", {"a": b"1"}), Append("l", (b"x", b"y")), IndexPut("i", {"a": 1})
        )
        log = await here.log()
        await here.expire()

        results = await here.do(
            *(Get("m"), Read("l"), Read("l", limit=1, base=log.base), IndexRange("i")),
            *(IndexCount("i"), RequireEquals("", "~i", incarnation)),
            raw=True,
        )

        assert results == [
            {"a": b"1"}, log, log._replace(first=log.base + 1, items=[b"y"]), [("a", 1)], 1, None,
        ]  # fmt: skip

    async def test_raw_changes_nothing_about_a_group_that_lives(self, here: Place) -> None:
        await here.create(Put("m", {"a": b"1"}), Expire(_HOUR))

        assert await here.do(Get("m"), Get("", ("~i",)), raw=True) == await here.do(
            Get("m"), Get("", ("~i",))
        )
        assert type(await here.at("s:none").refused(Put("m", {"a": b"1"}), raw=True)) is (
            port.GroupMissing
        )

    async def test_a_sweeper_removes_the_remains_and_notes_it_in_one_batch(
        self, here: Place
    ) -> None:
        incarnation = await here.create(Put("m", {"a": b"1"}), Append("l", (b"x",)))
        await here.expire()

        await here.do(
            RequireEquals("", "~i", incarnation),
            port.RequireAtMost("", "~x", port.NOW),
            Append("_l", (b"expired",), (INCARNATION,)),
            Delete("m"),
            Delete("l", kind="log"),
            Delete(""),
            raw=True,
        )
        await here.wait_until(await here.now() + 1)
        again = await here.create(Put("n", {"b": b"2"}))

        assert (await here.log("_l")).items == [incarnation + b"\nexpired"]
        assert await here.do(Get("m"), Read("l"), Get("n")) == [{}, _ABSENT, {"b": b"2"}]
        assert again > incarnation

    async def test_a_new_group_inherits_no_expiry(self, here: Place) -> None:
        await here.create(Expire(_HOUR))
        await here.do(Delete(""))
        await here.create()

        assert "~x" not in await here.map("")

    async def test_raw_may_bring_an_expired_group_back(self, here: Place) -> None:
        await here.create(Put("m", {"a": b"1"}))
        await here.expire()

        await here.do(Expire(_HOUR), raw=True)

        assert await here.map() == {"a": b"1"}

    async def test_bucket_keys_do_not_expire(self, here: Place) -> None:
        await here.create(Put("_m", {"a": b"1"}), Append("_l", (b"x",)), IndexPut("_i", {"a": 1}))
        await here.expire()

        results = await here.do(Get("_m"), IndexRange("_i"), RequireExists("_m"), IndexCount("_i"))
        assert results == [{"a": b"1"}, [("a", 1)], None, 1]
        assert await here.do(Put("_m", {"b": b"2"}), Append("_l", (b"y",))) == [
            True,
            (await here.log("_l")).base + 1,
        ]

    async def test_groups_expire_for_themselves(self, here: Place) -> None:
        other = here.at("s:two")
        elsewhere = here.at(bucket=8)
        for place in (here, other, elsewhere):
            await place.create(Put("m", {"a": b"1"}), Expire(_HOUR))
        await here.expire()

        assert [await place.map() for place in (here, other, elsewhere)] == [
            {}, {"a": b"1"}, {"a": b"1"},
        ]  # fmt: skip
