from __future__ import annotations

import dataclasses
import datetime as dt
from collections import deque
from dataclasses import InitVar, dataclass, field
from enum import Enum, Flag, StrEnum, auto
from typing import Any, NamedTuple

import pydantic
import pytest

from aiecs.core.codec import decode, encode, register_type
from aiecs.core.errors import CorruptRecordError, InvalidInputError

CALLS: list[str] = []


@register_type
class Colour(Enum):
    RED = object()
    BLUE = ["not", "hashable"]  # noqa: RUF012 - any value will do


class Kind(StrEnum):
    A = "a"


class Right(Flag):
    READ = auto()
    WRITE = auto()


class Point(NamedTuple):
    x: int
    y: Any = None


@register_type
@dataclass
class Invoice:
    number: int
    lines: tuple[Any, ...] = ()
    due: dt.date | None = None
    total: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        CALLS.append("post_init")
        self.number += 1
        self.total = len(self.lines)


@dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    tags: frozenset[str] = frozenset()


@dataclass
class Child(Invoice):
    pass


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    title: str
    when: dt.datetime | None = None
    inner: Frozen | None = None
    size: int = 3
    _secret: int = pydantic.PrivateAttr(default=1)

    @pydantic.field_validator("title")
    @classmethod
    def shout(cls, value: str) -> str:
        CALLS.append("validator")
        return value + "!"


for known in (Kind, Right, Point, Frozen, Model):
    register_type(known)


def round_trip(value: Any) -> Any:
    again = decode(encode(value))
    assert type(again) is type(value)
    return again


@pytest.mark.parametrize(
    "value",
    [Colour.RED, Kind.A, Right.READ, Right.READ | Right.WRITE, Right(0), Point(1, (2,)), Point(1)],
)
def test_enums_and_named_tuples(value: object) -> None:
    assert round_trip(value) == value
    assert round_trip({"deep": [(value,)]}) == {"deep": [(value,)]}


def test_they_may_be_keys_and_set_items() -> None:
    assert round_trip({Kind.A: 1, Frozen("a"): 2}) == {Kind.A: 1, Frozen("a"): 2}
    assert round_trip({Colour.RED, Point(1)}) == {Colour.RED, Point(1)}
    assert [type(key) for key in round_trip({Kind.A: 1})] == [Kind]


def test_a_dataclass_is_restored_field_by_field() -> None:
    value = Invoice(7, (1, Frozen("x", frozenset("ab"))), dt.date(2026, 1, 2))
    CALLS.clear()
    again = round_trip(value)

    assert again == value
    assert (again.number, again.total, type(again.lines[1])) == (8, 2, Frozen)
    assert CALLS == []


def test_a_dataclass_may_be_frozen_and_slotted() -> None:
    value = Frozen("n", frozenset({"t"}))

    assert round_trip(value) == value
    with pytest.raises(dataclasses.FrozenInstanceError):
        round_trip(value).name = "m"


def test_a_pydantic_model_is_restored_whole() -> None:
    value = Model(
        title="t", when=dt.datetime(2026, 1, 1, tzinfo=dt.UTC), inner=Frozen("f"), more=(1,)
    )
    value._secret = 5
    CALLS.clear()
    again = round_trip(value)

    assert again == value
    assert (again.title, again._secret, again.more, again.inner) == ("t!", 5, (1,), Frozen("f"))
    assert again.model_fields_set == value.model_fields_set == {"title", "when", "inner", "more"}
    assert CALLS == []


def test_a_pydantic_model_without_extras_can_still_be_used() -> None:
    class Plain(pydantic.BaseModel):
        a: int = pydantic.Field(alias="b")

    register_type(Plain)
    again = round_trip(Plain(b=1))

    assert again == Plain(b=1)
    assert again.model_copy(update={"a": 2}).a == 2
    assert again.model_dump() == {"a": 1}


def test_other_classes_bring_their_own_functions() -> None:
    register_type(deque, "deque", dump=lambda d: [list(d), d.maxlen], load=lambda p: deque(*p))
    value = deque([1, (2,)], maxlen=3)
    again = round_trip(value)

    assert (again, again.maxlen) == (value, 3)


@pytest.mark.parametrize(
    "build",
    [
        lambda: type("Plain", (), {}),
        lambda: dataclass(type("Loud", (Exception,), {"__annotations__": {"a": int}})),
        lambda: dataclass(type("Wide", (dict,), {"__annotations__": {"a": int}})),
    ],
)
def test_a_class_that_is_more_than_its_fields_needs_functions(build) -> None:
    with pytest.raises(InvalidInputError, match="needs dump and load"):
        register_type(build())


def test_one_function_without_the_other_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="together"):
        register_type(bytes, dump=list)
    with pytest.raises(InvalidInputError, match="together"):
        register_type(bytes, load=bytes)


def test_a_subclass_of_a_known_class_is_not_known() -> None:
    with pytest.raises(InvalidInputError, match=r"register_type\(Child\)"):
        encode(Child(1))


def test_a_name_belongs_to_one_class() -> None:
    register_type(dataclasses.make_dataclass("First", ["a"]), "test.taken")

    with pytest.raises(InvalidInputError, match=r"already the name of .*First"):
        register_type(dataclasses.make_dataclass("Second", ["a"]), "test.taken")


def test_a_class_defined_anew_takes_its_name_over() -> None:
    old = register_type(dataclasses.make_dataclass("Cell", ["a"]), "test.cell")
    data = encode(old(1))
    new = register_type(dataclasses.make_dataclass("Cell", ["a"]), "test.cell")

    assert decode(data) == new(1)
    assert type(decode(encode(old(2)))) is new


def test_the_name_is_what_is_stored() -> None:
    assert encode(Frozen("n")).startswith(b'{"~":["@')
    assert f"@{Frozen.__module__}.Frozen".encode() in encode(Frozen("n"))
    thing = register_type(dataclasses.make_dataclass("Thing", ["a"]), "billing.thing")
    assert encode(thing(1)) == b'{"~":["@billing.thing",{"a":1}]}'


def test_a_field_added_since_gets_its_default() -> None:
    old = register_type(dataclasses.make_dataclass("Grown", ["a"]), "test.grown")
    data = encode(old(1))
    new = register_type(
        dataclasses.make_dataclass(
            "Grown", ["a", ("b", int, 2), ("c", list, field(default_factory=list))]
        ),
        "test.grown",
    )

    assert decode(data) == new(1, 2, [])


def test_a_field_without_default_or_gone_is_corrupt_and_named() -> None:
    old = register_type(dataclasses.make_dataclass("Moved", ["a"]), "test.moved")
    data = encode(old(1))
    register_type(dataclasses.make_dataclass("Moved", ["a", "b"]), "test.moved")
    with pytest.raises(CorruptRecordError, match="lacks b"):
        decode(data)
    register_type(dataclasses.make_dataclass("Moved", ["b"]), "test.moved")
    with pytest.raises(CorruptRecordError, match="no field a"):
        decode(data)


def test_pydantic_fields_follow_the_same_rules() -> None:
    old = pydantic.create_model("Page", a=(int, ...))
    data = encode(register_type(old, "test.page")(a=1))
    new = register_type(
        pydantic.create_model("Page", a=(int, ...), b=(list, pydantic.Field(default_factory=list))),
        "test.page",
    )
    assert decode(data) == new(a=1, b=[])
    register_type(pydantic.create_model("Page", a=(int, ...), b=(int, ...)), "test.page")
    with pytest.raises(CorruptRecordError, match="lacks b"):
        decode(data)
    register_type(pydantic.create_model("Page", b=(int, 1)), "test.page")
    with pytest.raises(CorruptRecordError, match="no field a"):
        decode(data)


@pytest.mark.parametrize(
    "payload",
    [b"1", b"[]", b'{"number":1,"x":2}', b"{}", b'"RED"', b"null", b'{"fields":1}', b"[1,2,3]"],
)
@pytest.mark.parametrize("cls", [Invoice, Point, Model, Right])
def test_a_crafted_payload_is_corrupt(cls: type, payload: bytes) -> None:
    if (cls, payload) == (Right, b"1"):
        return
    with pytest.raises(CorruptRecordError):
        decode(
            b'{"~":["@%s.%s",%s]}' % (cls.__module__.encode(), cls.__qualname__.encode(), payload)
        )


def test_a_loader_of_the_application_that_fails_is_corrupt() -> None:
    cls = register_type(type("Odd", (), {}), "test.odd", dump=vars, load=lambda _: {}["gone"])
    with pytest.raises(CorruptRecordError, match=r"test\.odd"):
        decode(encode(cls()))


def test_depth_counts_inside_registered_classes() -> None:
    value: Any = None
    for _ in range(40):
        value = Point(value)
    with pytest.raises(InvalidInputError, match="64 levels"):
        encode(value)


def test_the_place_inside_a_registered_class_is_named() -> None:
    with pytest.raises(InvalidInputError, match=r"data\['i'\]\['Invoice'\]\['lines'\]\[0\] is a "):
        encode({"i": Invoice(1, (object(),))}, what="data")


def test_an_init_only_argument_does_not_hinder_restoring() -> None:
    @dataclass
    class Scaled:
        size: int = field(init=False)
        factor: InitVar[int] = 1

        def __post_init__(self, factor: int) -> None:
            self.size = factor * 10

    register_type(Scaled)
    again = round_trip(Scaled(factor=3))

    assert again.size == 30
