"""Leaving nothing of what was deleted: pages are written anew, and the log is emptied.

Deleted bytes are overwritten as they go (`secure_delete`), but copies of them may stand where a
page was split, and in the write-ahead log until it starts over.
"""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

from aiecs.core.errors import StoreTimeoutError
from aiecs.infrastructure.persistence.stores.sqlite import faults
from aiecs.infrastructure.persistence.stores.sqlite.files import LockFile
from aiecs.infrastructure.persistence.stores.sqlite.forks import process

if TYPE_CHECKING:
    from aiecs.infrastructure.persistence.stores.sqlite.database import Database

_PATIENCE = 30.0
_PAUSE = 0.0002  # as writers wait: a longer one would hardly ever meet the lock free


def scrub(database: Database) -> None:
    """Do it; blocks. Raises a `StoreError`."""
    lock = LockFile(database.path)
    turn = process.turn()
    try:
        _take(lock, database.path)
        with turn:
            connection = database.connect(writes=True)
            try:
                _rewrite(connection, database.path)
            finally:
                database.disconnect(connection)
    except (sqlite3.Error, OSError) as error:
        raise faults.explain(error, database.path) from None
    finally:
        lock.close()


def _take(lock: LockFile, path: str) -> None:
    end = time.monotonic() + _PATIENCE
    while not lock.acquire():
        if time.monotonic() > end:
            raise StoreTimeoutError(f"{path} is written to by others all the time")
        time.sleep(_PAUSE)


def _rewrite(connection: sqlite3.Connection, path: str) -> None:
    connection.execute(f"PRAGMA busy_timeout = {int(_PATIENCE * 1000)}")
    connection.execute("VACUUM")
    busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise StoreTimeoutError(f"{path} is read by others all the time")
