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

_OF = "SELECT member, score FROM entries WHERE owner = ? AND "
_UP = " ORDER BY score, member LIMIT ?"
_DOWN = " ORDER BY score DESC, member DESC LIMIT ?"
_BETWEEN = "score BETWEEN ? AND ?"
# One comparison of pairs, so that a page begins where the last one ended: with the score bounded
# apart from it, SQLite would walk over all pages before.
_AFTER = "(score, member) > (?, ?) AND score <= ?"
_BEFORE = "(score, member) < (?, ?) AND score >= ?"
_PREFIXED = "SELECT member, 0 FROM entries WHERE owner = ? AND "
_FROM = "member >= ? AND member < CAST(? AS TEXT)"
_PAST = "member > ? AND member < CAST(? AS TEXT)"
_MEMBER_UP = " ORDER BY member LIMIT ?"
_MEMBER_DOWN = " ORDER BY member DESC LIMIT ?"


def bounds(low: int | None, high: int | None) -> tuple[int, int]:
    """Scores as SQLite compares them."""
    return (_LEAST if low is None else low, _MOST if high is None else high)


def select(owner: int, op: port.IndexRange) -> tuple[str, tuple[Any, ...]]:
    """The statement for a range, and its values."""
    if op.prefix is not None:
        return _select_prefix(owner, op, op.prefix)
    low, high = bounds(op.low, op.high)
    order = _DOWN if op.reverse else _UP
    if op.cursor is None or (op.cursor[1] > high if op.reverse else op.cursor[1] < low):
        return _OF + _BETWEEN + order, (owner, low, high, op.limit)
    member, score = op.cursor
    if op.reverse:
        return _OF + _BEFORE + order, (owner, score, member, low, op.limit)
    return _OF + _AFTER + order, (owner, score, member, high, op.limit)


def _select_prefix(owner: int, op: port.IndexRange, prefix: str) -> tuple[str, tuple[Any, ...]]:
    # A prefix ends before itself followed by a byte that UTF-8 never uses.
    low, high, where = prefix, prefix.encode() + b"\xff", _FROM
    member = op.cursor[0] if op.cursor is not None else None
    if member is not None and not op.reverse and member >= prefix:
        low, where = member, _PAST
    elif member is not None and op.reverse and member.encode() < high:
        high = member.encode()
    order = _MEMBER_DOWN if op.reverse else _MEMBER_UP
    return _PREFIXED + where + order, (owner, low, high, op.limit)
