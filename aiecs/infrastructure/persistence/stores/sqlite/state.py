"""The tables as the `State` under `semantics.execute`.

What a group of batches writes most (fields and log items) is gathered and written with one
statement per table; names, small fields and the ends of logs that were seen are remembered. What
is remembered holds as long as no other connection has written, which SQLite tells at the start of
each transaction.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from aiecs.infrastructure.persistence.stores.sqlite import index_queries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aiecs.core.interface import store as port

_KINDS: dict[port.Kind, str] = {"map": "m", "log": "l", "index": "i"}
_SMALL = 256
_FIELDS_READ = 64
_REMEMBERED = 65_536
# From how many fields on they are read together; as many as one statement may name.
_ONE_BY_ONE = 4
_AT_ONCE = 500
# Stands for a value that is too large to remember.
_LARGE = b"\x00large"

_INDEX = "SELECT id FROM names WHERE name = ? AND kind = 'i'"
_NEW_NAME = "INSERT INTO names (name, kind) VALUES (?, ?)"
_DROP_NAME = "DELETE FROM names WHERE id = ?"
_FIELD = "SELECT value FROM fields WHERE owner = ? AND field = ?"
_SOME_FIELDS = "SELECT field, value FROM fields WHERE owner = ? AND field IN ("
_FIELDS = "SELECT field, value FROM fields WHERE owner = ?"
# The number, then field by field; NULL in the place of a value that is too large to remember.
_SMALL_FIELDS = (
    f"SELECT id, field, CASE WHEN length(value) <= {_SMALL} THEN value END"  # noqa: S608
    " FROM names LEFT JOIN fields ON owner = id WHERE name = ? AND kind = 'm'"
    f" LIMIT {_FIELDS_READ + 1}"
)
_PUT_FIELD = (
    "INSERT INTO fields (owner, field, value) VALUES (?, ?, ?)"
    " ON CONFLICT (owner, field) DO UPDATE SET value = excluded.value"
)
_DROP_FIELD = "DELETE FROM fields WHERE owner = ? AND field = ?"
_ANY_FIELD = "SELECT EXISTS (SELECT 1 FROM fields WHERE owner = ?)"
_DROP_FIELDS = "DELETE FROM fields WHERE owner = ?"
_ENDS = (
    "SELECT id, (SELECT min(sequence) FROM items WHERE owner = id),"
    " (SELECT max(sequence) FROM items WHERE owner = id)"
    " FROM names WHERE name = ? AND kind = 'l'"
)
_ITEMS = (
    "SELECT item FROM items WHERE owner = ? AND sequence >= ? AND sequence < ? ORDER BY sequence"
)
_ADD_ITEM = "INSERT INTO items (owner, sequence, item) VALUES (?, ?, ?)"
_SET_ITEM = "UPDATE items SET item = ? WHERE owner = ? AND sequence = ?"
_DROP_ITEMS = "DELETE FROM items WHERE owner = ? AND sequence >= ? AND sequence < ?"
_DROP_LOG = "DELETE FROM items WHERE owner = ?"


class _Map:
    """A map: its number (0: absent) and the fields that are known.

    `complete`: there are no others. `plain`: none of them is too large to be remembered.
    """

    __slots__ = ("complete", "known", "owner", "plain")

    def __init__(self, owner: int) -> None:
        self.owner = owner
        self.known: dict[str, bytes | None] = {}
        self.complete = True
        self.plain = True


class _Log:
    """A log: its number (0: absent), its first sequence and the one after its last."""

    __slots__ = ("first", "next", "owner")

    def __init__(self, owner: int, first: int, following: int) -> None:
        self.owner = owner
        self.first = first
        self.next = following


class Tables:
    """A `State` over one connection, used by the thread that owns it, inside transactions."""

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], int]) -> None:
        self.now = clock
        self._cursor = connection.cursor()
        self._execute = self._cursor.execute
        self._version = -1
        self._maps: dict[str, _Map] = {}
        self._logs: dict[str, _Log] = {}
        self._indexes: dict[str, int] = {}
        self._remembered = 0
        self._new_fields: dict[tuple[int, str], bytes] = {}
        self._new_items: list[tuple[int, int, bytes]] = []

    def begin(self) -> None:
        """The transaction has begun: forget what others have changed since the last one."""
        (version,) = self._execute("PRAGMA data_version").fetchone()
        if version != self._version or self._remembered > _REMEMBERED:
            self.forget()
            self._version = version

    def forget(self) -> None:
        """Drop everything remembered or not yet written, after a rollback."""
        self._maps.clear()
        self._logs.clear()
        self._indexes.clear()
        self._remembered = 0
        self._new_fields.clear()
        self._new_items.clear()

    def flush(self) -> None:
        """Write what was gathered; before COMMIT, and before a statement that looks at it."""
        if self._new_fields:
            rows = [(owner, field, value) for (owner, field), value in self._new_fields.items()]
            self._new_fields.clear()
            self._cursor.executemany(_PUT_FIELD, rows)
        if self._new_items:
            items, self._new_items = self._new_items, []
            self._cursor.executemany(_ADD_ITEM, items)

    # --- names ----------------------------------------------------------------------------------

    def _add(self, kind: port.Kind, key: str) -> int:
        self._execute(_NEW_NAME, (key, _KINDS[kind]))
        return self._cursor.lastrowid or 0

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        return self._execute(statement, values).fetchall()

    # --- maps -----------------------------------------------------------------------------------

    def _map(self, key: str) -> _Map:
        found = self._maps.get(key)
        if found is None:
            rows = self._rows(_SMALL_FIELDS, key)
            found = self._maps[key] = _Map(rows[0][0] if rows else 0)
            for _, field, value in rows:
                found.known[field] = _LARGE if value is None else value
                found.plain = found.plain and value is not None
            found.complete = len(rows) <= _FIELDS_READ
            self._remembered += 1 + len(rows)
        return found

    def _value(self, found: _Map, field: str) -> bytes | None:
        value = found.known.get(field)
        if value is _LARGE:
            self.flush()
            return bytes(self._rows(_FIELD, found.owner, field)[0][0])
        if value is None and not found.complete and field not in found.known:
            rows = self._rows(_FIELD, found.owner, field)
            value = rows[0][0] if rows else None
            small = value is None or len(value) <= _SMALL
            found.known[field] = value if small else _LARGE
            self._remembered += 1
        return value

    def map_fields(self, key: str, fields: Iterable[str]) -> list[bytes | None]:
        """See `State`."""
        found = self._map(key)
        if found.complete and found.plain:
            return list(map(found.known.get, fields))
        names = list(fields)
        if len(names) > _ONE_BY_ONE:
            return self._values(found, names)
        return [self._value(found, field) for field in names]

    def _values(self, found: _Map, fields: list[str]) -> list[bytes | None]:
        """As `_value`, with a few statements for all that is not remembered."""
        known = found.known
        open_ = [
            f for f in fields if known.get(f) is _LARGE or (f not in known and not found.complete)
        ]
        self.flush()
        rows: dict[str, bytes] = {}
        for start in range(0, len(open_), _AT_ONCE):
            some = open_[start : start + _AT_ONCE]
            statement = _SOME_FIELDS + ",".join("?" * len(some)) + ")"
            rows.update(self._rows(statement, found.owner, *some))
        return [
            rows.get(field) if known.get(field, _LARGE) is _LARGE else known[field]
            for field in fields
        ]

    def map_all(self, key: str) -> dict[str, bytes]:
        """See `State`."""
        self.flush()
        found = self._map(key)
        return dict(self._rows(_FIELDS, found.owner)) if found.owner else {}

    def map_exists(self, key: str) -> bool:
        """See `State`."""
        return self._map(key).owner != 0

    def map_put(self, key: str, fields: dict[str, bytes]) -> None:
        """See `State`."""
        found = self._map(key)
        if not found.owner:
            found.owner = self._add("map", key)
        owner, known, new = found.owner, found.known, self._new_fields
        before = len(known)
        for field, value in fields.items():
            if len(value) <= _SMALL:
                known[field] = value
            else:
                known[field] = _LARGE
                found.plain = False
            new[owner, field] = value
        self._remembered += len(known) - before

    def map_remove(self, key: str, fields: Iterable[str]) -> int:
        """See `State`."""
        found = self._map(key)
        present = [field for field in fields if self._value(found, field) is not None]
        if not present:
            return 0
        self.flush()
        for field in present:
            self._execute(_DROP_FIELD, (found.owner, field))
            found.known[field] = None
        if not self._rows(_ANY_FIELD, found.owner)[0][0]:
            self._execute(_DROP_NAME, (found.owner,))
            del self._maps[key]
        return len(present)

    # --- logs -----------------------------------------------------------------------------------

    def _log(self, key: str) -> _Log:
        found = self._logs.get(key)
        if found is None:
            rows = self._rows(_ENDS, key)
            owner, first, last = rows[0] if rows else (0, 0, -1)
            found = self._logs[key] = _Log(owner, first, last + 1)
            self._remembered += 1
        return found

    def log_count(self, key: str) -> int:
        """See `State`."""
        found = self._log(key)
        return found.next - found.first

    def log_append(self, key: str, first: int, items: Sequence[bytes]) -> None:
        """See `State`."""
        found = self._log(key)
        if not found.owner:
            found.owner = self._add("log", key)
            found.first = first
        found.next = first + len(items)
        owner, new = found.owner, self._new_items
        for sequence, item in enumerate(items, first):
            new.append((owner, sequence, item))

    def log_read(self, key: str, start: int, stop: int) -> list[bytes]:
        """See `State`."""
        self.flush()
        return [item for (item,) in self._rows(_ITEMS, self._log(key).owner, start, stop)]

    def log_remove(self, key: str, start: int, stop: int) -> None:
        """See `State`."""
        found = self._log(key)
        if start <= found.first and stop >= found.next:
            self.drop("log", key)
            return
        self.flush()
        self._execute(_DROP_ITEMS, (found.owner, start, stop))
        if start <= found.first:
            found.first = stop
        else:
            found.next = start

    def log_set(self, key: str, sequence: int, item: bytes) -> None:
        """See `State`."""
        self.flush()
        self._execute(_SET_ITEM, (item, self._log(key).owner, sequence))

    # --- indexes --------------------------------------------------------------------------------

    def _index(self, key: str) -> int:
        owner = self._indexes.get(key)
        if owner is None:
            rows = self._rows(_INDEX, key)
            owner = self._indexes[key] = rows[0][0] if rows else 0
            self._remembered += 1
        return owner

    def index_put(self, key: str, entries: dict[str, int], *, greater: bool) -> None:
        """See `State`."""
        owner = self._index(key)
        if not owner:
            owner = self._indexes[key] = self._add("index", key)
        statement = index_queries.RAISE if greater else index_queries.PUT
        rows = [(owner, member, score) for member, score in entries.items()]
        self._cursor.executemany(statement, rows)

    def index_range(self, key: str, op: port.IndexRange) -> list[tuple[str, int]]:
        """See `State`."""
        statement, values = index_queries.select(self._index(key), op)
        return self._rows(statement, *values)

    def index_count(self, key: str, low: int | None, high: int | None) -> int:
        """See `State`."""
        bounds = index_queries.bounds(low, high)
        return int(self._rows(index_queries.COUNT, self._index(key), *bounds)[0][0])

    def index_scores(self, key: str, members: Iterable[str]) -> list[int | None]:
        """See `State`."""
        owner = self._index(key)
        found = [self._rows(index_queries.SCORE, owner, member) for member in members]
        return [rows[0][0] if rows else None for rows in found]

    def index_remove(self, key: str, members: Iterable[str]) -> int:
        """See `State`."""
        owner = self._index(key)
        removed = 0
        for member in members:
            removed += self._execute(index_queries.REMOVE, (owner, member)).rowcount
        if removed and not self._rows(index_queries.ANY, owner)[0][0]:
            self._execute(_DROP_NAME, (owner,))
            del self._indexes[key]
        return removed

    # --- whole keys -----------------------------------------------------------------------------

    def drop(self, kind: port.Kind, key: str) -> bool:
        """See `State`."""
        owner = self._owner(kind, key)
        if not owner:
            return False
        self.flush()
        self._execute(_DROPS[kind], (owner,))
        self._execute(_DROP_NAME, (owner,))
        remembered: dict[port.Kind, dict[str, Any]] = {
            "map": self._maps,
            "log": self._logs,
            "index": self._indexes,
        }
        del remembered[kind][key]
        return True

    def _owner(self, kind: port.Kind, key: str) -> int:
        if kind == "map":
            return self._map(key).owner
        return self._log(key).owner if kind == "log" else self._index(key)


_DROPS: dict[port.Kind, str] = {
    "map": _DROP_FIELDS,
    "log": _DROP_LOG,
    "index": index_queries.DROP,
}
