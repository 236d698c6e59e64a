"""Values on their way into columns: what a column cannot hold is found here, before the driver.

The driver would find it too, but only in the middle of a request, and would log the value.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from decimal import Decimal, DecimalException
from typing import Any, Final, NamedTuple
from uuid import UUID

from aiecs.core.errors import ArchiveRowError, InvalidInputError
from aiecs.core.interface.archive import Columns
from aiecs.infrastructure.persistence.archive.tables import Column, Kind, Table

Values = Sequence[Any]

#: What ClickHouse can hold: the years 1900 to 2299, in microseconds since 1970.
FIRST_TIME: Final = -2_208_988_800_000_000
LAST_TIME: Final = 10_413_791_999_999_999
_MAX_MONEY: Final = Decimal(10) ** 9


class Rows(NamedTuple):
    """Columns as the driver takes them, and how many rows they make."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    data: list[Values]
    length: int


def rows_of(table: Table, columns: Columns) -> Rows:
    """The columns of an insert, checked; see `Archive.insert`."""
    declared = {column.name: column for column in table.columns}
    unknown = columns.keys() - declared.keys()
    if unknown:
        raise InvalidInputError(f"{table.name} has no column {min(unknown)!r}")
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise InvalidInputError(f"the columns for {table.name} are of different lengths")
    chosen = [declared[name] for name in columns]
    data = [_suited(table, column, columns[column.name]) for column in chosen]
    names, types = tuple(columns), tuple(column.kind.type for column in chosen)
    return Rows(names, types, data, lengths.pop() if lengths else 0)


def _suited(table: Table, column: Column, values: Values) -> Values:
    suit = _SUITED[column.kind]
    try:
        return suit(values)
    except _REFUSALS:
        row = next((place for place in range(len(values)) if not _suits(suit, values[place])), None)
        raise ArchiveRowError(
            f"{table.name}: row {row} has a value that {column.name} ({column.kind.type}) "
            "cannot hold",
            row=row,
        ) from None


def _suits(suit: Callable[[Values], Values], value: Any) -> bool:
    try:
        suit([value])
    except _REFUSALS:
        return False
    return True


_REFUSALS: Final = (TypeError, ValueError, OverflowError, DecimalException)


def _texts(values: Values) -> Values:
    return [_bytes(value) for value in values]


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise TypeError


def _numbers(code: str) -> Callable[[Values], Values]:
    def suit(values: Values) -> Values:
        array(code, values)  # raises for what is no number of that size
        return values

    return suit


def _times(values: Values) -> Values:
    array("q", values)
    if values and not FIRST_TIME <= min(values) <= max(values) <= LAST_TIME:
        raise OverflowError
    return values


def _events(values: Values) -> Values:
    if not all(isinstance(value, UUID) for value in values):
        raise TypeError
    return values


def _amounts(values: Values) -> Values:
    amounts = [Decimal(str(value)) for value in values]
    if not all(amount.is_finite() and abs(amount) < _MAX_MONEY for amount in amounts):
        raise OverflowError
    return amounts


_SUITED: Final[dict[Kind, Callable[[Values], Values]]] = {
    Kind.ID: _texts,
    Kind.TEXT: _texts,
    Kind.BLOB: _texts,
    Kind.WORD: _texts,
    Kind.UUID: _events,
    Kind.COUNT: _numbers("Q"),
    Kind.SMALL_COUNT: _numbers("I"),
    Kind.RISING: _numbers("Q"),
    Kind.BYTE: _numbers("B"),
    Kind.MONEY: _amounts,
    Kind.TIME: _times,
}


def is_text(value: str) -> bool:
    """Whether a `str` can be sent: a lone surrogate cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
