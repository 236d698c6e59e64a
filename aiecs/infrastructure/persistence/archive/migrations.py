"""Bringing a database to this release: numbered steps that add, each recorded with its checksum.

ClickHouse has no transactions and no locks for this. So every statement may run any number of
times and by several processes at once, and a step is recorded after it has run.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from aiecs.core.errors import ArchiveError, ArchiveNewerError, ArchiveSchemaError
from aiecs.infrastructure.persistence.archive import tables as declared
from aiecs.infrastructure.persistence.archive.tables import TABLES, Table, latest

if TYPE_CHECKING:
    from aiecs.infrastructure.persistence.archive.connection import Connection

MIGRATIONS_TABLE: Final = "context_schema_migrations"

_KNOWN: Final = "SELECT 1 FROM system.databases WHERE name = {name:String}"
_RECORDS = (
    f"CREATE TABLE IF NOT EXISTS `{MIGRATIONS_TABLE}` "
    "(`version` UInt32, `checksum` String, `applied_at` DateTime64(6, 'UTC')) "
    "ENGINE = ReplacingMergeTree(applied_at) ORDER BY (version, checksum)"
)
_RECORD = (
    f"INSERT INTO `{MIGRATIONS_TABLE}` SELECT {{version:UInt32}}, {{checksum:String}}, "
    "now64(6, 'UTC') SETTINGS async_insert = 0"
)
#: Already there; altered by another one at this moment.
_OVERTAKEN: Final = frozenset({44, 57, 82, 517, 529})
_TRIES = 5
_PAUSE_SECONDS = 0.2


def migrate(
    connection: Connection, *, tables: tuple[Table, ...] = TABLES, to: int | None = None
) -> None:
    """Create the database of the connection's address and its tables, or add what they lack.

    `to`: the migration to end with, None for the latest. `ArchiveNewerError` when the database has
    seen a later one, `ArchiveSchemaError` when it holds other tables under our names or was
    migrated by a release that differs from this one.
    """
    goal = latest(tables) if to is None else to
    for left in reversed(range(_TRIES)):
        try:
            create_database(connection)
            _migrate(connection, tables, goal)
        except ArchiveError as error:
            if error.code not in _OVERTAKEN or not left:
                raise
            time.sleep(_PAUSE_SECONDS)  # until the other process is through
        else:
            return


def migrated_to(connection: Connection, tables: tuple[Table, ...] = TABLES) -> int:
    """The migration that a database has seen, 0 for one without tables of ours; changes nothing.

    `ArchiveNewerError` and `ArchiveSchemaError` as from `migrate`.
    """
    name = connection.address.database
    if not connection.select(_KNOWN, {"name": name}):
        return 0
    connection.use(name)
    done = _applied(connection)
    if not done:
        _refuse_strangers(connection, tables)
    _check(done, tables, latest(tables), connection.address.name)
    return max(done, default=0)


def checksum(tables: tuple[Table, ...], number: int) -> str:
    """What tells one migration of this number from another one."""
    text = "\n".join(declared.statements(tables, number))
    return hashlib.sha256(text.encode()).hexdigest()


def create_database(connection: Connection) -> None:
    """Create the database of the connection's address if it is missing, and use it."""
    name = connection.address.database
    # Asked first: whoever may only write to an existing database need not be allowed to create one.
    if not connection.select(_KNOWN, {"name": name}):
        connection.execute(f"CREATE DATABASE IF NOT EXISTS `{name}`", doing="open")
    connection.use(name)


def _migrate(connection: Connection, tables: tuple[Table, ...], goal: int) -> None:
    done = _applied(connection)
    if not done:
        _refuse_strangers(connection, tables)
        connection.execute(_RECORDS, doing="open")
    _check(done, tables, goal, connection.address.name)
    existing = _existing(connection)
    for number in range(1, goal + 1):
        made = {table.name for table in tables if table.since == number}
        if number in done and made <= existing.keys():
            continue
        for statement in declared.statements(tables, number):
            connection.execute(statement, doing="open")
        expected = checksum(tables, number)
        if number not in done:
            connection.execute(_RECORD, {"version": number, "checksum": expected}, doing="open")
    _mend(connection, [table for table in tables if table.name in existing], existing, goal)


def _mend(
    connection: Connection, tables: list[Table], existing: Mapping[str, set[str]], goal: int
) -> None:
    """Add the columns that somebody has taken away."""
    for table in tables:
        gone = [
            column
            for column in table.columns
            if column.since <= goal and column.name not in existing[table.name]
        ]
        for statement in declared.additions(table, gone):
            connection.execute(statement, doing="open")


def _applied(connection: Connection) -> dict[int, set[str]]:
    if MIGRATIONS_TABLE not in _existing(connection):
        return {}
    found: dict[int, set[str]] = {}
    for number, text in connection.select(
        f"SELECT DISTINCT version, checksum FROM `{MIGRATIONS_TABLE}`"  # noqa: S608 - a constant
    ):
        found.setdefault(number, set()).add(text)
    return found


def _check(done: Mapping[int, set[str]], tables: tuple[Table, ...], goal: int, where: str) -> None:
    if done and max(done) > goal:
        raise ArchiveNewerError(
            f"{where} was brought to schema {max(done)} by a later release; this one knows {goal}"
        )
    for number, texts in done.items():
        if texts != {checksum(tables, number)}:
            raise ArchiveSchemaError(
                f"{where}: schema {number} was made by a release that differs from this one"
            )


def _refuse_strangers(connection: Connection, tables: tuple[Table, ...]) -> None:
    """Tables of our names without our columns, such as those of PyPI's `aiecs`, are not ours."""
    for table in tables:
        found = _existing(connection).get(table.name)
        if found is not None and not set(table.key) <= found:
            raise ArchiveSchemaError(
                f"{connection.address.name} already has a table {table.name} that this library "
                "did not make; name another database (CLICKHOUSE_DATABASE), or rename that table"
            )


def _existing(connection: Connection) -> dict[str, set[str]]:
    """The columns of each table of the database."""
    found: dict[str, set[str]] = {}
    for table, column in connection.select(
        "SELECT table, name FROM system.columns WHERE database = {database:String}",
        {"database": connection.address.database},
    ):
        found.setdefault(table, set()).add(column)
    return found


def apply_options(connection: Connection, tables: tuple[Table, ...] = TABLES) -> None:
    """Add the text index and the time to live that the address asks for; drops neither.

    An index covers what is written from then on; `ALTER TABLE ... MATERIALIZE INDEX words` does
    the rest, at a quiet hour.
    """
    address = connection.address
    if address.ttl_days is None and not address.text_index:
        return
    kept = connection.select(
        "SELECT name FROM system.tables WHERE database = {database:String} "
        "AND position(engine_full, {ttl:String}) > 0",
        {"database": address.database, "ttl": f"toIntervalDay({address.ttl_days})"},
    )
    due = tuple(table for table in tables if (table.name,) not in kept)
    for statement in (
        *declared.option_statements(tables, text_index=address.text_index, ttl_days=None),
        *declared.option_statements(due, text_index=False, ttl_days=address.ttl_days),
    ):
        connection.execute(statement, doing="open")
