# ruff: noqa: DTZ001 - naive times are what is tested
from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from aiecs.core import clock
from aiecs.core.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

CET = timezone(timedelta(hours=1))


def test_now_is_aware_utc_and_agrees_with_micros() -> None:
    before = clock.now_micros()
    now = clock.utcnow()
    after = clock.now_micros()

    assert now.tzinfo is UTC
    assert before <= clock.to_micros(now) <= after


def test_known_instants() -> None:
    assert clock.to_micros(datetime(1970, 1, 1, tzinfo=UTC)) == 0
    assert clock.to_micros(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1
    assert clock.to_micros(datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)) == 1_767_323_045_000_006
    assert clock.from_micros(1_767_323_045_000_006) == datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not hasattr(time, "tzset"):
        pytest.skip("the local zone cannot be changed here")
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("tokyo")
def test_naive_is_read_as_utc_whatever_the_local_zone() -> None:
    assert clock.to_micros(datetime(1970, 1, 1)) == 0
    assert clock.as_utc(datetime(2026, 1, 1)) == datetime(2026, 1, 1, tzinfo=UTC)


def test_other_zones_keep_their_instant() -> None:
    assert clock.to_micros(datetime(1970, 1, 1, 1, tzinfo=CET)) == 0

    converted = clock.as_utc(datetime(2026, 6, 1, 12, tzinfo=CET))

    assert converted.tzinfo is UTC
    assert converted.hour == 11


@pytest.mark.parametrize("text", ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05+00:00"])
def test_parse_time_reads_iso(text: str) -> None:
    assert clock.parse_time(text) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_parse_time_reads_naive_text_as_utc() -> None:
    assert clock.parse_time("2026-01-02T03:04:05") == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert clock.parse_time("2026-01-02T04:04:05+01:00").hour == 3


@pytest.mark.parametrize("bad", ["yesterday", "", 12, None, b"2026-01-01"])
def test_parse_time_names_what_is_wrong(bad: object) -> None:
    with pytest.raises(InvalidInputError, match="created_at"):
        clock.parse_time(bad, "created_at")  # type: ignore[arg-type]


def test_out_of_range_is_invalid_input() -> None:
    with pytest.raises(InvalidInputError):
        clock.from_micros(10**18)
    with pytest.raises(InvalidInputError):
        clock.from_micros(10**30)
    with pytest.raises(InvalidInputError):
        clock.as_utc(datetime.min.replace(tzinfo=CET))
