"""Bars for a terminal, made of characters."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_PLAIN = " #"
_SHORTEST_BAR = 5


def bars(pairs: Sequence[tuple[str, float]], width: int, *, plain: bool = False) -> list[str]:
    """A line of up to `width` columns for each label and value, the largest one filling it.

    Values below zero count as zero; a value above it always shows. `plain` draws in ASCII.
    """
    if not pairs:
        return []
    values = [_number(value) for _, value in pairs]
    right = max(map(len, values))
    left = min(max(cell_len(label) for label, _ in pairs), max(1, width // 2 - right))
    room = max(_SHORTEST_BAR, width - left - right - 2)
    most = max(value for _, value in pairs)
    return [
        f"{set_cell_size(label, left)} {_bar(value, most, room, plain=plain)} {text}".rstrip()
        for (label, value), text in zip(pairs, values, strict=True)
    ]


def _bar(value: float, most: float, room: int, *, plain: bool) -> str:
    steps = _PLAIN if plain else _EIGHTHS
    parts = len(steps) - 1
    filled = 0 if value <= 0 else max(1, round(value / most * room * parts))
    whole, rest = divmod(filled, parts)
    bar = steps[-1] * whole + (steps[rest] if rest else "")
    return bar or " "


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3g}"
