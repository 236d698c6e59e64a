"""What went wrong with a database file, as the errors that callers know.

Messages name the file and SQLite's error code, never what is stored: SQLite's own texts can quote
a value.
"""

from __future__ import annotations

import copy
import errno
import sqlite3
from typing import TYPE_CHECKING

from aiecs.core import errors

if TYPE_CHECKING:
    from aiecs.core.errors import Outcome, StoreError

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_UNWRITTEN = (*_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_REFUSED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_RIGHT = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class StoreFileError(errors.StoreUnavailableError):
    """The file itself is the problem: no other try will help, somebody has to mend or replace it.

    Beside `StoreUnavailableError` only because that one is `retryable`.
    """

    retryable = False


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection holds a lock that is in the way."""
    return code_of(error) in _BUSY


def code_of(error: sqlite3.Error) -> int:
    """SQLite's primary result code."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def outcome_of_commit(error: sqlite3.Error) -> Outcome:
    """What became of a transaction whose COMMIT failed.

    Without room, behind a lock or after a failed write, its last record is not in the file. Other
    failures come after that record: whoever opens the file after a crash could find it.
    """
    extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    known = extended in _UNWRITTEN or code_of(error) in _UNWRITTEN
    return "not_applied" if known else "unknown"


def explain(error: Exception, path: str, *, outcome: Outcome = "not_applied") -> Exception:
    """The error for one caller: a `StoreError` for what SQLite or the file system said.

    Any other is handed on, a copy for each caller.
    """
    # A traceback would keep the frames of the thread alive, and its connection with them.
    error.with_traceback(None)
    if isinstance(error, sqlite3.Error):
        found = _by_code(error, path)
    elif isinstance(error, OSError):
        found = _by_errno(error, path)
    else:
        return copy.copy(error)
    found.outcome = outcome
    found.__cause__ = error
    return found


def _by_code(error: sqlite3.Error, path: str) -> StoreError:
    code = code_of(error)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if code in _BUSY:
        return errors.StoreTimeoutError(f"{path} is locked by another process")
    if code == sqlite3.SQLITE_FULL:
        return errors.StoreFullError(f"no room left for {path}: the disk, quota or page limit")
    if code in _REFUSED:
        return errors.StoreReadOnlyError(f"{path} cannot be written to ({name})")
    if code in _DAMAGED:
        return StoreFileError(
            f"{path} is damaged or no SQLite database ({name}): keep a copy of it and of its -wal "
            "file, then restore a backup or salvage what is left with the sqlite3 shell's .recover"
        )
    if code == sqlite3.SQLITE_IOERR:
        return errors.StoreUnavailableError(
            f"reading or writing {path} failed ({name}): a quota, a file size limit or the device"
        )
    return errors.StoreUnavailableError(f"SQLite cannot use {path} ({name})")


def _by_errno(error: OSError, path: str) -> StoreError:
    number = error.errno
    if number in _NO_RIGHT:
        return errors.StoreReadOnlyError(f"{path} or its directory cannot be written to")
    if number in _NO_ROOM:
        return errors.StoreFullError(f"no room left for {path}")
    reason = errno.errorcode.get(number or 0, type(error).__name__)
    return errors.StoreUnavailableError(f"{path} cannot be used ({reason})")
