"""A SQLite store under test: short words for its batches, and what it keeps running."""

from __future__ import annotations

import sys
import threading

import pytest

from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore

CREATE = port.Put("", {"~i": port.NEW_INCARNATION}, "skip")
APPEND = port.Plan("append", port.Append("m", (port.Arg(0),)))
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="flock and modes are POSIX")


def threads() -> list[str]:
    """The threads of every store in this process."""
    return [thread.name for thread in threading.enumerate() if "sqlite" in thread.name]


def append(item: bytes, group: str = "g") -> port.Call:
    """An item more in the group, by plan."""
    return port.Call(APPEND, 1, group, (item,))


async def items(store: SqliteStore, group: str = "g") -> list[bytes]:
    """The items of the group."""
    (found,) = await store.apply(port.Batch(1, group, (port.Read("m"),))) or ()
    kept: list[bytes] = found.items
    return kept
