"""Guards: what a batch requires of the state before it."""

# ruff: noqa: D102, PLR2004, S101 - a test's name says what it holds
from __future__ import annotations

from typing import Any

import pytest

from aiecs.core.interface import store as port
from aiecs.core.interface.store import (
    MAX_INTEGER,
    NOW,
    Clock,
    Delete,
    Get,
    Incr,
    Put,
    RequireAtMost,
    RequireBefore,
    RequireEquals,
    RequireExists,
    RequireFields,
    now_plus,
)
from aiecs.testing.store.place import Place

_FIELDS = {"a": b"1", "ten": b"10", "minus": b"-4", "text": b"x", "empty": b""}
_HOLD: list[port.Op] = [
    RequireExists(""),
    RequireExists("m"),
    RequireExists("n", exists=False),
    RequireEquals("m", "a", b"1"),
    RequireEquals("m", "empty", b""),
    RequireEquals("m", "absent", None),
    RequireEquals("n", "a", None),
    RequireEquals("", "user", b"u"),
    RequireEquals("", "absent", None),
    RequireAtMost("m", "ten", 10),
    RequireAtMost("m", "ten", MAX_INTEGER),
    RequireAtMost("m", "ten", NOW),
    RequireAtMost("m", "minus", -4),
    RequireFields("m", ("a", "empty", "text")),
    RequireFields("", ("user",)),
    RequireBefore(MAX_INTEGER),
]
_FAIL: list[tuple[port.Op, Any]] = [
    (RequireExists("", exists=False), None),
    (RequireExists("m", exists=False), None),
    (RequireExists("n"), None),
    (RequireEquals("m", "a", b"2"), b"1"),
    (RequireEquals("m", "a", b""), b"1"),
    (RequireEquals("m", "a", None), b"1"),
    (RequireEquals("m", "empty", None), b""),
    (RequireEquals("m", "absent", b""), None),
    (RequireEquals("n", "a", b"1"), None),
    (RequireEquals("", "user", b"other"), b"u"),
    (RequireAtMost("m", "ten", 9), b"10"),
    (RequireAtMost("m", "ten", -10), b"10"),
    (RequireAtMost("m", "minus", -5), b"-4"),
    (RequireAtMost("m", "absent", 5), None),
    (RequireAtMost("n", "ten", 5), None),
    (RequireFields("m", ("x", "a", "w", "text")), ["x", "w"]),
    (RequireFields("n", ("a",)), ["a"]),
    (RequireFields("", ("thread", "user")), ["thread"]),
]


def _name(value: object) -> str:
    return repr(value) if isinstance(value, tuple) else ""


class GuardContract:
    """`RequireExists`, `-Equals`, `-AtMost`, `-Fields` and `-Before`."""

    @pytest.mark.parametrize("guard", _HOLD, ids=_name)
    async def test_a_guard_that_holds_lets_the_batch_pass(
        self, here: Place, guard: port.Op
    ) -> None:
        await here.create(Put("m", _FIELDS), Put("", {"user": b"u"}))

        assert await here.do(guard, Get("m", ("a",))) == [None, [b"1"]]
        assert await here.do(guard, Put("m", {"new": b"2"}), guard) == [None, True, None]
        assert await here.one(Get("m", ("new",))) == [b"2"]

    @pytest.mark.parametrize(("guard", "found"), _FAIL, ids=_name)
    async def test_a_guard_that_fails_names_itself_and_what_it_found(
        self, here: Place, guard: port.Op, found: object
    ) -> None:
        await here.create(Put("m", _FIELDS), Put("", {"user": b"u"}))
        before = await here.state()

        writing = await here.refused(Put("m", {"new": b"2"}), guard, Put("k", {"new": b"2"}))
        reading = await here.refused(Get("m"), Get("n"), guard)

        assert (type(writing), writing.operation, writing.found) == (port.GuardFailed, 1, found)
        assert (type(reading), reading.operation, reading.found) == (port.GuardFailed, 2, found)
        assert await here.state() == before

    async def test_the_first_guard_that_fails_is_named(self, here: Place) -> None:
        await here.create(Put("m", {"a": b"1"}))

        refusal = await here.refused(
            RequireEquals("m", "a", b"1"),
            RequireEquals("m", "a", b"2"),
            RequireExists("m", exists=False),
            Put("m", {"a": b"3"}, "abort"),
        )

        assert (refusal.operation, refusal.found) == (1, b"1")

    async def test_guards_see_the_state_before_the_batch(self, here: Place) -> None:
        await here.create(Put("m", {"a": b"1"}))

        await here.do(
            Put("m", {"a": b"2", "b": b"5"}),
            Put("n", {"x": b"1"}),
            RequireEquals("m", "a", b"1"),
            RequireEquals("m", "b", None),
            RequireExists("n", exists=False),
        )
        await here.do(Delete("n"), RequireExists("n"), RequireFields("n", ("x",)))
        await here.do(Incr("m", {"b": 10}), RequireAtMost("m", "b", 5))

        assert await here.map() == {"a": b"2", "b": b"15"}

    async def test_a_guard_behind_the_writes_refuses_all_of_them(self, here: Place) -> None:
        await here.create(Put("m", {"a": b"1"}))
        before = await here.state()

        refusal = await here.refused(
            Put("m", {"a": b"2"}), Put("n", {"x": b"1"}), RequireEquals("m", "a", b"2")
        )

        assert (refusal.operation, refusal.found) == (2, b"1")
        assert await here.state() == before

    async def test_guards_see_an_absent_group_as_absent(self, here: Place) -> None:
        await here.do(
            RequireExists("", exists=False),
            RequireExists("m", exists=False),
            RequireEquals("", "~i", None),
            RequireEquals("m", "a", None),
        )

        assert (await here.refused(RequireExists(""))).operation == 0
        assert (await here.refused(RequireFields("m", ("a",)))).found == ["a"]

    async def test_guards_see_the_incarnation(self, here: Place) -> None:
        incarnation = await here.create()

        await here.do(RequireEquals("", "~i", incarnation), Put("m", {"a": b"1"}))
        refusal = await here.refused(RequireEquals("", "~i", b"other"), Put("m", {"a": b"2"}))

        assert refusal.found == incarnation
        assert await here.map() == {"a": b"1"}

    async def test_guards_on_bucket_keys(self, here: Place) -> None:
        bucket = here.at("")
        await bucket.do(Put("_m", {"lease": b"5"}))

        for place in (bucket, here):
            await place.do(RequireEquals("_m", "lease", b"5"), Put("_m", {"lease": b"5"}))
            refusal = await place.refused(RequireEquals("_m", "lease", b"6"), Delete("_m"))
            assert refusal.found == b"5"
            assert (await place.refused(RequireAtMost("_m", "lease", 4))).found == b"5"
            assert (await place.refused(RequireFields("_m", ("x",)))).found == ["x"]
            assert (await place.refused(RequireExists("_m", exists=False))).operation == 0

    @pytest.mark.parametrize("text", [b"", b"x", b"1.5", b"+1", b" 1", b"9007199254740992"])
    async def test_at_most_needs_an_integer(self, here: Place, text: bytes) -> None:
        await here.create(Put("m", {"n": text}))
        before = await here.state()

        with pytest.raises(port.CorruptField) as caught:
            await here.do(Put("m", {"x": b"1"}), RequireAtMost("m", "n", 5))

        assert caught.value.operation == 1
        assert await here.state() == before

    async def test_at_most_now_compares_with_the_clock_of_the_batch(self, here: Place) -> None:
        await here.create(Put("m", {"past": port.NOW, "future": now_plus(60_000_000)}))

        await here.do(RequireAtMost("m", "past", NOW))
        await here.do(RequireAtMost("m", "future", now_plus(60_000_000)))
        await here.refused(RequireAtMost("m", "future", NOW))
        await here.refused(RequireAtMost("m", "past", now_plus(-60_000_000)))

    async def test_before_refuses_when_the_clock_has_passed_the_time(self, here: Place) -> None:
        await here.create()
        past = await here.now() - 1

        refusal = await here.refused(RequireBefore(past), Put("m", {"a": b"1"}))
        await here.do(RequireBefore(past + 600_000_000), Put("m", {"b": b"1"}))

        assert (refusal.operation, refusal.found > past) == (0, True)
        assert await here.map() == {"b": b"1"}

    async def test_the_clock_is_in_microseconds_and_does_not_stand(self, here: Place) -> None:
        first, again = await here.do(Clock(), Clock())
        await here.wait_until(first + 1)

        assert first == again
        assert 1_600_000_000_000_000 < first < 4_000_000_000_000_000
        assert await here.now() > first
