"""Rows for archives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from aiecs.infrastructure.persistence.archive import tables
from aiecs.infrastructure.persistence.archive.tables import Kind, Table

NOVEMBER = 1_794_000_000_000_000
"""A time in November 2026, in microseconds."""
A_MONTH = 31 * 86_400 * 1_000_000

_SAMPLES: dict[Kind, Any] = {
    Kind.ID: "id",
    Kind.TEXT: "text",
    Kind.BLOB: b"\x00blob;\xff",
    Kind.WORD: "word",
    Kind.UUID: UUID(int=7),
    Kind.COUNT: 8,
    Kind.SMALL_COUNT: 9,
    Kind.RISING: 10,
    Kind.BYTE: 1,
    Kind.MONEY: "0.000000001",
    Kind.TIME: NOVEMBER,
}


def messages(contents: Sequence[str | bytes], session: str = "s", first: int = 1) -> dict[str, Any]:
    """Messages of a session, as columns; the sequence is that of their events, too."""
    count = len(contents)
    numbers = range(first, first + count)
    return {
        "session_id": [session] * count,
        "role": ["user"] * count,
        "content": contents,
        "metadata": ["{}"] * count,
        "incarnation": ["one"] * count,
        "seq": list(numbers),
        "event_id": [UUID(int=number) for number in numbers],
        "created_at": [NOVEMBER + number for number in numbers],
        "version": [1] * count,
    }


def sample(table: Table, upto: int = tables.LATEST) -> dict[str, Any]:
    """One row with a value in every column that there is at that migration."""
    there = [column for column in table.columns if column.since <= upto]
    return {column.name: [_SAMPLES[column.kind]] for column in there}
