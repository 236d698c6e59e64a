"""Batches that break a rule of the port are refused before anything happens."""

# ruff: noqa: D102, PLR2004, S101 - a test's name says what it holds
from __future__ import annotations

from typing import Any

import pytest

from aiecs.core.errors import InvalidInputError
from aiecs.core.interface import store as port
from aiecs.core.interface.store import (
    MAX_BATCH_BYTES,
    MAX_INTEGER,
    MAX_OPERATIONS,
    NOW,
    Append,
    Clock,
    Delete,
    Expire,
    Gather,
    Get,
    Incr,
    IndexCount,
    IndexDelete,
    IndexPut,
    IndexRange,
    Now,
    Put,
    Read,
    Receipt,
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
from aiecs.testing.store.place import Place

_TOO_MANY = MAX_OPERATIONS + 1
_TYPES: list[Any] = [
    Put("m", {"f": "text"}),
    Put("m", {"f": 5}),
    Put("m", {"f": None}),
    Put("m", {"f": bytearray(b"x")}),
    Put("m", {"f": port.Arg(0)}),
    Put("m", {"f": port.NEW_INCARNATION}),
    Put("m", {"f": Now("soon")}),  # type: ignore[arg-type]
    Put("m", {"f": Now(10**16)}),
    Put("m", {5: b"x"}),  # type: ignore[dict-item]
    Put("m", {b"f": b"x"}),  # type: ignore[dict-item]
    Put("m", {"\ud800": b"x"}),
    Put("m", {}),
    Put("m", [("f", b"x")]),  # type: ignore[arg-type]
    Put("m", {"f": b"x"}, "maybe"),  # type: ignore[arg-type]
    Put(5, {"f": b"x"}),  # type: ignore[arg-type]
    Put("\udfff", {"f": b"x"}),
    Put("m", {"~f": b"x"}),
    Put("", {"~x": b"1"}),
    Put("", {"~bl": b"1"}),
    Put("m", {"~i": port.NEW_INCARNATION}, "abort"),
    Put("", {"~i": port.NEW_INCARNATION}),
    Put("", {"~i": NOW}, "abort"),
    Incr("m", {"f": 1.0}),
    Incr("m", {"f": True}),
    Incr("m", {"f": "1"}),
    Incr("m", {"f": MAX_INTEGER + 1}),
    Incr("m", {"f": -MAX_INTEGER - 1}),
    Incr("m", {}),
    Incr("m", {"~x": 1}),
    Delete("m", ()),
    Delete("m", ("~i",)),
    Delete("m", (5,)),  # type: ignore[arg-type]
    Delete("l", ("f",), "log"),
    Delete("m", kind="list"),  # type: ignore[arg-type]
    Delete("", kind="log"),
    Append("l", ()),
    Append("l", ("text",)),
    Append("l", (b"x", None)),
    Append("l", (port.Arg(0),)),
    Append("l", b"xyz"),  # type: ignore[arg-type]
    Append("", (b"x",)),
    Append("l", (b"x",), ("stamp",)),  # type: ignore[arg-type]
    Append("l", (b"x",), (port.NEW_INCARNATION,)),  # type: ignore[arg-type]
    Append("l", (b"x",), first=-1),
    Append("l", (b"x",), first=MAX_INTEGER - 10**15 + 1),
    Append("l", (b"x",), first=1.0),  # type: ignore[arg-type]
    Append("l", (b"x",), epoch=-1),
    Append("l", (b"x",), epoch="1"),  # type: ignore[arg-type]
    Trim("l"),
    Trim("l", keep=1, before=1),
    Trim("l", keep=-1),
    Trim("l", before="1"),  # type: ignore[arg-type]
    Trim("", keep=1),
    Truncate("l", None),  # type: ignore[arg-type]
    Truncate("l", MAX_INTEGER + 1),
    Redact("l", ()),
    Redact("l", ("1",)),  # type: ignore[arg-type]
    Redact("l", (1,), "text"),  # type: ignore[arg-type]
    IndexPut("i", {}),
    IndexPut("i", {"a": 1.5}),
    IndexPut("i", {"a": b"1"}),
    IndexPut("i", {"a": MAX_INTEGER + 1}),
    IndexPut("i", {5: 1}),  # type: ignore[dict-item]
    IndexPut("i", {"\ud800": 1}),
    IndexPut("i", {"a": 1}, greater="yes"),  # type: ignore[arg-type]
    IndexPut("", {"a": 1}),
    IndexDelete("i", ()),
    IndexDelete("i", (b"a",)),  # type: ignore[arg-type]
    IndexDelete("i", ("a",), at_most="1"),  # type: ignore[arg-type]
    Expire(0),
    Expire(-1),
    Expire(10**15 + 1),
    Expire(1.5),
    Expire(10, (("set", "m"),)),  # type: ignore[arg-type]
    Expire(10, (("map", ""),)),
    Expire(10, (("log", "_l"),)),
    Get("m", ()),
    Get("m", (5,)),  # type: ignore[arg-type]
    Get("m", "f"),  # type: ignore[arg-type]
    Read("l", limit=-1),
    Read("l", start="1"),
    Read("l", base=0.5),
    Read(""),
    IndexRange("i", limit=0),
    Gather("i", ()),
    Gather("i", ("",)),
    Gather("_i", ("m",)),
    Gather("i", ("m", "_m")),
    Gather("i", ("m",), links=""),
    Gather("i", ("m",), limit=0),
    Gather("i", ("m",), limit=1001),
    Gather("i", ("m",), prefix=b"a"),  # type: ignore[arg-type]
    Gather("i", ("m",), after=5),  # type: ignore[arg-type]
    Gather("i", ("m",), members=(5,)),  # type: ignore[arg-type]
    Gather("i", ("m",), members="ab"),  # type: ignore[arg-type]
    Gather("i", ("m",), reverse=1),  # type: ignore[arg-type]
    Gather("i", ("m",), known=tuple(map(str, range(1001)))),
    IndexRange("i", low="1"),  # type: ignore[arg-type]
    IndexRange("i", cursor=("a",)),  # type: ignore[arg-type]
    IndexRange("i", prefix=b"a"),  # type: ignore[arg-type]
    IndexCount("i", high=1.5),  # type: ignore[arg-type]
    RequireExists("m", exists=1),  # type: ignore[arg-type]
    RequireEquals("m", "f", "text"),
    RequireEquals("m", 5, b"x"),  # type: ignore[arg-type]
    RequireAtMost("m", "f", "5"),
    RequireAtMost("m", "f", None),
    RequireFields("m", ()),
    RequireFields("m", "f"),  # type: ignore[arg-type]
    RequireBefore("now"),
    Result(0),
    None,
    "Get",
    ("m", None),
]
_RULES: dict[str, tuple[port.Op, ...]] = {
    "a log is read beside writes": (Put("m", {"a": b"1"}), Read("l")),
    "an index is read beside writes": (IndexRange("i"), Put("m", {"a": b"1"})),
    "things are gathered beside writes": (Gather("i", ("m",)), Put("m", {"a": b"1"})),
    "an index is counted beside writes": (IndexCount("i"), Put("m", {"a": b"1"})),
    "a field is put twice": (Put("m", {"a": b"1"}), Put("m", {"a": b"2"})),
    "a field is put and counted": (Put("m", {"a": b"1"}), Incr("m", {"a": 1})),
    "a field is put and deleted": (Put("m", {"a": b"1"}), Delete("m", ("a",))),
    "a field is deleted twice": (Delete("m", ("a", "a")),),
    "a map is written and deleted": (Put("m", {"a": b"1"}), Delete("m")),
    "a map is deleted and written": (Delete("m"), Put("m", {"a": b"1"})),
    "a map is deleted twice": (Delete("m"), Delete("m")),
    "a log is appended to and deleted": (Append("l", (b"x",)), Delete("l", kind="log")),
    "a log is deleted and appended to": (Delete("l", kind="log"), Append("l", (b"x",))),
    "a log is trimmed twice": (Trim("l", keep=1), Trim("l", keep=0)),
    "a log is trimmed and appended to": (Trim("l", keep=1), Append("l", (b"x",))),
    "a log is appended to and cut": (Append("l", (b"x",)), Truncate("l", 5)),
    "a log is appended to and blanked": (Append("l", (b"x",)), Redact("l", (5,))),
    "a log is cut and appended to": (Truncate("l", 5), Append("l", (b"x",))),
    "a log is cut and blanked": (Truncate("l", 5), Redact("l", (5,))),
    "a member is put twice": (IndexPut("i", {"a": 1}), IndexPut("i", {"a": 2})),
    "a member is put and deleted": (IndexPut("i", {"a": 1}), IndexDelete("i", ("a",))),
    "an index is put to and deleted": (IndexPut("i", {"a": 1}), Delete("i", kind="index")),
    "the expiry is set twice": (Expire(5), Expire(6)),
    "a group is deleted and expires": (Delete(""), Expire(5)),
    "a group is deleted and logged to": (Delete(""), Append("l", (b"x",))),
    "a group is deleted and a map put": (Put("m", {"a": b"1"}), Delete("")),
    "a group is deleted and indexed": (IndexPut("i", {"a": 1}), Delete("")),
    "a result of a later operation": (Put("m", {"a": Result(1)}), Append("l", (b"x",))),
    "a result of itself": (Append("l", (b"x",), (Result(0),)),),
    "a result of a Put": (Put("m", {"a": b"1"}), Put("m", {"b": Result(0)})),
    "a result that Incr does not have": (Incr("m", {"a": 1}), Put("m", {"b": Result(0, 1)})),
    "a result that Append does not have": (Append("l", (b"x",)), Put("m", {"a": Result(0, 1)})),
    "a result before the batch": (Append("l", (b"x",)), Put("m", {"b": Result(-1)})),
    "no operation": (),
    "too many operations": (Clock(),) * _TOO_MANY,
    "too many fields": (Put("m", {str(n): b"" for n in range(_TOO_MANY)}),),
    "too many counters": (Incr("m", {str(n): 1 for n in range(_TOO_MANY)}),),
    "too many items": (Append("l", (b"",) * _TOO_MANY),),
    "too many members": (IndexPut("i", {str(n): n for n in range(_TOO_MANY)}),),
    "too large a value": (Put("m", {"a": b"x" * (MAX_BATCH_BYTES + 1)}),),
    "too large an item": (Append("l", (b"x" * (MAX_BATCH_BYTES + 1),)),),
    "too large a sum": (
        Put("m", {"a": b"x" * (MAX_BATCH_BYTES // 2)}),
        Append("l", (b"x" * (MAX_BATCH_BYTES // 2), b"x")),
    ),
}  # fmt: skip
_PLACES: list[Any] = [
    port.Batch(-1, "s:one", (Clock(),)),
    port.Batch(port.BUCKETS, "s:one", (Clock(),)),
    port.Batch("7", "s:one", (Clock(),)),  # type: ignore[arg-type]
    port.Batch(7.0, "s:one", (Clock(),)),  # type: ignore[arg-type]
    port.Batch(7, "_one", (Clock(),)),
    port.Batch(7, "s:a/b", (Clock(),)),
    port.Batch(7, "\ud800", (Clock(),)),
    port.Batch(7, b"s:one", (Clock(),)),  # type: ignore[arg-type]
    port.Batch(7, None, (Clock(),)),  # type: ignore[arg-type]
    port.Batch(7, "", (Get("m"),)),
    port.Batch(7, "", (Put("m", {"a": b"1"}),)),
    port.Batch(7, "", (Get(""),)),
    port.Batch(7, "", (Expire(5),)),
]
_RECEIPTS: list[Any] = [
    Receipt("w", -1),
    Receipt("w", MAX_INTEGER + 1),
    Receipt("w", "1"),  # type: ignore[arg-type]
    Receipt("w", 1.0),  # type: ignore[arg-type]
    Receipt(5, 1),  # type: ignore[arg-type]
    Receipt("", 1),
    Receipt("w!", 1),
    Receipt("\ud800", 1),
]


def _name(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text.encode("ascii", "backslashreplace").decode()[:60]


class LimitContract:
    """`InvalidInputError`, and how much a batch may hold."""

    @pytest.mark.parametrize("kind", sorted({type(op).__name__ for op in _TYPES}))
    async def test_a_malformed_operation_is_refused(self, here: Place, kind: str) -> None:
        await here.create(Put("m", {"f": b"1"}), Append("l", (b"x",)), IndexPut("i", {"a": 1}))
        before = await here.state()

        for op in (op for op in _TYPES if type(op).__name__ == kind):
            for batch in [(op,), (Put("_m", {"new": b"1"}), op, Put("n", {"new": b"1"}))]:
                with pytest.raises(InvalidInputError):
                    await here.send(*batch)
            assert await here.state() == before, op

    @pytest.mark.parametrize("rule", _RULES)
    async def test_a_batch_that_breaks_a_rule_is_refused(self, here: Place, rule: str) -> None:
        await here.create(Put("m", {"f": b"1"}), Append("l", (b"x",)), IndexPut("i", {"a": 1}))
        before = await here.state()

        with pytest.raises(InvalidInputError):
            await here.send(*_RULES[rule])
        assert await here.state() == before

    @pytest.mark.parametrize("batch", _PLACES, ids=_name)
    async def test_a_place_that_cannot_be_is_refused(self, here: Place, batch: port.Batch) -> None:
        await here.create()
        before = await here.state()

        with pytest.raises(InvalidInputError):
            await here.store.apply(batch)
        assert await here.state() == before

    @pytest.mark.parametrize("receipt", _RECEIPTS, ids=_name)
    async def test_a_receipt_that_cannot_be_is_refused(self, here: Place, receipt: Receipt) -> None:
        await here.create()

        with pytest.raises(InvalidInputError):
            await here.send(Put("m", {"a": b"1"}), receipt=receipt)
        assert await here.map() == {}

    async def test_a_refused_batch_is_an_error_of_the_caller(self, here: Place) -> None:
        with pytest.raises(ValueError, match="Trim"):
            await here.send(Trim("l"))

    async def test_the_last_allowed_number_of_operations(self, here: Place) -> None:
        await here.create()
        puts = [Put(f"m{n % 5}", {str(n): b"%d" % n}) for n in range(MAX_OPERATIONS)]

        assert await here.do(*puts) == [True] * MAX_OPERATIONS
        found = await here.do(*(Get(op.key, tuple(op.fields)) for op in puts))
        assert found == [[b"%d" % n] for n in range(MAX_OPERATIONS)]

    async def test_a_thousand_operations_of_different_kinds(self, here: Place) -> None:
        await here.create()
        kinds = (
            lambda n: Put("m", {str(n): b"%d" % n}),
            lambda n: Append("l", (b"%d" % n,)),
            lambda n: Incr("n", {str(n): n}),
            lambda n: IndexPut("i", {str(n): n}),
        )
        await here.do(*(kinds[n % 4](n) for n in range(MAX_OPERATIONS)))

        assert len(await here.map()) == 250
        assert (await here.log()).items == [b"%d" % n for n in range(1, 1000, 4)]
        assert (await here.map("n"))["998"] == b"998"
        assert (await here.index())[-1] == ("999", 999)

    async def test_the_last_allowed_size(self, here: Place) -> None:
        await here.create()
        half = MAX_BATCH_BYTES // 2 - 512
        value, item = b"v" * half, b"\x00\xff" * (half // 2)
        await here.do(Put("m", {"a": value}), Append("l", (item,)))

        assert await here.one(Get("m", ("a",))) == [value]
        assert (await here.log()).items == [item]

    async def test_scores_times_and_bounds_may_be_extreme(self, here: Place) -> None:
        await here.create(Append("l", (b"x",)), Put("m", {"n": b"1"}))
        top = MAX_INTEGER
        log = await here.log()

        assert await here.do(
            *(Read("l", start=-top, stop=top, limit=top), Read("l", start=top)),
            *(IndexRange("i", low=-top, high=top, limit=top), IndexCount("i", -top, top)),
            *(RequireBefore(top), RequireAtMost("m", "n", top)),
        ) == [log, log._replace(first=log.next, items=[]), [], 0, None, None]
        assert await here.do(Trim("l", before=-top), Truncate("k", top), Expire(10**15)) == [
            0, 0, None,
        ]  # fmt: skip
        assert await here.do(Trim("l", keep=top), Redact("k", (-top, top))) == [0, 0]
