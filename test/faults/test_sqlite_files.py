"""SQLite without room, without rights, and with damage."""

# ruff: noqa: ASYNC240 - files are the subject here, and they are small

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from support.sqlite_store import CREATE, POSIX, append, done, items

from aiecs.core.errors import StoreFullError, StoreReadOnlyError, StoreUnavailableError
from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore, database, faults

GET = port.Batch(1, "g", (port.Get(""),))


@pytest.fixture
async def filled(path: Path):
    """A database with two groups of 100 items."""
    store = SqliteStore(path, timeout=20)
    for group in ("g", "h"):
        await store.apply(port.Batch(1, group, (CREATE,)))
        for number in range(100):
            await store.apply(append(b"%03d" % number * 300, group))
    await store.close()


# --- no room ------------------------------------------------------------------------------------


async def test_a_full_database_works_again_when_there_is_room(path: Path, monkeypatch):
    limit = ["PRAGMA max_page_count = 40"]
    connect = database.Database.connect

    def limited(self: database.Database, *, writes: bool) -> sqlite3.Connection:
        connection = connect(self, writes=writes)
        connection.execute(limit[0]).fetchall()
        return connection

    monkeypatch.setattr(database.Database, "connect", limited)
    store = SqliteStore(path, timeout=20)
    await store.apply(port.Batch(1, "g", (CREATE,)))
    await store.apply(append(b"x" * 100_000))
    with pytest.raises(StoreFullError) as caught:
        await store.apply(append(b"y" * 1_000_000))
    assert caught.value.outcome == "not_applied"
    assert not caught.value.retryable
    assert await items(store) == [b"x" * 100_000]

    await store.apply(append(b"small"))
    limit[0] = "PRAGMA max_page_count = 4000"
    with pytest.raises(StoreFullError):  # the connection is opened anew after this one
        await store.apply(append(b"z" * 1_000_000))
    await store.apply(append(b"z" * 1_000_000))
    assert [len(item) for item in await items(store)] == [100_000, 5, 1_000_000]
    await store.close()


@POSIX
async def test_a_disk_without_room_loses_nothing_that_was_acknowledged(path: Path):
    (kind, outcome, acknowledged), went_on = map(str.split, done("fill", path, 3_000_000))

    assert kind in ("StoreFullError", "StoreUnavailableError")
    assert outcome == "not_applied"
    assert went_on == ["went", "on"]
    store = SqliteStore(path, timeout=20)
    found = await items(store)
    assert len(found) == int(acknowledged) + 1
    assert found[-1] == b"room again"
    await store.close()


# --- no rights ----------------------------------------------------------------------------------


@POSIX
@pytest.mark.usefixtures("filled")
def test_a_file_that_may_only_be_read(path: Path):
    path.parent.chmod(0o777)
    path.chmod(0o444)
    with contextlib.ExitStack() as stack:
        stack.callback(path.parent.chmod, 0o700)
        _reachable(path, stack)

        assert done("unprivileged", path) == ["StoreReadOnlyError not_applied", "worked"]


@POSIX
@pytest.mark.usefixtures("filled")
def test_a_directory_that_may_not_be_written(path: Path):
    path.chmod(0o666)
    path.parent.chmod(0o555)
    with contextlib.ExitStack() as stack:
        stack.callback(path.parent.chmod, 0o700)
        _reachable(path, stack)

        assert set(done("unprivileged", path)) == {"StoreReadOnlyError not_applied"}


@POSIX
def test_a_directory_that_may_not_be_made(path: Path):
    path.parent.chmod(0o555)
    with contextlib.ExitStack() as stack:
        stack.callback(path.parent.chmod, 0o700)
        _reachable(path, stack)

        made = done("unprivileged", path.parent / "new" / "store.db")
        assert set(made) == {"StoreReadOnlyError not_applied"}


def _reachable(path: Path, stack: contextlib.ExitStack) -> None:
    """Let others pass through the directories above, which pytest keeps private."""
    for parent in list(path.parents)[1:]:
        mode = parent.stat().st_mode
        if not mode & 0o001 and parent.owner() == path.parent.owner():
            stack.callback(parent.chmod, mode)
            parent.chmod(mode | 0o011)


# --- damage -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("filled")
async def test_a_file_that_is_no_database(path: Path):
    path.write_bytes(b"This is a text, and a long one. " * 1000)
    store = SqliteStore(path, timeout=20)

    for batch in (append(b"x"), GET):
        with pytest.raises(StoreUnavailableError, match=r"no SQLite database.*backup") as caught:
            await store.apply(batch)
        assert caught.value.outcome == "not_applied"
        assert not caught.value.retryable
    await store.close()
    assert path.read_bytes() == b"This is a text, and a long one. " * 1000


@pytest.mark.usefixtures("filled")
async def test_damage_is_told_and_what_it_spared_is_served(path: Path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        page = connection.execute("PRAGMA page_size").fetchone()[0]
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    with path.open("r+b") as file:
        file.seek((pages - 3) * page)
        file.write(b"\xff" * page)

    store = SqliteStore(path, timeout=20)
    with pytest.raises(StoreUnavailableError, match="damaged"):
        await items(store, "h")
    assert len(await items(store, "g")) == 100
    await store.close()


async def test_a_file_can_be_put_in_order_without_a_restart(path: Path, filled):
    good = path.read_bytes()
    path.write_bytes(b"no database at all" * 1000)
    store = SqliteStore(path, timeout=20)
    with pytest.raises(StoreUnavailableError):
        await store.ping()

    path.write_bytes(good)
    assert len(await items(store)) == 100
    await store.close()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("SQLITE_BUSY_RECOVERY", "StoreTimeoutError"),
        ("SQLITE_READONLY_DBMOVED", "StoreReadOnlyError"),
        ("SQLITE_FULL", "StoreFullError"),
        ("SQLITE_IOERR_WRITE", "StoreUnavailableError"),
        ("SQLITE_CORRUPT_INDEX", "StoreFileError"),
        ("SQLITE_NOMEM", "StoreUnavailableError"),
        ("SQLITE_CANTOPEN_FULLPATH", "StoreUnavailableError"),
    ],
)
def test_codes_of_sqlite(name: str, kind: str):
    error = sqlite3.OperationalError("with content")
    error.sqlite_errorcode = getattr(sqlite3, name)
    error.sqlite_errorname = name

    explained = faults.explain(error, "/some/file.db")

    assert type(explained).__name__ == kind
    assert "/some/file.db" in str(explained)
    assert "content" not in str(explained)


def test_errors_of_the_file_system():
    denied = faults.explain(PermissionError(13, "denied"), "/x.db")
    full = faults.explain(OSError(28, "no space"), "/x.db")

    assert isinstance(denied, StoreReadOnlyError)
    assert isinstance(full, StoreFullError)
