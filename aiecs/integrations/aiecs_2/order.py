"""The order in which messages were said, from a list that was not always pushed to one way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import NamedTuple


class Said(NamedTuple):
    """When an item was said (aware UTC).

    `rewritten`: its text named an offset. 2.2.0 writes one only when it compresses a conversation
    on append, and then the same time for all that it keeps.
    """

    at: datetime
    rewritten: bool = False


def chronological(said: Sequence[Said]) -> list[int]:
    """The places in a list, oldest item first; `said` is in the order that LRANGE gives.

    Time decides. Among equal times the order of the list does: it was pushed to at its head, so its
    tail is older, except where a compression has written it anew, oldest first.
    """
    order = [place for run in reversed(list(_runs(said))) for place in _directed(said, run)]
    order.sort(key=lambda place: said[place].at)
    return order


def _runs(said: Sequence[Said]) -> Iterator[range]:
    """The places of neighbours with equal times."""
    for _, run in groupby(range(len(said)), key=said.__getitem__):
        places = list(run)
        yield range(places[0], places[-1] + 1)


def _directed(said: Sequence[Said], run: range) -> range:
    return run if _rises(said, run) else run[::-1]


def _rises(said: Sequence[Said], run: range) -> bool:
    """Whether the list leads from old to new here."""
    at, rewritten = said[run[0]]
    after_older = run.start > 0 and said[run.start - 1].at < at
    before_newer = run.stop < len(said) and said[run.stop].at > at
    return rewritten or after_older or before_newer
