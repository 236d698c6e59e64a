from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime
from enum import Enum, IntEnum, StrEnum
from typing import NamedTuple

import pytest

from aiecs.core.codec import check_json, dump_json, load_json
from aiecs.core.errors import CorruptRecordError, InvalidInputError


class Colour(StrEnum):
    RED = "red"


class Named(str, Enum):  # noqa: UP042 - as older code has them
    A = "a"


class Level(IntEnum):
    HIGH = 3


class Ratio(float):
    pass


class Point(NamedTuple):
    x: int
    y: int


def test_plain_values_come_back_as_the_very_same_object() -> None:
    value = {"a": [1, 2.5, None, True, "é", {"b": []}], "~": 1, "": [0.5] * 40}

    assert check_json(value, "metadata") is value


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"r": (1, (2,))}, {"r": [1, [2]]}),
        ({"c": Colour.RED}, {"c": "red"}),
        ({"c": Named.A}, {"c": "a"}),
        ({Colour.RED: 1}, {"red": 1}),
        ({"l": Level.HIGH}, {"l": 3}),
        ({"p": Ratio(0.5)}, {"p": 0.5}),
        ({"p": Point(1, 2)}, {"p": [1, 2]}),
        (OrderedDict(a=True, b=None), {"a": True, "b": None}),
    ],
)
def test_what_is_nearly_json_becomes_json(given: object, expected: dict) -> None:
    made = check_json(given, "metadata")

    assert made == expected
    assert load_json(dump_json(made)[0]) == expected
    assert {type(part) for part in flat(made)} <= {dict, list, str, int, float, bool, type(None)}


def flat(value: object) -> list:
    if isinstance(value, dict):
        return [value, *value, *(part for inner in value.values() for part in flat(inner))]
    if isinstance(value, list):
        return [value, *(part for inner in value for part in flat(inner))]
    return [value]


@pytest.mark.parametrize(
    ("bad", "place"),
    [
        ({1: 2}, "metadata has the key 1"),
        ({"a": [{None: 1}]}, r"metadata\['a'\]\[0\] has the key None"),
        ({"a": float("nan")}, r"metadata\['a'\] is nan"),
        ({"a": [1, float("inf")]}, r"metadata\['a'\]\[1\] is inf"),
        ({"a": [0.5] * 30 + [float("inf")]}, r"metadata\['a'\]\[30\] is inf"),
        ({"a": b"x"}, r"metadata\['a'\] is a bytes"),
        ({"a": {1}}, r"metadata\['a'\] is a set"),
        ({"a": datetime(2026, 1, 1, tzinfo=UTC)}, r"metadata\['a'\] is a datetime"),
        (object(), "metadata is a object"),
    ],
)
def test_anything_else_is_refused_with_its_place(bad: object, place: str) -> None:
    with pytest.raises(InvalidInputError, match=place):
        check_json(bad, "metadata")


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {"a": v}])
def test_64_levels_pass_and_65_do_not(wrap) -> None:
    value = 1
    for _ in range(64):
        value = wrap(value)
    check_json(value, "metadata")
    with pytest.raises(InvalidInputError, match="64 levels"):
        check_json(wrap(value), "metadata")


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", [list, tuple])
def test_endless_json_is_refused(kind: type) -> None:
    value = kind()
    for _ in range(60):
        value = kind([value] * 30)
    with pytest.raises(InvalidInputError, match="metadata has more than 9999 bytes"):
        check_json(value, "metadata", max_bytes=9999)


def test_dump_json_replaces_lone_surrogates_and_says_so() -> None:
    data, replaced = dump_json({"a\ud800": ["\udfff", 1]})

    assert (load_json(data), replaced) == ({"a\ufffd": ["\ufffd", 1]}, True)
    assert dump_json({"~": "é"}) == ('{"~":"é"}'.encode(), False)
    with pytest.raises(InvalidInputError, match="metadata has keys"):
        dump_json([dict.fromkeys(["\ud800", "\ud801"])], "metadata")


def test_an_integer_too_long_to_print_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="metadata"):
        dump_json(check_json({"a": 10**5000}, "metadata"), "metadata")
    assert load_json(dump_json(check_json(2**100, "n"))[0]) == 2**100


@pytest.mark.parametrize("data", [b"", b"{", b'"\xff"', b"[" * 100_000])
def test_load_json_reports_corrupt_bytes(data: bytes) -> None:
    with pytest.raises(CorruptRecordError):
        load_json(data)
