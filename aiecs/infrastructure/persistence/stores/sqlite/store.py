"""The store in one SQLite file."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from aiecs.core.clock import now_micros
from aiecs.core.errors import InvalidInputError
from aiecs.core.interface import store as port
from aiecs.core.interface.calls import checked
from aiecs.infrastructure.persistence.stores.semantics import Program, program_of
from aiecs.infrastructure.persistence.stores.sqlite.database import Database
from aiecs.infrastructure.persistence.stores.sqlite.pool import Entry, Pool
from aiecs.infrastructure.persistence.stores.sqlite.sessions import Reading, Writing, work

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiecs.infrastructure.persistence.stores.sqlite.database import Synchronous

_READERS = 2
_SYNCHRONOUS = ("NORMAL", "FULL")
_PING = port.Plan("ping", port.Clock())


class SqliteStore:
    """A `Store` in one file, shared by threads, event loops and processes of one machine.

    A batch is acknowledged after its commit. With `synchronous="NORMAL"` it then survives the
    death of the process; the last ones may be lost, in order, when the machine loses power. With
    "FULL" they survive that too. `timeout` (seconds) bounds every call that names none.

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
        clock: Callable[[], int] | None = None,
    ) -> None:
        if synchronous not in _SYNCHRONOUS:
            raise InvalidInputError(f"synchronous is NORMAL or FULL, got {synchronous!r}")
        self._timeout = _seconds(timeout)
        self.path = _absolute(path)
        database = Database(self.path, synchronous, clock or now_micros)
        writing = functools.partial(work, database=database, connect=Writing)
        reading = functools.partial(work, database=database, connect=Reading)
        self._writes = Pool("sqlite-writer", writing, threads=1)
        self._reads = Pool("sqlite-reader", reading, threads=_READERS)

    @classmethod
    def from_url(cls, url: str) -> SqliteStore:
        """A store from `sqlite:///relative/file.db` or `sqlite:////absolute/file.db`.

        Parameters: `synchronous` (NORMAL or FULL) and `timeout` (seconds). Characters of the path
        may be percent-encoded. A database in memory is refused: `memory://` is the store for that.
        """
        parts = urlsplit(url)
        if parts.scheme != "sqlite" or parts.netloc or not parts.path or parts.fragment:
            raise InvalidInputError("a SQLite URL is sqlite:///relative/path or sqlite:////path")
        options = parse_qsl(parts.query, keep_blank_values=True)
        names = [name for name, _ in options]
        if len(set(names)) != len(names) or not {"synchronous", "timeout"}.issuperset(names):
            raise InvalidInputError("a SQLite URL takes synchronous= and timeout=, each once")
        values: dict[str, Any] = dict(options)
        if "timeout" in values:
            values["timeout"] = _seconds(values["timeout"])
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


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 < seconds < 1e9:  # noqa: PLR2004 - thirty years; NaN is no number either
        raise InvalidInputError(f"a timeout is a number of seconds above 0, got {value!r}")
    return seconds
