"""What a thread does with its connection: groups of batches, written or read in one transaction."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import time
from typing import TYPE_CHECKING, Protocol

from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.semantics import execute
from aiecs.infrastructure.persistence.stores.sqlite import faults
from aiecs.infrastructure.persistence.stores.sqlite.files import LockFile
from aiecs.infrastructure.persistence.stores.sqlite.forks import process
from aiecs.infrastructure.persistence.stores.sqlite.state import Tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiecs.infrastructure.persistence.stores.sqlite.database import Database
    from aiecs.infrastructure.persistence.stores.sqlite.pool import Answer, Answers, Entry, Pool

# Groups are bounded so that neither their callers nor other processes wait long for their end.
# Writes share a commit; reads only share a snapshot, and their answers can be large.
_WRITES = 256
_READS = 32
_GROUP_BYTES = 2 * 1024 * 1024
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0002, 0.001
_WAL_BYTES = 32 * 1024 * 1024
_WAL_LOOKED_AT = 64  # every so many groups
_CLOSING_TRIES = 200


class Session(Protocol):
    """A connection in use by one thread; `most` batches form a group, `broken`: open another."""

    broken: bool
    most: int

    def begin(self) -> None:
        """Make ready for a group; never waits, raises a busy `sqlite3.Error` instead."""
        ...

    def run(self, group: list[Entry]) -> Answers:
        """Work off a group and end the transaction; never raises."""
        ...

    def close(self) -> None:
        """Give back what the session holds."""
        ...


def work(pool: Pool, database: Database, connect: Callable[[Database], Session]) -> None:
    """Serve the pool until it is closed.

    The session lives in this frame alone. So it dies with the thread, and a forked child, in
    which this thread does not exist, never closes a connection of its parent.
    """
    session: Session | None = None
    turn = process.turn()
    pause = _FIRST_PAUSE
    while pool.wait():
        with turn:
            session, busy = _serve(pool, database, session, connect)
        if busy:
            pool.expire()
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        pause = min(_LONGEST_PAUSE, pause * 2) if busy else _FIRST_PAUSE
    with turn:
        _close(session)


def _serve(
    pool: Pool,
    database: Database,
    session: Session | None,
    connect: Callable[[Database], Session],
) -> tuple[Session | None, bool]:
    """Work off one group; the session to go on with, and whether a lock was in the way."""
    try:
        session = session or connect(database)
        session.begin()
    except Exception as error:  # noqa: BLE001 - all of them are answers to those who wait
        if isinstance(error, sqlite3.Error) and faults.is_busy(error):
            return session, True
        _close(session)
        _refuse_all(pool, error, database.path)
        return None, False
    group = pool.take(session.most, _GROUP_BYTES)
    answers = session.run(group)
    if group:
        pool.finish(group, answers)
    if session.broken:
        _close(session)
        return None, False
    return session, False


def _close(session: Session | None) -> None:
    if session is not None:
        with contextlib.suppress(sqlite3.Error, OSError):
            session.close()


def _refuse_all(pool: Pool, error: Exception, path: str) -> None:
    # Taken first, told then: whoever hears of the error and tries again is not meant by it.
    groups = []
    while group := pool.take(_WRITES, _GROUP_BYTES):
        groups.append(group)
    for group in groups:
        pool.finish(group, [(entry, faults.explain(error, path)) for entry in group])


class Reading:
    """Read-only batches, beside the writer; each group sees one state of the database."""

    most = _READS

    def __init__(self, database: Database) -> None:
        self.broken = False
        self._database = database
        self._path = database.path
        self._connection = database.connect(writes=False)
        self._tables = Tables(self._connection, database.clock)

    def begin(self) -> None:
        """See `Session`."""
        self._database.verify()

    def run(self, group: list[Entry]) -> Answers:
        """See `Session`."""
        # Not in `begin`: what is read has to be younger than every call of the group, so that
        # each sees what had been acknowledged when it was made.
        refused = self._look(group)
        if refused is not None:
            answers: Answers = [(entry, faults.explain(refused, self._path)) for entry in group]
        else:
            answers = [(entry, self._answer(entry)) for entry in group]
        _roll_back(self._connection)
        return answers

    def _look(self, group: list[Entry]) -> sqlite3.Error | None:
        """Begin to read the database as it is now; what stands in the way until the deadlines."""
        while True:
            try:
                self._connection.execute("BEGIN")
                self._tables.begin()
            except sqlite3.Error as error:
                _roll_back(self._connection)
                if not faults.is_busy(error):
                    self.broken = True
                    return error
                if all(entry.deadline < time.monotonic() for entry in group):
                    return error
                time.sleep(_LONGEST_PAUSE)
            else:
                return None

    def _answer(self, entry: Entry) -> Answer:
        try:
            return _answer(self._tables, entry)
        except Exception as error:  # noqa: BLE001 - the caller gets it
            self.broken = self.broken or isinstance(error, sqlite3.Error)
            return faults.explain(error, self._path)

    def close(self) -> None:
        """See `Session`."""
        self._database.disconnect(self._connection)


class Writing:
    """All batches that wait, in one transaction: they share the cost of its commit."""

    most = _WRITES

    def __init__(self, database: Database) -> None:
        self.broken = False
        self._database = database
        self._connection = database.connect(writes=True)
        self._tables = Tables(self._connection, database.clock)
        self._lock = LockFile(database.path)
        self._groups = 0

    def begin(self) -> None:
        """See `Session`."""
        if not self._lock.acquire():
            raise _busy()
        try:
            self._database.verify()
            self._begin()
        except BaseException:
            self._lock.release()
            raise

    def _begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._tables.begin()
        except BaseException:
            _roll_back(self._connection)
            raise

    def run(self, group: list[Entry]) -> Answers:
        """See `Session`."""
        try:
            answers = self._attempt(group)
            if answers is None:
                answers = [self._alone(entry) for entry in group]
            self._shorten_log()
        finally:
            self._lock.release()
        return answers

    def _attempt(self, group: list[Entry]) -> Answers | None:
        """The answers of a committed group, or of a failed commit; None: nothing was written."""
        try:
            answers = [(entry, _answer(self._tables, entry)) for entry in group]
            self._tables.flush()
        except Exception as error:  # noqa: BLE001 - the caller gets it
            self._failed(error)
            if len(group) != 1:
                return None
            return [(group[0], faults.explain(error, self._database.path))]
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._failed(error)
            outcome = faults.outcome_of_commit(error)
            path = self._database.path
            return [(entry, faults.explain(error, path, outcome=outcome)) for entry in group]
        return answers

    def _alone(self, entry: Entry) -> tuple[Entry, Answer]:
        """One batch of a group that could not be written: it must not suffer for its neighbours."""
        try:
            self._begin()
        except sqlite3.Error as error:
            self._failed(error)
            return entry, faults.explain(error, self._database.path)
        answers = self._attempt([entry])
        return answers[0] if answers else (entry, None)

    def _failed(self, error: Exception) -> None:
        _roll_back(self._connection)
        self._tables.forget()
        # A file that has room again, or another file system below it, is best opened anew.
        self.broken = self.broken or isinstance(error, sqlite3.Error)

    def _shorten_log(self) -> None:
        """Checkpoint by force when readers have kept the log from starting over for too long."""
        self._groups += 1
        if self._groups % _WAL_LOOKED_AT:
            return
        with contextlib.suppress(OSError, sqlite3.Error):
            if os.stat(f"{self._database.path}-wal").st_size > _WAL_BYTES:  # noqa: PTH116 - hot
                self._connection.execute("PRAGMA busy_timeout = 100")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                self._connection.execute("PRAGMA busy_timeout = 0")

    def close(self) -> None:
        """See `Session`."""
        # The last connection checkpoints when it is closed. SQLite guards that by itself; with the
        # lock, no other process meets it in the middle of a turn.
        with contextlib.suppress(OSError):
            for _ in range(_CLOSING_TRIES):
                if self._lock.acquire():
                    break
                time.sleep(_LONGEST_PAUSE)
        self._database.disconnect(self._connection)
        self._lock.close()


def _answer(tables: Tables, entry: Entry) -> Answer:
    try:
        return execute(tables, entry.batch, entry.program)
    except (port.GuardFailed, port.CorruptField) as refusal:
        return refusal.with_traceback(None)


def _roll_back(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _busy() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("the lock file is taken")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    error.sqlite_errorname = "SQLITE_BUSY"
    return error
