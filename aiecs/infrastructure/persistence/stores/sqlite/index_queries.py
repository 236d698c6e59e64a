"""The statements on ordered indexes: entries by (score, member) or, for a prefix, by member."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiecs.core.interface import store as port

_LEAST, _MOST = -(2**63), 2**63 - 1

PUT = (
    "INSERT INTO entries (owner, member, score) VALUES (?, ?, ?)"
    " ON CONFLICT (owner, member) DO UPDATE SET score = excluded.score"
)
RAISE = PUT + " WHERE excluded.score > score"
SCORE = "SELECT score FROM entries WHERE owner = ? AND member = ?"
REMOVE = "DELETE FROM entries WHERE owner = ? AND member = ?"
ANY = "SELECT EXISTS (SELECT 1 FROM entries WHERE owner = ?)"
DROP = "DELETE FROM entries WHERE owner = ?"
COUNT = "SELECT count(*) FROM entries WHERE owner = ? AND score BETWEEN ? AND ?"

_BY_SCORE = "SELECT member, score FROM entries WHERE owner = ? AND score BETWEEN ? AND ?"
_UP = " ORDER BY score, member LIMIT ?"
_DOWN = " ORDER BY score DESC, member DESC LIMIT ?"
_AFTER = " AND (score, member) > (?, ?)"
_BEFORE = " AND (score, member) < (?, ?)"
# A prefix ends before itself followed by a byte that UTF-8 never uses.
_BY_PREFIX = (
    "SELECT member, 0 FROM entries WHERE owner = ? AND member >= ? AND member < CAST(? AS TEXT)"
)
_MEMBER_UP = " ORDER BY member LIMIT ?"
_MEMBER_DOWN = " ORDER BY member DESC LIMIT ?"
_MEMBER_AFTER = " AND member > ?"
_MEMBER_BEFORE = " AND member < ?"


def bounds(low: int | None, high: int | None) -> tuple[int, int]:
    """Scores as SQLite compares them."""
    return (_LEAST if low is None else low, _MOST if high is None else high)


def select(owner: int, op: port.IndexRange) -> tuple[str, tuple[Any, ...]]:
    """The statement for a range, and its values."""
    if op.prefix is not None:
        return _select_prefix(owner, op, op.prefix)
    statement, values = _BY_SCORE, (owner, *bounds(op.low, op.high))
    if op.cursor is not None:
        statement += _BEFORE if op.reverse else _AFTER
        values += (op.cursor[1], op.cursor[0])  # type: ignore[assignment]  # of any length
    return statement + (_DOWN if op.reverse else _UP), (*values, op.limit)


def _select_prefix(owner: int, op: port.IndexRange, prefix: str) -> tuple[str, tuple[Any, ...]]:
    statement, values = _BY_PREFIX, (owner, prefix, prefix.encode() + b"\xff")
    if op.cursor is not None:
        statement += _MEMBER_BEFORE if op.reverse else _MEMBER_AFTER
        values += (op.cursor[0],)  # type: ignore[assignment]  # of any length
    return statement + (_MEMBER_DOWN if op.reverse else _MEMBER_UP), (*values, op.limit)
