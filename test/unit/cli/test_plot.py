"""Bars fill the width they are given, and no more."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from aiecs.cli.plot import bars


def test_the_largest_fills_the_width_and_the_others_their_share():
    assert bars([("a", 8), ("bb", 4), ("c", 1), ("d", 0)], 13) == [
        "a  ████████ 8",
        "bb ████ 4",
        "c  █ 1",
        "d    0",
    ]


def test_a_small_value_is_still_seen():
    assert bars([("a", 1_000_000), ("b", 1)], 30)[1] == "b ▏ 1"


def test_without_blocks_there_is_ascii():
    assert bars([("a", 2), ("b", 1)], 10, plain=True) == ["a ###### 2", "b ### 1"]


@pytest.mark.parametrize("width", [20, 40, 120])
@pytest.mark.parametrize("label", ["x" * 200, "日本語" * 40, "short"])
def test_no_line_is_wider_than_asked(width: int, label: str):
    found = bars([(label, 1234567), ("b", 0.00012)], width)

    assert max(map(cell_len, found)) <= width
    assert found[0].endswith(" 1,234,567")


@pytest.mark.parametrize("values", [[], [0, 0], [-1, 0], [-1, 2]])
def test_nothing_to_draw_is_no_error(values: list[float]):
    assert len(bars([("a", value) for value in values], 40)) == len(values)
