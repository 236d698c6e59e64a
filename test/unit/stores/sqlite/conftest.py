"""A SQLite store on a file of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.sqlite_store import CREATE

from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore, files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path):
    store = SqliteStore(path, timeout=20)
    await store.apply(port.Batch(1, "g", (CREATE,)))
    yield store
    await store.close()


@pytest.fixture
def held(path: Path):
    """The lock of all writers, held by somebody else until the test lets go of it."""
    lock = files.LockFile(str(path))
    path.touch()
    assert lock.acquire()
    yield lock
    lock.close()
