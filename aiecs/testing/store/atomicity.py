"""All or nothing: whatever goes wrong, wherever in the batch, leaves nothing behind."""

# ruff: noqa: D102, PLR2004, S101 - a test's name says what it holds
from __future__ import annotations

import asyncio

import pytest

from aiecs.core.interface import store as port
from aiecs.core.interface.store import (
    INCARNATION,
    MAX_INTEGER,
    MAX_RECORD_BYTES,
    NOW,
    Append,
    Delete,
    Expire,
    Extend,
    Get,
    Incr,
    IndexDelete,
    IndexPut,
    Put,
    Read,
    Redact,
    RequireAtMost,
    RequireBefore,
    RequireEquals,
    RequireExists,
    RequireFields,
    Result,
    Trim,
    Truncate,
)
from aiecs.testing.store.place import Place, numbered, together

_SETUP: tuple[port.Op, ...] = (
    Put("m", {"a": b"1", "n": b"5", "text": b"x", "top": b"%d" % MAX_INTEGER}),
    Put("n", {"b": b"2"}),
    Append("l", numbered(5)),
    Append("k", numbered(5), first=100),
    Append("_l", numbered(5)),
    IndexPut("i", {"a": 1, "b": 2}),
    Expire(10**12),
)
# One of every kind of write, each on parts of its own.
_WRITES: tuple[port.Op, ...] = (
    Append("_l", (b"event",), (NOW, INCARNATION)),
    Put("m", {"a": b"new", "c": b"new"}),
    Put("", {"head": NOW}),
    Incr("m", {"n": 1}),
    Put("_m", {"counted": Result(3), "sequence": Result(0)}),
    Append("l", (b"new",)),
    Trim("l", keep=2),
    Truncate("k", 103),
    Delete("n"),
    Delete("m", ("text",)),
    IndexPut("i", {"c": 3}),
    IndexDelete("i", ("a",)),
    Put("", {"skipped": b"new"}, "skip"),
    Expire(10**10),
    Extend("m", {"grown": b"new"}),
)
_REDACTING: tuple[port.Op, ...] = (
    Put("m", {"a": b"new"}),
    Redact("k", (100, 101)),
    Put("n", {"b": b"new"}),
)
_FAILURES: dict[str, port.Op] = {
    "RequireExists": RequireExists("absent"),
    "RequireEquals": RequireEquals("m", "a", b"other"),
    "RequireAtMost": RequireAtMost("m", "n", 4),
    "RequireFields": RequireFields("m", ("a", "absent")),
    "RequireBefore": RequireBefore(1),
    "abort": Put("m", {"top": b"0"}, "abort"),
    "overflow": Incr("m", {"fresh": 1, "top": 1}),
    "too long": Extend("m", {"fresh": b"x", "more": b"x" * (MAX_RECORD_BYTES + 1)}),
}
_CORRUPTIONS: dict[str, port.Op] = {
    "Incr": Incr("other", {"fresh": 1, "text": 1}),
    "RequireAtMost": RequireAtMost("other", "text", 5),
}


class AtomicityContract:
    """Nothing of a batch that fails, and nothing of another between the parts of one."""

    async def test_the_batch_of_all_writes_is_applied_when_nothing_fails(self, here: Place) -> None:
        incarnation = await here.create(*_SETUP)
        results = await here.do(*_WRITES)

        now = int((await here.one(Get("", ("head",))))[0])
        log = await here.log()
        assert results == [
            (await here.log("_l")).next - 1,
            *(True, True, [6], True),
            *(log.next - 1, 4, 2, 1, 1, True, 1, True, None, True),
        ]
        assert (await here.log("_l")).items[-1] == b"%d %s\nevent" % (now, incarnation)
        assert log.items == [b"item 4", b"new"]
        assert (await here.log("k")).items == list(numbered(3))
        assert await here.index() == [("b", 2), ("c", 3)]
        assert await here.map("_m") == {"counted": b"6", "sequence": b"%d" % results[0]}

    @pytest.mark.parametrize("failure", _FAILURES)
    async def test_a_refusal_at_any_position_leaves_nothing_behind(
        self, here: Place, failure: str
    ) -> None:
        await here.create(*_SETUP)
        before = await here.state()

        for position in range(len(_WRITES) + 1):
            batch = _with(_WRITES, position, _FAILURES[failure])
            refusal = await here.refused(*batch)
            assert refusal.operation == position
            assert await here.state() == before, f"failed at {position}"

    @pytest.mark.parametrize("failure", _CORRUPTIONS)
    async def test_a_corrupt_field_at_any_position_leaves_nothing_behind(
        self, here: Place, failure: str
    ) -> None:
        await here.create(*_SETUP, Put("other", {"text": b"x"}))
        before = await here.state()

        for position in range(len(_WRITES) + 1):
            batch = _with(_WRITES, position, _CORRUPTIONS[failure])
            with pytest.raises(port.CorruptField) as caught:
                await here.do(*batch)
            assert caught.value.operation == position
            assert await here.state() == before, f"failed at {position}"

    async def test_a_refusal_beside_redactions_leaves_nothing_behind(self, here: Place) -> None:
        await here.create(*_SETUP)
        before = await here.state()

        for position in range(len(_REDACTING) + 1):
            await here.refused(*_with(_REDACTING, position, RequireExists("absent")))
            assert await here.state() == before, f"failed at {position}"

    async def test_a_missing_group_leaves_nothing_of_the_bucket_behind(self, here: Place) -> None:
        before = await here.state()

        assert type(await here.refused(*_WRITES)) is port.GroupMissing
        assert await here.state() == before

    async def test_a_refused_creation_creates_nothing(self, here: Place) -> None:
        before = await here.state()

        await here.refused(
            Put("", {"~i": port.NEW_INCARNATION}, "abort"), *_SETUP, RequireExists("absent")
        )

        assert await here.state() == before
        assert type(await here.refused(Put("m", {"a": b"1"}))) is port.GroupMissing

    # --- concurrency ----------------------------------------------------------------------------

    async def test_no_increment_is_lost(self, here: Place) -> None:
        await here.create()

        found = await together(
            *(here.do(Incr("m", {"n": 1, "t": 3}), Append("l", (b"x",))) for _ in range(100))
        )

        assert sorted(counts[0] for counts, _ in found) == list(range(1, 101))
        assert await here.map() == {"n": b"100", "t": b"300"}
        log = await here.log()
        assert sorted(sequence for _, sequence in found) == list(range(log.base, log.next))

    async def test_readers_never_see_half_a_batch(self, here: Place) -> None:
        # Batches of different length, so that readers and writers do not move in lockstep.
        await here.create(Put("m", {"a": b"0"}), Put("n", {"b": b"0"}))

        async def write(length: int) -> None:
            for number in range(15):
                value = b"%d.%d" % (length, number)
                padding = [Incr("", {f"p{i}": 1}) for i in range(length)]
                await here.do(
                    Put("m", {"a": value}), Append("l", (b"x",)), *padding,
                    Append("k", (b"x",)), Put("n", {"b": value}),
                )  # fmt: skip

        async def read(length: int) -> None:
            for _ in range(15):
                padding = [Get("", ("p0",))] * length
                a, l_, *_, k, b = await here.do(
                    Get("m", ("a",)), Read("l"), *padding, Read("k"), Get("n", ("b",))
                )
                assert (a, len(l_.items)) == (b, len(k.items))

        await together(*(act(length) for length in range(1, 6) for act in (write, read)))
        assert len((await here.log("k")).items) == 75

    async def test_guards_and_writes_are_one(self, here: Place) -> None:
        await here.create(Put("m", {"owner": b""}))

        async def claim(name: bytes) -> bool:
            try:
                await here.do(RequireEquals("m", "owner", b""), Put("m", {"owner": name}))
            except port.GuardFailed:
                return False
            return True

        names = [b"claimant %d" % number for number in range(30)]
        won = await together(*map(claim, names))

        assert sum(won) == 1
        assert await here.map() == {"owner": names[won.index(True)]}

    async def test_one_of_many_creates_the_group(self, here: Place) -> None:
        create = Put("", {"~i": port.NEW_INCARNATION}, "skip")

        results = await together(*(here.do(create, Append("l", (b"x",))) for _ in range(30)))

        assert sum(created for created, _ in results) == 1
        assert len((await here.log()).items) == 30

    async def test_a_caller_that_gives_up_disturbs_no_other(self, here: Place) -> None:
        await here.create()
        tasks = [
            asyncio.create_task(here.do(Incr("m", {"n": 1}), Append("l", (b"%d" % number,))))
            for number in range(40)
        ]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        # Those given up may still be on their way: a batch behind them has passed them all.
        await here.do(Incr("m", {"end": 1}))

        log = await here.log()
        for number, result in list(enumerate(results))[1::2]:
            assert isinstance(result, list)
            assert log.items[result[1] - log.base] == b"%d" % number
        assert (await here.map())["n"] == b"%d" % len(log.items)
        assert 20 <= len(log.items) <= 40
        assert len(set(log.items)) == len(log.items)


def _with(ops: tuple[port.Op, ...], position: int, failing: port.Op) -> tuple[port.Op, ...]:
    """`ops` with one more at a position; references to results move along."""
    moved = [_shift(op, position) for op in ops]
    return (*moved[:position], failing, *moved[position:])


def _shift(op: port.Op, position: int) -> port.Op:
    if type(op) is Put and any(type(value) is Result for value in op.fields.values()):
        fields = {
            name: Result(value.operation + (value.operation >= position))
            for name, value in op.fields.items()
        }
        return op._replace(fields=fields)
    return op
