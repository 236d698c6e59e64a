"""Reading windows: parts of logs and pages of indexes, held against plain lists."""

# ruff: noqa: D102, S101 - a test's name says what it holds
from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from aiecs.core.interface import store as port
from aiecs.core.interface.store import (
    MAX_INTEGER,
    Append,
    IndexCount,
    IndexPut,
    IndexRange,
    LogSlice,
    Read,
    Trim,
)
from aiecs.testing.store.place import Place, numbered

_ITEMS = numbered(7)
_MEMBERS = {"b": 2, "a": 2, "c": 2, "e": -5, "d": 9, "é": 2, "\U0001f600": 2, "ab": 2, "z": 0}
_PREFIXED = [
    "",
    "a",
    "a/",
    "a/1",
    "a/2",
    "a/2/x",
    "a/b",
    "a0",
    "b",
    "é",
    "a/\U0001f600",
    "a/\uffff",
]


def _window(log: LogSlice, op: Read) -> LogSlice:
    """What `Read` has to return, said with a list."""
    numbers = [
        number
        for number in range(log.base, log.next)
        if (op.start is None or number >= op.start) and (op.stop is None or number < op.stop)
    ]
    if op.limit:
        numbers = numbers[-op.limit :] if op.newest else numbers[: op.limit]
    items = [log.items[number - log.base] for number in numbers]
    return LogSlice(log.epoch, log.base, log.next, numbers[0] if numbers else log.next, items)


def _page(entries: dict[str, int], op: IndexRange) -> list[tuple[str, int]]:
    """What `IndexRange` by score has to return, said with a sorted list."""
    found = sorted(
        (score, member.encode())
        for member, score in entries.items()
        if (op.low is None or score >= op.low) and (op.high is None or score <= op.high)
    )
    if op.reverse:
        found.reverse()
    if op.cursor is not None:
        mark = (op.cursor[1], op.cursor[0].encode())
        found = [entry for entry in found if (entry < mark if op.reverse else entry > mark)]
    return [(member.decode(), score) for score, member in found[: op.limit]]


async def _hold(here: Place, expected: dict[Any, Any]) -> None:
    """Read alone and with many others in one batch: both must give what is expected."""
    ops = list(expected)
    for start in range(0, len(ops), 200):
        part = ops[start : start + 200]
        results = await here.do(*part)
        assert dict(zip(part, results, strict=True)) == {op: expected[op] for op in part}
        assert await here.one(part[0]) == expected[part[0]]


class WindowContract:
    """`Read`, `IndexRange` and `IndexCount` in all their combinations."""

    @pytest.mark.parametrize("key", ["l", "_l"])
    @pytest.mark.parametrize("hint", [None, 0, -1, 1, 5, -100, 100_000])
    async def test_every_window_of_a_log(self, here: Place, key: str, hint: int | None) -> None:
        await here.create(Append(key, (b"trimmed", *_ITEMS)), Trim(key, keep=7))
        log = await here.log(key)
        assert log.items == list(_ITEMS)
        base = None if hint is None else log.base + hint
        places = [None, *(log.base + offset for offset in (-2, 0, 3, 6, 7, 9))]

        expected = {
            op: _window(log, op)
            for op in (
                Read(key, start, stop, limit, newest=newest, base=base)
                for start, stop, limit, newest in product(
                    places, places, (0, 1, 3, 7, 8), (True, False)
                )
            )
        }
        await _hold(here, expected)

    async def test_a_hint_of_zero_or_beyond_any_sequence_is_only_a_hint(self, here: Place) -> None:
        await here.create(Append("l", _ITEMS))
        log = await here.log()

        for hint in (0, 1, MAX_INTEGER, log.next):
            assert await here.one(Read("l", limit=2, base=hint)) == log._replace(
                first=log.next - 2, items=list(_ITEMS[5:])
            )

    async def test_a_hint_for_a_log_that_is_absent_or_empty(self, here: Place) -> None:
        await here.create(Append("l", _ITEMS), Trim("l", keep=0))
        end = (await here.log()).next

        absent, empty = await here.do(Read("k", base=end), Read("l", base=end - 7))

        assert absent == LogSlice("", 0, 0, 0, [])
        assert empty[1:] == (end, end, end, [])

    async def test_reads_of_one_batch_see_one_state(self, here: Place) -> None:
        await here.create(Append("l", _ITEMS), port.Put("m", {"a": b"1"}), IndexPut("i", {"x": 1}))
        log = await here.log()

        assert await here.do(
            Read("l", limit=1, base=log.base + 3),
            port.Get("m"),
            IndexCount("i"),
            Read("l", limit=1, newest=False),
            port.RequireExists("m"),
            IndexRange("i"),
        ) == [
            log._replace(first=log.next - 1, items=[_ITEMS[6]]),
            {"a": b"1"},
            1,
            log._replace(items=[_ITEMS[0]]),
            None,
            [("x", 1)],
        ]

    # --- indexes --------------------------------------------------------------------------------

    @pytest.mark.parametrize("key", ["i", "_i"])
    @pytest.mark.parametrize("reverse", [False, True])
    async def test_every_page_by_score(self, here: Place, key: str, reverse: bool) -> None:
        await here.create(IndexPut(key, _MEMBERS))
        bounds = [None, -6, -5, 0, 2, 8, 9, 10]
        cursors = [None, ("b", 2), ("e", -5), ("d", 9), ("é", 2), ("absent", 2), ("", 0), ("z", 1)]

        expected = {
            op: _page(_MEMBERS, op)
            for op in (
                IndexRange(key, low, high, limit, reverse=reverse, cursor=cursor)
                for low, high, limit, cursor in product(bounds, bounds, (1, 3, 100), cursors)
            )
        }
        await _hold(here, expected)

    async def test_every_count_by_score(self, here: Place) -> None:
        await here.create(IndexPut("i", _MEMBERS), IndexPut("_i", {"x": 3}))
        bounds = [None, -6, -5, 0, 2, 8, 9, 10]

        expected = {
            IndexCount("i", low, high): len(_page(_MEMBERS, IndexRange("i", low, high)))
            for low, high in product(bounds, bounds)
        }
        await _hold(here, {**expected, IndexCount("_i"): 1, IndexCount("j"): 0})

    @pytest.mark.parametrize("reverse", [False, True])
    @pytest.mark.parametrize("limit", [1, 2, 3])
    async def test_a_walk_by_cursor_meets_every_member_once(
        self,
        here: Place,
        reverse: bool,
        limit: int,
    ) -> None:
        await here.create(IndexPut("i", _MEMBERS))
        met: list[tuple[str, int]] = []
        cursor = None

        while page := await here.one(IndexRange("i", limit=limit, reverse=reverse, cursor=cursor)):
            met += page
            assert len(page) <= limit
            assert len(met) <= len(_MEMBERS)
            cursor = page[-1]

        assert met == _page(_MEMBERS, IndexRange("i", reverse=reverse))

    @pytest.mark.parametrize("reverse", [False, True])
    async def test_every_page_by_prefix(self, here: Place, reverse: bool) -> None:
        await here.create(IndexPut("i", dict.fromkeys(_PREFIXED, 0)))
        expected: dict[Any, Any] = {}
        for prefix, limit, after in product(
            ["", "a", "a/", "a/2", "a/2/x/y", "b", "é", "nothing"],
            (1, 2, 100),
            (None, "", "a/", "a/15", "a/2", "a0", "z"),
        ):
            found = sorted(
                (member.encode() for member in _PREFIXED if member.startswith(prefix)),
                reverse=reverse,
            )
            if after is not None:
                mark = after.encode()
                found = [m for m in found if (m < mark if reverse else m > mark)]
            cursor = None if after is None else (after, 0)
            op = IndexRange("i", limit=limit, reverse=reverse, cursor=cursor, prefix=prefix)
            expected[op] = [(member.decode(), 0) for member in found[:limit]]

        await _hold(here, expected)
