# ruff: noqa: DTZ001 - naive times are among what is stored
from __future__ import annotations

import sys
from collections import OrderedDict, defaultdict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest

from aiecs.core import codec
from aiecs.core.errors import CorruptRecordError, InvalidInputError

PARIS = ZoneInfo("Europe/Paris")


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth - 1):
        value = [value]
    return value


def spelled(value: object) -> str:
    """As repr, for values that == alone does not tell apart."""
    if isinstance(value, set | frozenset):
        return str(sorted(map(repr, value)))
    return hex(value) if isinstance(value, int) else repr(value)


@pytest.mark.parametrize(
    "value",
    [
        b"\x00\xff",
        bytearray(b"ab"),
        (1, (2, [3])),
        {1, "a"},
        frozenset({(1, 2)}),
        UUID(int=5),
        Decimal("-0.10"),
        Decimal("Infinity"),
        date(2026, 1, 2),
        time(1, 2, 3, 4),
        time(1, 2, tzinfo=UTC, fold=1),
        timedelta(days=-1, microseconds=1),
        complex(1, -0.0),
        datetime(2026, 1, 2, 3, 4, 5, 6),
        datetime(2026, 1, 2, tzinfo=UTC),
        datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-3, seconds=7))),
        2**63,
        -(2**200),
        10**5000,
        {1: "int", "1": "str", None: 0, (1, 2): [], b"k": 1, 1.5: 2},
        {"~": 1},
        {"~": ["tuple", [1]]},
        {"~": ["tuple", [1]], "b": 1},
        [{"~": {"~": "~"}}],
        {"a": {"b": [None, True, False, 0, -1, 1.5, "é\U0001f600\x00"]}},
        1e16,
        5e-324,
        "",
        None,
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_comes_back_as_it_was(value: object) -> None:
    again = codec.decode(codec.encode(value))

    assert again == value
    assert type(again) is type(value)
    assert spelled(again) == spelled(value)


def test_plain_json_is_stored_as_plain_json() -> None:
    value = {"a": [1, 2.5, None, True, "x"], "b": {}}

    assert codec.encode(value) == b'{"a":[1,2.5,null,true,"x"],"b":{}}'


def test_negative_zero_keeps_its_sign() -> None:
    assert str(codec.decode(codec.encode([-0.0]))[0]) == "-0.0"


@pytest.mark.parametrize("fold", [0, 1])
def test_a_zone_by_name_keeps_its_rules(fold: int) -> None:
    value = datetime(2026, 10, 25, 2, 30, tzinfo=PARIS, fold=fold)
    again = codec.decode(codec.encode(value))

    assert again.tzinfo is PARIS
    assert (again, again.fold, again.utcoffset()) == (value, fold, value.utcoffset())
    assert again + timedelta(days=200) == value + timedelta(days=200)


def test_a_naive_time_keeps_its_fold() -> None:
    value = datetime(2026, 10, 25, 2, 30, fold=1)
    again = codec.decode(codec.encode(value))

    assert (again, again.fold, again.tzinfo) == (value, 1, None)


def test_a_zone_unknown_here_keeps_the_instant() -> None:
    data = codec.encode(datetime(2026, 7, 1, tzinfo=PARIS)).replace(b"Europe/Paris", b"Nowhere")
    again = codec.decode(data)

    assert again == datetime(2026, 7, 1, tzinfo=PARIS)


def test_a_time_in_a_zone_of_changing_offset_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no fixed offset"):
        codec.encode(time(1, tzinfo=PARIS))


def test_equal_sets_give_equal_bytes() -> None:
    first, second = {"a", "b", "c", 1, (2,)}, set()
    for item in [(2,), 1, "c", "b", "a"]:
        second.add(item)

    assert codec.encode(first) == codec.encode(second)
    assert b'["a","b","c",1,' in codec.encode(first)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused_with_their_place(bad: float) -> None:
    for value in ({"a": [1, bad]}, {"a": [1.0] * 30 + [bad]}, {"a": ([0], bad)}):
        with pytest.raises(InvalidInputError, match=r"data\['a'\]\[\d+\] is .*not a finite"):
            codec.encode(value, what="data")
    with pytest.raises(InvalidInputError):
        codec.encode({bad: 1})
    with pytest.raises(InvalidInputError, match="finite"):
        codec.encode(complex(0, bad))


@pytest.mark.parametrize(
    "bad",
    [object(), Colour.RED, Level.HIGH, Text("a"), OrderedDict(a=1), defaultdict(int), print],
    ids=lambda bad: type(bad).__name__,
)
def test_an_unregistered_class_is_refused_with_what_to_do(bad: object) -> None:
    name = type(bad).__name__
    for value in ({"a": bad}, [[bad]], (bad,), {bad: 1} if bad.__hash__ else [bad]):
        with pytest.raises(InvalidInputError, match=rf"register_type\({name}\)"):
            codec.encode(value)


def test_64_levels_fit_and_65_do_not() -> None:
    assert codec.decode(codec.encode(nested(64))) == nested(64)
    assert codec.decode(codec.encode((nested(63),))) == (nested(63),)
    with pytest.raises(InvalidInputError, match="64 levels"):
        codec.encode(nested(65))
    with pytest.raises(InvalidInputError, match="64 levels"):
        codec.encode((nested(64),))


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list = []
    loop.append(loop)
    with pytest.raises(InvalidInputError, match="64 levels"):
        codec.encode(loop)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", [list, tuple])
def test_a_small_object_that_would_be_endless_json_is_refused_at_once(kind: type) -> None:
    value = kind()
    for _ in range(60):
        value = kind([value, value])
    with pytest.raises(InvalidInputError, match="too large"):
        codec.encode(value, max_bytes=100_000)


def test_the_size_limit_counts_bytes_of_the_result() -> None:
    assert len(codec.encode("é" * 10, max_bytes=22)) == 22
    with pytest.raises(InvalidInputError, match="state has 22 bytes; at most 21"):
        codec.encode("é" * 10, what="state", max_bytes=21)
    assert codec.encode([1, 2, 3], max_bytes=7) == b"[1,2,3]"
    assert codec.encode([], max_bytes=2) == b"[]"
    with pytest.raises(InvalidInputError, match="at most 20"):
        codec.encode((b"0123456789",), max_bytes=20)
    with pytest.raises(InvalidInputError):
        codec.encode("x" * codec.MAX_BYTES)


def test_lone_surrogates_are_replaced_and_reported() -> None:
    value = {"a\ud800": ["x\udfff", ("y\udc00",)], "ok": "é"}
    data, replaced = codec.encode_flagged(value)

    assert replaced
    assert codec.decode(data) == {"a\ufffd": ["x\ufffd", ("y\ufffd",)], "ok": "é"}
    assert codec.encode_flagged({"ok": "é", "t": (1,)}) == (
        codec.encode({"ok": "é", "t": (1,)}),
        False,
    )
    assert codec.encode_flagged(["\ud800"]) == (b'["\xef\xbf\xbd"]', True)


@pytest.mark.parametrize("keys", [["\ud800", "\ud801"], [("\ud800",), ("\ud801",)]])
def test_keys_that_cleaning_would_merge_are_refused(keys: list) -> None:
    value = dict.fromkeys(keys, 1)
    with pytest.raises(InvalidInputError, match="lone surrogates only"):
        codec.encode(value)
    with pytest.raises(InvalidInputError, match="lone surrogates only"):
        codec.encode(set(value))


def test_clean_text() -> None:
    assert codec.clean_text("héllo") == ("héllo", False)
    assert codec.clean_text("a\ud800b") == ("a\ufffdb", True)
    assert codec.clean_text("\udc00\ud800") == ("\ufffd\ufffd", True)
    assert codec.clean_text("\ufeffa\ud83d\ude00") == ("\ufeffa\U0001f600", True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"nope",
        b'"\xff"',
        b"1e999",
        b"[" * 100_000,
        b'{"~":["tuple",' * 200 + b"[]" + b"]}" * 200 + b"x",
        b'{"~":1}',
        b'{"~":["tuple"]}',
        b'{"~":["tuple",[],1]}',
        b'{"~":["tuple",[]],"a":1}',
        b'{"~":[1,[]]}',
        b'{"~":["tuple","ab"]}',
        b'{"~":["tuple",{"a":1}]}',
        b'{"~":["set",[[]]]}',
        b'{"~":["dict",[[1,2],[1,3]]]}',
        b'{"~":["dict",[[[],1]]]}',
        b'{"~":["dict",{"a":1}]}',
        b'{"~":["dict",[1]]}',
        b'{"~":["bytes","a"]}',
        b'{"~":["bytes","YQ==x"]}',
        b'{"~":["bytes",1]}',
        b'{"~":["uuid","x"]}',
        b'{"~":["uuid",1]}',
        b'{"~":["decimal","x"]}',
        b'{"~":["decimal",1.5]}',
        b'{"~":["datetime","yesterday"]}',
        b'{"~":["datetime",[1,2,3]]}',
        b'{"~":["datetime",["2026-01-01T00:00:00",[],0]]}',
        b'{"~":["datetime",["2026-01-01T00:00:00",null,7]]}',
        b'{"~":["date",5]}',
        b'{"~":["time","x"]}',
        b'{"~":["timedelta",[1e300]]}',
        b'{"~":["timedelta",["x"]]}',
        b'{"~":["complex",["1"]]}',
        b'{"~":["int",5]}',
        b'{"~":["int","zz"]}',
        b'{"~":["nonsense",[]]}',
        b'{"~":["@nobody.Knows",[]]}',
        b'{"~":["@builtins.eval","1"]}',
        b'[[{"a":{"~":["@os.system","true"]}}]]',
    ],
)
def test_bytes_that_encode_never_wrote_are_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptRecordError):
        codec.decode(data)


def test_deep_tags_are_corrupt_not_a_crash() -> None:
    with pytest.raises(CorruptRecordError):
        codec.decode(b'{"~":["tuple",[' * 20_000 + b"]]}" * 20_000)


def test_decoding_imports_nothing_by_name() -> None:
    for module in ("antigravity", "this"):
        assert module not in sys.modules
        with pytest.raises(CorruptRecordError):
            codec.decode(b'{"~":["@%s.x",[]]}' % module.encode())
        assert module not in sys.modules


@pytest.mark.parametrize("key", ["../../etc/passwd", "this", "antigravity/x", "", "/"])
def test_a_zone_name_reaches_neither_files_nor_packages(key: str) -> None:
    data = msgspec.json.encode({"~": ["datetime", ["2026-01-01T00:00:00+02:00", key, 0]]})

    assert codec.decode(data).utcoffset() == timedelta(hours=2)
    assert not any(name.startswith("tzdata.zoneinfo.antigravity") for name in sys.modules)


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_every_kind_of_buffer_can_be_decoded(wrap: type) -> None:
    assert codec.decode(wrap(codec.encode({"a": (1,)}))) == {"a": (1,)}


def test_encoding_leaves_the_value_alone() -> None:
    value = {"a": [(1,), {"~": 1}, "\ud800"]}
    codec.encode(value)

    assert value == {"a": [(1,), {"~": 1}, "\ud800"]}
