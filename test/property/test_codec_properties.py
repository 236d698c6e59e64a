from __future__ import annotations

import math
from datetime import timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from aiecs.core.codec import clean_text, decode, dump_json, encode, encode_flagged, load_json
from aiecs.core.errors import CorruptRecordError, InvalidInputError

finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(max_size=8) | st.sampled_from(["~", "tuple", "@x", "\x00"])
offsets = st.integers(-86_399, 86_399).map(lambda s: timezone(timedelta(seconds=s)))
# Names like posix/UTC are no names of their own; such times come back with their offset.
zones = st.none() | offsets | st.timezone_keys(allow_prefix=False).map(ZoneInfo)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**3000), 2**3000)
    | finite
    | texts
    | st.binary(max_size=8)
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.times(timezones=st.none() | offsets)
    | st.datetimes(timezones=zones)
    | st.timedeltas()
    | st.complex_numbers(allow_nan=False, allow_infinity=False)
)
keys = st.recursive(
    scalars,
    lambda inner: st.tuples(inner, inner) | st.tuples(inner) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
values = st.recursive(
    scalars | st.binary(max_size=4).map(bytearray),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(texts, inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=3)
        | st.sets(keys, max_size=3)
        | st.frozensets(keys, max_size=3)
    ),
    max_leaves=20,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
any_text = st.text(st.characters(exclude_categories=[]), max_size=12)


def spelled(value: Any) -> Any:
    """`value` with every type and sign that == overlooks made visible."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return kind, sorted((repr(spelled(k)), repr(spelled(v))) for k, v in value.items())
    if isinstance(value, set | frozenset):
        return kind, sorted(repr(spelled(one)) for one in value)
    if isinstance(value, list | tuple):
        return kind, [spelled(one) for one in value]
    if isinstance(value, int):
        return kind, hex(value)
    return kind, repr(value), getattr(value, "fold", None)


@given(values)
def test_every_value_comes_back_exactly(value: Any) -> None:
    data = encode(value)
    again = decode(data)

    assert again == value
    assert spelled(again) == spelled(value)
    assert encode(again) == data


@given(json_values)
def test_plain_json_round_trips_both_ways(value: Any) -> None:
    assert spelled(decode(encode(value))) == spelled(value)
    assert spelled(load_json(dump_json(value)[0])) == spelled(value)


kinds = "int bytes bytearray complex decimal uuid datetime date time timedelta tuple set frozenset"
tags = st.sampled_from([*kinds.split(), "dict", "@builtins.eval", "@x", "~"])
crafted = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | texts | st.just("2026-01-01T00:00:00"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(texts, inner, max_size=3)
        | st.tuples(tags, inner).map(lambda tag: {"~": list(tag)})
        | st.tuples(tags, st.lists(inner, max_size=3)).map(lambda tag: {"~": list(tag)})
    ),
    max_leaves=15,
)


@given(crafted)
@example({"~": ["datetime", ["2026-01-01", "../x", 0]]})
@example({"~": ["timedelta", [10**400]]})
@example({"~": ["decimal", "1e999999999999999999999"]})
def test_crafted_tags_give_a_value_or_corrupt(value: Any) -> None:
    try:
        again = decode(msgspec.json.encode(value))
    except CorruptRecordError:
        return
    assert spelled(decode(encode(again))) == spelled(again)


@given(st.binary(max_size=60))
def test_random_bytes_give_a_value_or_corrupt(data: bytes) -> None:
    try:
        decode(data)
    except CorruptRecordError:
        return


@given(st.dictionaries(any_text, any_text, max_size=3) | any_text | st.lists(any_text))
def test_any_text_can_be_stored_and_is_reported_when_changed(value: Any) -> None:
    lone = has_surrogate(value)
    try:
        data, replaced = encode_flagged(value)
    except InvalidInputError:
        assert lone  # two keys that differ in lone surrogates only
        return
    assert replaced == lone
    if not lone:
        assert decode(data) == value


def has_surrogate(value: Any) -> bool:
    texts = [value] if isinstance(value, str) else [*value, *getattr(value, "values", list)()]
    return any(0xD800 <= ord(char) <= 0xDFFF for text in texts for char in text)


@given(any_text)
def test_clean_text_keeps_what_it_can(text: str) -> None:
    cleaned, replaced = clean_text(text)
    cleaned.encode()

    assert replaced == (cleaned != text)
    assert clean_text(cleaned) == (cleaned, False)
    kept = [char for char in text if not 0xD800 <= ord(char) <= 0xDFFF]
    if not any(0xDC00 <= ord(char) <= 0xDFFF for char in text):
        assert [char for char in cleaned if char != "\ufffd"] == [c for c in kept if c != "\ufffd"]
        assert len(cleaned) == len(text)


@given(st.lists(finite | st.sampled_from([math.nan, math.inf, -math.inf]), max_size=60))
def test_numbers_are_refused_exactly_when_they_are_not_finite(numbers: list[float]) -> None:
    for value in (numbers, tuple(numbers)):
        try:
            assert decode(encode(value)) == value
        except InvalidInputError:
            assert not all(map(math.isfinite, numbers))
        else:
            assert all(map(math.isfinite, numbers))
