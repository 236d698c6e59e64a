"""Items of outboxes as rows: what is no event goes nowhere, and takes nothing along."""

from __future__ import annotations

import pytest

from aiecs.core.events import About, header
from aiecs.infrastructure.persistence.archive.rows import Shipped, columns_of, rows_of


def item(record, kind=About.MESSAGE, *ids):
    return b"incarnation 7 1794000000000000 " + header(kind, *(ids or ("s",))) + b"\n" + record


MESSAGE = b'{"role":"user","content":"x","timestamp":"2026-11-23T00:00:00Z"}'


def test_an_event_is_the_same_row_whenever_it_is_made():
    items = [Shipped(5, 1, item(MESSAGE)), Shipped(5, 2, item(MESSAGE))]
    made = rows_of(items, "store").by_table["context_conversations"]
    again = rows_of(items, "store").by_table["context_conversations"]

    assert made == again
    columns = columns_of([one.row for one in made])
    assert len(set(columns["event_id"])) == 2
    assert (columns["seq"], columns["version"]) == ([7, 7], [1, 2])
    assert columns["created_at"] == [1_795_392_000_000_000] * 2


@pytest.mark.parametrize("empty", [b"", item(b"")])
def test_what_was_erased_is_passed_over(empty):
    assert rows_of([Shipped(0, 1, empty)], "store") == ({}, [])


@pytest.mark.parametrize(
    "broken",
    [
        b"no event",
        item(b"no json"),
        item(b"[]"),
        item(b"{}"),
        item(b'{"role":"user","content":"x"}'),
        item(b'{"role":"user","content":"x","timestamp":"never"}'),
        item(b'{"role":"user","content":"x","timestamp":"2026-11-23","metadata":[1]}'),
        item(MESSAGE, About.AGENT_MESSAGE, "s"),
        item(MESSAGE, About.AGENT_MESSAGE, "s", "key"),
        item(b"{}", About.CHECKPOINT, "t", "c"),
        item(b"{}", About.CHECKPOINT, "t", "c", None),
        item(b"{}", About.CONVERSATION, "s", "key"),
    ],
)
def test_what_is_no_event_does_not_take_others_along(broken):
    good, bad = Shipped(0, 1, item(MESSAGE)), Shipped(0, 2, broken)
    found = rows_of([bad, good], "store")

    assert found.corrupt == [bad]
    assert [one.shipped for one in found.by_table["context_conversations"]] == [good]
