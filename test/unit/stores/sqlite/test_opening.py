"""A SQLite store is opened: its URL, its file, and the files it refuses."""

# ruff: noqa: ASYNC240 - files are the subject here, and they are small

from __future__ import annotations

import contextlib
import sqlite3
import stat
import sys
from pathlib import Path

import pytest
from support.sqlite_store import CREATE, POSIX, append, items, threads

from aiecs.core.errors import InvalidInputError, StoreUnavailableError
from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore, database, files


def test_nothing_happens_before_the_first_call(path: Path):
    SqliteStore(path)

    assert not path.exists()
    assert not threads()


@POSIX
async def test_files_and_directories_are_for_the_owner_alone(tmp_path: Path):
    path = tmp_path / "new" / "nested" / "store.db"
    store = SqliteStore(path)
    await store.apply(port.Batch(1, "g", (CREATE,)))

    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes["store.db"] == 0o600
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
    await store.close()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///some/file.db", Path.cwd() / "some/file.db"),
        ("sqlite:////some/file.db", Path("/some/file.db")),
        ("sqlite:////some/a%20b%3F.db", Path("/some/a b?.db")),
        ("sqlite:///f.db?synchronous=full&timeout=2.5", Path.cwd() / "f.db"),
    ],
)
def test_urls(url: str, expected: Path):
    assert SqliteStore.from_url(url).path == str(expected)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite://host/file.db",
        "sqlite:///:memory:",
        "sqlite:////directory/",
        "sqlite:///f.db?journal_mode=off",
        "sqlite:///f.db?timeout=1&timeout=2",
        "sqlite:///f.db?timeout=",
        "sqlite:///f.db?timeout=nan",
        "sqlite:///f.db?timeout=0",
        "sqlite:///f.db?synchronous=OFF",
        "sqlite:///f.db#part",
        "redis:///f.db",
    ],
)
def test_urls_that_are_refused(url: str):
    with pytest.raises(InvalidInputError):
        SqliteStore.from_url(url)


def test_synchronous_is_what_was_asked_for(path: Path):
    for name, level in (("NORMAL", 1), ("FULL", 2)):
        opened = database.Database(str(path), name, lambda: 0)
        connection = opened.connect(writes=True)
        assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA page_size").fetchone() == (8192,)
        opened.disconnect(connection)


async def test_data_outlives_the_store(path: Path, store: SqliteStore):
    await store.apply(append(b"kept"))
    await store.close()

    again = SqliteStore(path)
    assert await items(again) == [b"kept"]
    await again.close()


async def test_a_newer_format_is_refused(path: Path, store: SqliteStore):
    await store.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")

    newer = SqliteStore(path)
    with pytest.raises(StoreUnavailableError, match="upgrade") as caught:
        await newer.ping()
    assert not caught.value.retryable
    assert caught.value.outcome == "not_applied"
    await newer.close()


async def test_another_programs_database_is_refused_and_left_alone(path: Path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()

    store = SqliteStore(path)
    with pytest.raises(StoreUnavailableError, match="another program"):
        await store.apply(port.Batch(1, "g", (CREATE,)))
    await store.close()
    assert path.read_bytes() == before


async def test_a_directory_in_the_files_place(tmp_path: Path):
    store = SqliteStore(tmp_path)
    with pytest.raises(StoreUnavailableError, match="not a file"):
        await store.ping()
    await store.close()


async def test_a_path_through_a_file(path: Path):
    path.touch()
    store = SqliteStore(path / "below.db")
    with pytest.raises(StoreUnavailableError, match="ENOTDIR"):
        await store.ping()
    await store.close()


@pytest.mark.skipif(sys.platform != "linux", reason="mount table")
@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
async def test_network_file_systems_are_refused(path: Path, tmp_path: Path, monkeypatch, kind: str):
    mounts = tmp_path / "mounts"
    share = tmp_path / "a share"
    share.mkdir()
    where = str(share).replace(" ", "\\040")
    mounts.write_text(f"/dev/x / ext4 rw 0 0\nserver:/x {where} {kind} rw 0 0\n")
    monkeypatch.setattr(files, "_MOUNTS", str(mounts))

    remote, local = SqliteStore(share / "x.db"), SqliteStore(path)
    with pytest.raises(InvalidInputError, match=kind):
        await remote.ping()
    await local.ping()
    await remote.close()
    await local.close()


@POSIX
async def test_a_file_that_is_taken_away_is_noticed(path: Path, store: SqliteStore):
    path.rename(path.with_suffix(".moved"))

    with pytest.raises(StoreUnavailableError, match="removed or replaced"):
        await store.apply(append(b"lost"))
    with pytest.raises(StoreUnavailableError, match="removed or replaced"):
        await items(store)
    assert not path.exists()

    path.with_suffix(".moved").rename(path)
    await store.apply(append(b"kept"))
    assert await items(store) == [b"kept"]
