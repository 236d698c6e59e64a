# ruff: noqa: DTZ001 - naive times are what is tested
from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from aiecs.core.clock import as_utc, from_micros, parse_time, to_micros

offsets = st.integers(-86_399, 86_399).map(lambda s: timezone(timedelta(seconds=s)))
instants = st.datetimes(
    min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 31), timezones=offsets
)


@given(st.datetimes(timezones=st.just(UTC)))
def test_micros_are_exact(value: datetime) -> None:
    assert from_micros(to_micros(value)) == value


@given(instants)
def test_every_zone_keeps_its_instant(value: datetime) -> None:
    assert as_utc(value) == value
    assert as_utc(value).tzinfo is UTC
    assert from_micros(to_micros(value)) == value
    assert parse_time(value.isoformat()) == value


@given(instants, instants)
def test_order_is_kept(a: datetime, b: datetime) -> None:
    assert (a < b) == (to_micros(a) < to_micros(b))


@given(st.datetimes())
def test_naive_means_utc(value: datetime) -> None:
    assert to_micros(value) == (value - datetime(1970, 1, 1)) // timedelta(microseconds=1)
