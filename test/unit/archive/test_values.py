"""What a column cannot hold is found before anything is sent, with its row, and is not quoted."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pytest

from aiecs.core.errors import ArchiveRowError, InvalidInputError
from aiecs.infrastructure.persistence.archive.tables import CONVERSATIONS
from aiecs.infrastructure.persistence.archive.values import rows_of

GOOD = {
    "content": "text",
    "role": b"\xff\x00",
    "event_id": UUID(int=1),
    "seq": 2**64 - 1,
    "input_tokens": 2**32 - 1,
    "error": 255,
    "cost_usd": Decimal("999999999.999999999"),
    "created_at": 1_700_000_000_000_000,
}
BAD = [
    ("content", None),
    ("content", 5),
    ("content", "lone \ud800 surrogate"),
    ("role", None),
    ("session_id", ["list"]),
    ("event_id", None),
    ("event_id", str(UUID(int=2**127 + 1))),
    ("seq", -1),
    ("seq", 2**64),
    ("seq", None),
    ("seq", 1.5),
    ("input_tokens", 2**32),
    ("error", 256),
    ("cost_usd", float("nan")),
    ("cost_usd", float("inf")),
    ("cost_usd", Decimal(10) ** 9),
    ("cost_usd", "much"),
    ("cost_usd", None),
    ("created_at", 2**62),
    ("created_at", -(2**62)),
    ("created_at", None),
    ("created_at", "2026-01-01"),
]


@pytest.mark.parametrize(("name", "value"), GOOD.items())
def test_what_fits_goes_through(name, value):
    found = rows_of(CONVERSATIONS, {name: [value]})

    assert (found.names, found.length) == ((name,), 1)


@pytest.mark.parametrize(("name", "value"), BAD)
def test_what_does_not_fit_is_a_fault_of_its_row(name, value):
    fine = GOOD.get(name, "text")

    with pytest.raises(ArchiveRowError) as refused:
        rows_of(CONVERSATIONS, {name: [fine, fine, value, fine]})

    assert refused.value.row == 2
    assert name in str(refused.value)
    assert str(value) not in str(refused.value) or value is None
    assert refused.value.__suppress_context__, "a traceback would show the value"


def test_text_and_bytes_may_stand_in_one_column():
    found = rows_of(CONVERSATIONS, {"content": ["a", b"\xff"]})

    assert found.data == [[b"a", b"\xff"]]


def test_no_rows_are_no_mistake():
    assert rows_of(CONVERSATIONS, {}).length == 0
    assert rows_of(CONVERSATIONS, {"seq": [], "content": [], "created_at": []}).length == 0


@pytest.mark.parametrize(
    "columns", [{"nothing": [1]}, {"seq": [1, 2], "content": ["one"]}], ids=["unknown", "unequal"]
)
def test_columns_that_are_no_rows_are_refused(columns):
    with pytest.raises(InvalidInputError):
        rows_of(CONVERSATIONS, columns)
