"""Opening a database: the file, its settings and its tables."""

from __future__ import annotations

import shutil
import sqlite3
from typing import TYPE_CHECKING, Literal

from aiecs.core.errors import LifecycleError
from aiecs.infrastructure.persistence.stores.sqlite import files, forks
from aiecs.infrastructure.persistence.stores.sqlite.faults import StoreFileError
from aiecs.infrastructure.persistence.stores.sqlite.forks import process

if TYPE_CHECKING:
    from collections.abc import Callable

Synchronous = Literal["NORMAL", "FULL"]

SCHEMA_VERSION = 1
_APPLICATION = 0x41494553  # "AIES", so that `file` and others can tell whose file it is
_PAGE = 8192
# Small, for short stalls: 250 pages gave a p99 of 6 ms where SQLite's 1,000 gave 13 ms.
_CHECKPOINT_PAGES = 250
_CACHE_KIB = 16_384
_STATEMENTS = 64

# Measured for appends of 1 KB: rows in the order of their arrival with a narrow unique index cost
# a third of rows clustered by their key. Names are long, so rows carry a number in their place.
_TABLES = (
    "CREATE TABLE names (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL)",
    "CREATE UNIQUE INDEX names_by_name ON names (name, kind)",
    "CREATE TABLE fields (owner INTEGER NOT NULL, field TEXT NOT NULL, value BLOB NOT NULL)",
    "CREATE UNIQUE INDEX fields_by_name ON fields (owner, field)",
    "CREATE TABLE items (owner INTEGER NOT NULL, sequence INTEGER NOT NULL, item BLOB NOT NULL)",
    "CREATE UNIQUE INDEX items_by_sequence ON items (owner, sequence)",
    (
        "CREATE TABLE entries (owner INTEGER NOT NULL, member TEXT NOT NULL,"
        " score INTEGER NOT NULL, PRIMARY KEY (owner, member)) WITHOUT ROWID"
    ),
    "CREATE UNIQUE INDEX entries_by_score ON entries (owner, score, member)",
)


class Database:
    """One file and how it is opened; connections belong to the thread that opens them."""

    def __init__(
        self, path: str, synchronous: Synchronous, clock: Callable[[], int], max_bytes: int = 0
    ) -> None:
        self._max_bytes = max_bytes
        self.path = path
        self.clock = clock
        self._synchronous = synchronous
        self._identity: tuple[int, int] | None = None

    def connect(self, *, writes: bool) -> sqlite3.Connection:
        """A connection to the file, which is created if it never existed.

        Never waits: `sqlite3.Error` with a busy code when another process is in the way.
        """
        if self._identity is None:
            files.prepare(self.path)
        else:
            self.verify()
        found = files.identity(self.path)
        if not forks.opened(found):
            raise LifecycleError(
                f"{self.path} was open when this process was forked, and SQLite cannot use it here:"
                " close the store before forking, or start processes by spawn"
            )
        try:
            connection = self._open(writes=writes)
        except BaseException:
            forks.closed(found)
            raise
        self._identity = found
        return connection

    def disconnect(self, connection: sqlite3.Connection) -> None:
        """Close a connection that `connect` gave."""
        try:
            connection.close()
        finally:
            if self._identity is not None:
                forks.closed(self._identity)

    def fullness(self) -> float:
        """The share of the room for this file that is in use; opens a connection for it."""
        with process.turn():
            connection = self.connect(writes=False)
            try:
                sizes = "SELECT page_size, page_count, freelist_count FROM pragma_page_size,"
                sizes += " pragma_page_count, pragma_freelist_count"
                page, pages, unused = connection.execute(sizes).fetchone()
            finally:
                self.disconnect(connection)
        used = (pages - unused) * page
        room = self._max_bytes or pages * page + shutil.disk_usage(self.path).free
        return float(used / max(1, room))

    def _open(self, *, writes: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=0, isolation_level=None, cached_statements=_STATEMENTS
        )
        try:
            self._configure(connection, writes=writes)
        except BaseException:
            connection.close()
            raise
        return connection

    def verify(self) -> None:
        """Raise when the file is gone or another one has taken its place.

        SQLite would write on into the file that has no name any more.
        """
        try:
            same = files.identity(self.path) == self._identity
        except FileNotFoundError:
            same = False
        if not same:
            raise StoreFileError(
                f"{self.path} was removed or replaced while it was in use: open the store anew"
            )

    def _configure(self, connection: sqlite3.Connection, *, writes: bool) -> None:
        new = self._version(connection) == 0
        if new:
            connection.execute(f"PRAGMA page_size = {_PAGE}")
        if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise StoreFileError(f"{self.path}: this file system cannot hold a write-ahead log")
        if new:
            connection.execute("BEGIN IMMEDIATE")
            if self._version(connection) == 0:
                _create(connection)
            connection.execute("COMMIT")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute("PRAGMA trusted_schema = OFF")
        if writes:
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            connection.execute("PRAGMA secure_delete = ON")
            if self._max_bytes:
                connection.execute(f"PRAGMA max_page_count = {self._max_bytes // _PAGE}")
        else:
            connection.execute("PRAGMA query_only = ON")

    def _version(self, connection: sqlite3.Connection) -> int:
        """The version of our tables, 0 in a new file; raise when they are none of ours."""
        # One statement, so that no other process changes the file in between.
        application, version, tables = connection.execute(
            "SELECT (SELECT application_id FROM pragma_application_id),"
            " (SELECT user_version FROM pragma_user_version),"
            " (SELECT count(*) FROM sqlite_master)"
        ).fetchone()
        if application != _APPLICATION and (application or version or tables):
            raise StoreFileError(f"{self.path} is the database of another program")
        if version > SCHEMA_VERSION:
            raise StoreFileError(
                f"{self.path} was written by a newer version of this library (its format is "
                f"{version}, this one knows {SCHEMA_VERSION}): upgrade the library"
            )
        return int(version)


def _create(connection: sqlite3.Connection) -> None:
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
