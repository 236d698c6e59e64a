"""Plans: hot batches written once, called with values; and the life of a store."""

# ruff: noqa: D102, PLR2004, S101 - a test's name says what it holds
from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiecs.core.errors import InvalidInputError, LifecycleError
from aiecs.core.interface import store as port
from aiecs.core.interface.store import (
    INCARNATION,
    MAX_INTEGER,
    NOW,
    Append,
    Arg,
    Call,
    Clock,
    Expire,
    Incr,
    Plan,
    Put,
    RequireExists,
    Result,
)
from aiecs.testing.store.place import Place, together

_ADD = Plan(
    "contract add",
    RequireExists(""),
    Append("l", (Arg(0),)),
    Incr("", {"count": 1, "tokens": Arg(2)}),
    Put("m", {"last": Arg(1), "at": NOW}),
    Append("_l", (Arg(3),), (Result(1), Result(2, 1), INCARNATION)),
    Expire(Arg(4)),
    Clock(),
)
_CREATE = Plan(
    "contract create",
    Put("", {"~i": port.NEW_INCARNATION, "user": Arg(0)}, "skip"),
    Append("l", (b"created", Arg(1))),
)
_SPARSE = Plan("contract bucket", Put("_m", {"a": Arg(0)}), Incr("_m", {"n": Arg(1)}))

_EVENT = Plan(
    "contract event",
    Append("l", (Arg(0),)),
    Append("_l", (Arg(0),), (INCARNATION, Result(0), NOW, Arg(1))),
)

_RETIRE = Plan(
    "contract retire",
    port.RequireAtMost("", "last", Arg(0)),
    port.Get("", ("user",)),
    port.Delete("l", kind="log"),
    port.Delete(""),
    raw=True,
)


class PlanContract:
    """`Call` says the same as the `Batch` that its plan is bound to."""

    async def test_a_call_is_the_batch_that_its_plan_binds(self, here: Place) -> None:
        incarnation = await here.create()
        hello = (b"hello", b"\x00\xff", 30, b"event", 10**12)
        again = (b"again", b"", -10, b"", 10**13)

        first = await self._call(here, _ADD, *hello)
        second = await self._call(here, _ADD, *again)
        third = await here.do(*_ADD.bind(hello))

        sequence = first[1]
        assert first == [None, sequence, [1, 30], True, first[4], None, first[6]]
        assert second == [None, sequence + 1, [2, 20], True, first[4] + 1, None, second[6]]
        assert third == [None, sequence + 2, [3, 50], True, first[4] + 2, None, third[6]]
        assert (await here.log()).items == [b"hello", b"again", b"hello"]
        assert (await here.log("_l")).items == [
            b"%d 30 %s\nevent" % (sequence, incarnation),
            b"%d 20 %s\n" % (sequence + 1, incarnation),
            b"%d 50 %s\nevent" % (sequence + 2, incarnation),
        ]
        assert await here.map() == {"last": b"\x00\xff", "at": b"%d" % third[6]}
        assert (await here.map(""))["~x"] == b"%d" % (third[6] + 10**12)

    async def test_a_call_may_create_its_group(self, here: Place) -> None:
        created = await self._call(here, _CREATE, b"ann", b"x")
        again = await self._call(here, _CREATE, b"bob", b"y")

        assert (created[0], again[0]) == (True, False)
        assert (await here.map(""))["user"] == b"ann"
        assert (await here.log()).items == [b"created", b"x", b"created", b"y"]

    async def test_a_call_without_group(self, here: Place) -> None:
        assert await self._call(here.at(""), _SPARSE, b"1", 5) == [True, [5]]
        assert await self._call(here.at(""), _SPARSE, b"2", -7) == [True, [-2]]
        assert await here.map("_m") == {"a": b"2", "n": b"-2"}

    async def test_a_call_can_be_refused(self, here: Place) -> None:
        with pytest.raises(port.GroupMissing):
            await self._call(here, _ADD, b"x", b"x", 1, b"x", 1)
        assert (await here.log("_l")).items == []

        await here.create(Put("", {"tokens": b"%d" % MAX_INTEGER}))
        before = await here.state()
        with pytest.raises(port.GuardFailed) as caught:
            await self._call(here, _ADD, b"x", b"x", 1, b"x", 1)
        assert (caught.value.operation, caught.value.found) == (2, b"%d" % MAX_INTEGER)
        assert await here.state() == before

    async def test_a_value_may_stand_in_several_places(self, here: Place) -> None:
        incarnation = await here.create()

        for item in (b"x", b"a\nb", b""):
            first, _ = await self._call(here, _EVENT, item, b'["m", 1]')
            *_, last = (await here.log("_l")).items
            front, body = last.split(b"\n", 1)
            told, sequence, _, header = front.split(b" ", 3)
            assert (told, int(sequence), header, body) == (incarnation, first, b'["m", 1]', item)
        for wrong in ((b"x", 1), (b"x", None), (1, b"x"), (b"x",)):
            with pytest.raises(InvalidInputError):
                await self._call(here, _EVENT, *wrong)

    async def test_a_raw_call_reaches_an_expired_group(self, here: Place) -> None:
        await here.create(Put("", {"user": b"ann", "last": b"5"}), Append("l", (b"x", b"y")))
        await here.expire()
        before = await here.state()

        for early in (4, -MAX_INTEGER):
            with pytest.raises(port.GuardFailed) as caught:
                await self._call(here, _RETIRE, early)
            assert (caught.value.operation, caught.value.found) == (0, b"5")
        assert await here.state() == before
        assert await self._call(here, _RETIRE, 5) == [None, [b"ann"], 2, 1]
        with pytest.raises(port.GroupMissing):
            await self._call(here, _RETIRE, 5)
        for wrong in (5.0, "5", b"5", None, MAX_INTEGER + 1):
            with pytest.raises(InvalidInputError):
                await self._call(here, _RETIRE, wrong)

    async def test_a_call_meets_a_corrupt_field(self, here: Place) -> None:
        await here.create(Put("", {"count": b"many"}))
        before = await here.state()

        with pytest.raises(port.CorruptField) as caught:
            await self._call(here, _ADD, b"x", b"x", 1, b"x", 1)
        assert caught.value.operation == 2
        assert await here.state() == before

    @pytest.mark.parametrize(
        "args",
        [
            ("text", b"x", 1, b"x", 1),
            (b"x", 5, 1, b"x", 1),
            (b"x", b"x", "1", b"x", 1),
            (b"x", b"x", 1.5, b"x", 1),
            (b"x", b"x", True, b"x", 1),
            (b"x", b"x", MAX_INTEGER + 1, b"x", 1),
            (b"x", b"x", b"1", b"x", 1),
            (b"x", b"x", 1, None, 1),
            (b"x", b"x", 1, b"x", 0),
            (b"x", b"x", 1, b"x", 10**15 + 1),
            (b"x", b"x", 1, b"x", "1"),
            (b"x", b"x", 1, b"x"),
            (b"x" * (port.MAX_BATCH_BYTES + 1), b"x", 1, b"x", 1),
        ],
        ids=lambda args: repr(args)[:60],
    )
    async def test_wrong_values_are_refused(self, here: Place, args: tuple[Any, ...]) -> None:
        await here.create()
        await self._call(here, _ADD, b"x", b"x", 1, b"x", 10**12)
        before = await here.state()

        with pytest.raises(InvalidInputError):
            await self._call(here, _ADD, *args)
        assert await here.state() == before

    @pytest.mark.parametrize("value", [port.NOW, port.NEW_INCARNATION, [b"x"], "x", 1.5, True])
    async def test_a_call_brings_plain_values_only(self, here: Place, value: Any) -> None:
        await here.create(Put("m", {"n": b"5"}))
        looks = Plan("contract looks", port.RequireAtMost("m", "n", Arg(0)), port.Get("m"))
        writes = Plan("contract writes", Put("m", {"new": Arg(0)}))

        for plan in (looks, writes):
            with pytest.raises(InvalidInputError):
                await self._call(here, plan, value)
        assert await self._call(here, looks, 5) == [None, {"n": b"5"}]
        assert await here.map() == {"n": b"5"}

    async def test_large_guards_and_first_values_do_not_lift_the_limit_of_a_batch(
        self, here: Place
    ) -> None:
        await here.create(Put("m", {"old": b"1"}))
        plan = Plan(
            "contract large", port.RequireEquals("m", "old", Arg(0)), Put("m", {"x": Arg(1)})
        )
        with pytest.raises(InvalidInputError):
            await self._call(here, plan, b"x" * port.MAX_BATCH_BYTES, b"y")
        with pytest.raises(port.GuardFailed):
            await self._call(here, plan, b"x" * (port.MAX_BATCH_BYTES // 2), b"y")
        with pytest.raises(InvalidInputError):
            await self._call(here, plan, b"1", b"y" * (port.MAX_BATCH_BYTES + 1))
        assert await here.map() == {"old": b"1"}

    @pytest.mark.parametrize("place", [(-1, "s:one"), (port.BUCKETS, "s:one"), (7, "a/b"), (7, "")])
    async def test_a_call_to_nowhere_is_refused(self, here: Place, place: tuple[int, str]) -> None:
        await here.create()
        await self._call(here, _ADD, b"x", b"x", 1, b"x", 1)

        with pytest.raises(InvalidInputError):
            await here.store.apply(Call(_ADD, *place, (b"x", b"x", 1, b"x", 1)))

    async def test_calls_at_the_same_time_keep_their_values(self, here: Place) -> None:
        places = [here.at(f"s:{number}") for number in range(30)]
        for place in places:
            await place.create()

        found = await together(
            *(
                self._call(place, _ADD, b"%d" % n, b"-%d" % n, n, b"", 10**12)
                for n, place in enumerate(places)
            )
        )

        for number, (place, results) in enumerate(zip(places, found, strict=True)):
            assert results[2] == [1, number]
            assert (await place.log()).items == [b"%d" % number]
            assert (await place.map())["last"] == b"-%d" % number

    @staticmethod
    async def _call(place: Place, plan: Plan, *args: Any) -> list[Any]:
        results = await place.store.apply(Call(plan, place.bucket, place.group, args))
        assert results is not None
        return results


class LifeContract:
    """`capabilities`, `ping` and `close`."""

    async def test_a_store_says_what_it_is(self, store: port.Store) -> None:
        name, durable, expires, shared = store.capabilities

        assert isinstance(name, str)
        assert name
        assert {type(durable), type(expires), type(shared)} == {bool}

    async def test_a_store_that_works_answers(self, store: port.Store) -> None:
        await store.ping()

    async def test_a_deadline_that_is_far_away_changes_nothing(self, here: Place) -> None:
        await here.create()
        batch = port.Batch(here.bucket, here.group, (Incr("m", {"n": 1}),))

        assert await here.store.apply(batch, timeout=30.0) == [[1]]

    async def test_a_closed_store_takes_nothing(self, here: Place) -> None:
        await here.create(Put("m", {"a": b"1"}))
        await here.store.close()
        await here.store.close()

        with pytest.raises(LifecycleError):
            await here.map()
        with pytest.raises(LifecycleError):
            await here.one(Put("m", {"a": b"2"}))

    async def test_closing_waits_for_what_is_under_way(self, here: Place) -> None:
        await here.create()
        tasks = [asyncio.create_task(here.one(Incr("m", {"n": 1}))) for _ in range(10)]
        await asyncio.sleep(0)
        await here.store.close()

        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, list | LifecycleError), result
