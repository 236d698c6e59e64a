"""The order of messages is repaired, however the old lists came about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from aiecs.integrations.aiecs_2.order import Said, chronological

START = datetime(2026, 1, 1, tzinfo=UTC)

# Few different times: many are equal.
seconds = st.lists(st.integers(0, 6), max_size=30)


def said(seconds_: list[int], *, rewritten: bool = False) -> list[Said]:
    return [Said(START + timedelta(seconds=one), rewritten) for one in seconds_]


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=30))
def test_nothing_is_lost_and_time_decides(marked: list[tuple[int, bool]]):
    given_ = [Said(START + timedelta(seconds=one), mark) for one, mark in marked]

    order = chronological(given_)

    assert sorted(order) == list(range(len(given_)))
    times = [given_[place].at for place in order]
    assert times == sorted(times)


@given(seconds)
def test_a_list_that_was_only_pushed_to_is_turned_round(times: list[int]):
    pushed = said(sorted(times, reverse=True))

    assert chronological(pushed) == list(range(len(pushed)))[::-1]


@given(seconds, st.integers(1, 6))
def test_what_a_compression_wrote_comes_first_and_as_it_stands(times: list[int], kept: int):
    rewritten = said([0] * kept, rewritten=True)
    later = said(sorted((one + 1 for one in times), reverse=True))

    order = chronological([*later, *rewritten])

    start = len(later)
    assert order == [*range(start, start + kept), *range(start)[::-1]]


@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=30).filter(lambda found: len(set(found)) > 1)
)
def test_a_list_that_runs_the_other_way_stays(times: list[int]):
    rising = said(sorted(times))

    assert chronological(rising) == list(range(len(rising)))


@given(st.lists(st.integers(), unique=True, max_size=30).flatmap(st.permutations))
def test_different_times_decide_alone(times: list[int]):
    shuffled = said([one % 10**9 for one in times])
    if len(set(shuffled)) == len(shuffled):
        order = chronological(shuffled)

        assert [shuffled[place] for place in order] == sorted(shuffled)
