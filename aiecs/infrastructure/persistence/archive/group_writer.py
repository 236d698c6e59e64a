"""Rows of many callers, written together: what arrives during an insert goes into the next one."""

from __future__ import annotations

import asyncio
import copy
import logging
import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from hashlib import blake2b
from typing import NamedTuple

from aiecs.core.errors import ArchiveError, ArchiveUnavailableError, LifecycleError
from aiecs.core.interface.archive import Archive
from aiecs.infrastructure.persistence.archive.delivery import MOST_BYTES, MOST_ROWS, is_of_rows
from aiecs.infrastructure.persistence.archive.rows import Row, columns_of

logger = logging.getLogger("aiecs.archive")


class Written(NamedTuple):
    """A row for a table; `size` is about how many bytes it takes."""

    table: str
    row: Row
    size: int


class _Waiting(NamedTuple):
    written: Written
    done: Future[bool]


class GroupWriter:
    """Writes to one archive from a thread of its own, until it is closed."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._opened = False
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="aiecs-archive-rows", daemon=True)
        self._thread.start()

    async def write(self, written: Written) -> bool:
        """True when the row is in the archive, False when it will never take it.

        The `ArchiveError` of any other failure; then the row may be in. Cancelled before its insert
        begins, it is not written. `LifecycleError` after `close`, and in a forked child.
        """
        done: Future[bool] = Future()
        with self._changed:
            if self._closing or not self._thread.is_alive():
                raise LifecycleError("what writes to the archive is closed, or in another process")
            self._waiting.append(_Waiting(written, done))
            self._changed.notify()
        return await asyncio.wrap_future(done)

    def open(self) -> None:
        """Open the archive now instead of before the first row; blocks."""
        self._archive.open()
        self._opened = True

    def close(self, seconds: float) -> None:
        """Write what is left, for at most so long, then close the archive; blocks; idempotent.

        What is not written by then fails with `ArchiveUnavailableError`.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            self._closed = True
            left, self._waiting = self._waiting, deque()
        _fail(left, _too_late())
        self._archive.close()  # an insert that waits for its answer fails
        self._thread.join()
        self._archive.close()  # the thread may have been about to open it

    # --- in the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while batch := self._next():
            by_table: dict[str, list[_Waiting]] = {}
            for one in batch:
                by_table.setdefault(one.written.table, []).append(one)
            for table, rows in by_table.items():
                try:
                    self._insert(table, rows)
                except Exception as error:  # noqa: BLE001 - each row's caller gets it
                    self._opened = False
                    _fail(rows, error)

    def _next(self) -> list[_Waiting]:
        """What waits, as much as an insert takes gladly; nothing when this is to end."""
        batch: list[_Waiting] = []
        size = 0
        with self._changed:
            while not batch:
                while not self._waiting:
                    if self._closing:
                        return []
                    self._changed.wait()
                while self._waiting and len(batch) < MOST_ROWS and size < MOST_BYTES:
                    one = self._waiting.popleft()
                    if one.done.set_running_or_notify_cancel():
                        batch.append(one)
                        size += one.written.size
        return batch

    def _insert(self, table: str, rows: list[_Waiting]) -> None:
        """Insert rows together, or in halves around those that are refused."""
        if self._closed:
            raise _too_late()
        if not self._opened:
            self.open()
        try:
            columns = columns_of([one.written.row for one in rows])
            self._archive.insert(table, columns, token=_token(table, rows))
        except LifecycleError:
            # Whoever shares the archive has closed it: the next try opens it.
            raise ArchiveUnavailableError("the archive was closed meanwhile") from None
        except ArchiveError as error:
            if not is_of_rows(error, suspect=True):
                raise
            if len(rows) > 1:
                half = len(rows) // 2
                self._insert(table, rows[:half])
                self._insert(table, rows[half:])
            else:
                _refuse(rows[0], error)
        else:
            for one in rows:
                one.done.set_result(True)


def _refuse(one: _Waiting, error: ArchiveError) -> None:
    if isinstance(error, ArchiveUnavailableError):  # nobody knows whether for good
        one.done.set_exception(error)
        return
    logger.error("the archive does not take a row of %s: %s", one.written.table, error)
    one.done.set_result(False)


def _token(table: str, rows: list[_Waiting]) -> str:
    """The same rows have the same token, whenever they are sent together again."""
    digest = blake2b(table.encode(), digest_size=16)
    for one in rows:
        digest.update(one.written.row["event_id"].bytes)
    return digest.hexdigest()


def _too_late() -> ArchiveUnavailableError:
    return ArchiveUnavailableError("closed before the row was written")


def _fail(rows: Iterable[_Waiting], error: Exception) -> None:
    """Let the callers know; each gets an error of its own, since raising one changes it."""
    for one in rows:
        if one.done.done():
            continue
        if one.done.running() or one.done.set_running_or_notify_cancel():
            own = copy.copy(error) if isinstance(error, ArchiveError) else error
            one.done.set_exception(own)
