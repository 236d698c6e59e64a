"""The store in one SQLite file."""

from __future__ import annotations

import asyncio
import functools
import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from aiecs.core.clock import now_micros
from aiecs.core.errors import InvalidInputError, StoreError
from aiecs.core.interface import store as port
from aiecs.core.interface.calls import checked
from aiecs.infrastructure.persistence.stores.semantics import Program, program_of
from aiecs.infrastructure.persistence.stores.sqlite.database import Database
from aiecs.infrastructure.persistence.stores.sqlite.pool import Entry, Pool
from aiecs.infrastructure.persistence.stores.sqlite.scrubbing import scrub
from aiecs.infrastructure.persistence.stores.sqlite.sessions import Reading, Writing, work

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiecs.infrastructure.persistence.stores.sqlite.database import Synchronous

_READERS = 2
_SYNCHRONOUS = ("NORMAL", "FULL")
_PARAMETERS = {"synchronous", "timeout", "max_bytes"}
_LEAST_BOUND = 1024 * 1024
_PING = port.Plan("ping", port.Clock())


class SqliteStore:
    """A `Store` in one file, shared by threads, event loops and processes of one machine.

    A batch is acknowledged after its commit. With `synchronous="NORMAL"` it then survives the
    death of the process; the last ones may be lost, in order, when the machine loses power. With
    "FULL" they survive that too. `timeout` (seconds) bounds every call that names none. `max_bytes`
    bounds the file (0: the disk does): beyond it writes end in `StoreFullError`.

    The file, and its directory, are created at the first call, for the owner's eyes only. Nothing
    is forgotten unless the caller says so: `expires` is False.
    """

    capabilities = port.Capabilities("sqlite", durable=True, expires=False, shared=True)

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "NORMAL",
        timeout: float = 1.0,
        max_bytes: int = 0,
        clock: Callable[[], int] | None = None,
    ) -> None:
        if synchronous not in _SYNCHRONOUS:
            raise InvalidInputError(f"synchronous is NORMAL or FULL, got {synchronous!r}")
        self._timeout = _seconds(timeout)
        self.path = _absolute(path)
        database = Database(self.path, synchronous, clock or now_micros, _bound(max_bytes))
        self._database = database
        writing = functools.partial(work, database=database, connect=Writing)
        reading = functools.partial(work, database=database, connect=Reading)
        self._writes = Pool("sqlite-writer", writing, threads=1)
        self._reads = Pool("sqlite-reader", reading, threads=_READERS)

    @classmethod
    def from_url(cls, url: str) -> SqliteStore:
        """A store from `sqlite:///relative/file.db` or `sqlite:////absolute/file.db`.

        Parameters: `synchronous` (NORMAL or FULL), `timeout` (seconds), `max_bytes`. Characters of
        the path may be percent-encoded. A database in memory is refused: that is `memory://`.
        """
        parts = urlsplit(url)
        if parts.scheme != "sqlite" or parts.netloc or not parts.path or parts.fragment:
            raise InvalidInputError("a SQLite URL is sqlite:///relative/path or sqlite:////path")
        options = parse_qsl(parts.query, keep_blank_values=True)
        names = [name for name, _ in options]
        if len(set(names)) != len(names) or not _PARAMETERS.issuperset(names):
            known = ", ".join(sorted(f"{name}=" for name in _PARAMETERS))
            raise InvalidInputError(f"a SQLite URL takes {known}, each once")
        values: dict[str, Any] = dict(options)
        if "timeout" in values:
            values["timeout"] = _seconds(values["timeout"])
        if "max_bytes" in values:
            values["max_bytes"] = _bound(values["max_bytes"])
        if "synchronous" in values:
            values["synchronous"] = values["synchronous"].upper()
        return cls(unquote(parts.path[1:]), **values)

    async def apply(
        self, batch: port.Batch | port.Call, *, timeout: float | None = None
    ) -> list[Any] | None:
        """Apply a batch; see `Store.apply`.

        `StoreTimeoutError` has outcome "not_applied" while the batch waited for its turn (or for
        other processes), "unknown" when its transaction had begun. After a fork, `LifecycleError`
        in the child.
        """
        program = program_of(batch.plan) if isinstance(batch, port.Call) else None
        ready, size = checked(batch)
        program = program or Program(ready.ops)
        limit = self._timeout if timeout is None else _seconds(timeout)
        entry = Entry(ready, program, size, limit)
        (self._writes if program.mutating else self._reads).submit(entry)
        return await entry.future

    async def ping(self) -> None:
        """Return when the file can be read; a `StoreError` says why not."""
        await self.apply(port.Call(_PING, 0, "", ()))

    async def usage(self) -> float | None:
        """The share of `max_bytes` that is taken, or of what the disk has for this file.

        None when the file cannot be read.
        """
        with suppress(OSError, sqlite3.Error, StoreError):
            return await asyncio.to_thread(self._database.fullness)
        return None

    async def scrub(self) -> None:
        """Write the file anew without what was deleted, and empty its write-ahead log.

        Takes about as much room again. `StoreTimeoutError` when others use it all the time.
        """
        await asyncio.to_thread(scrub, self._database)

    async def close(self) -> None:
        """Finish what waits, then end the threads and close the file; idempotent."""
        await self._reads.close()
        await self._writes.close()


def _absolute(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path)
    if text == ":memory:":
        raise InvalidInputError("SQLite in memory is not offered: use memory://")
    if not text or "\x00" in text or text.endswith("/"):
        raise InvalidInputError(f"a path to a file is needed, got {text!r}")
    return str(Path(text).absolute())


def _bound(value: Any) -> int:
    text = str(value)
    if not text.isdecimal() or 0 < int(text) < _LEAST_BOUND:
        raise InvalidInputError(f"max_bytes is {_LEAST_BOUND} or more, or 0; got {value!r}")
    return int(text)


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 < seconds < 1e9:  # noqa: PLR2004 - thirty years; NaN is no number either
        raise InvalidInputError(f"a timeout is a number of seconds above 0, got {value!r}")
    return seconds
