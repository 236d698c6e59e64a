"""What waits on a SQLite store is one transaction: its batches, its failures, its readers."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest
from support.sqlite_store import CREATE, POSIX, append, items

from aiecs.core.errors import StoreFullError, StoreTimeoutError
from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.sqlite import (
    SqliteStore,
    database,
    files,
    pool,
    sessions,
    state,
)


async def test_what_waits_is_committed_together(store: SqliteStore, monkeypatch, held_back):
    commits = []
    begin = sessions.Writing.begin
    monkeypatch.setattr(sessions.Writing, "begin", lambda self: (begin(self), commits.append(1))[0])
    calls = held_back([append(b"%d" % number) for number in range(100)])

    first = await calls()

    assert len(commits) == 1
    assert [results[0] - first[0][0] for results in first] == list(range(100))
    assert await items(store) == [b"%d" % number for number in range(100)]


@pytest.fixture
def held_back(path: Path, store: SqliteStore):
    """Calls that are made while no writer gets a turn, so that they form one group."""

    def prepare(batches: list[port.Batch | port.Call]):
        async def run() -> list:
            lock = files.LockFile(str(path))
            assert lock.acquire()
            tasks = [asyncio.ensure_future(store.apply(batch)) for batch in batches]
            await asyncio.sleep(0)
            lock.close()
            return await asyncio.gather(*tasks, return_exceptions=True)

        return run

    return prepare


async def test_a_refused_batch_in_a_group_writes_nothing(store: SqliteStore, held_back):
    refused = port.Batch(
        1, "g", (port.Append("m", (b"never",)), port.RequireEquals("", "owner", b"me"))
    )

    results = await held_back([append(b"a"), refused, append(b"b")])()

    assert isinstance(results[1], port.GuardFailed)
    assert results[1].operation == 1
    assert await items(store) == [b"a", b"b"]


async def test_a_guard_sees_the_batches_before_it_in_the_group(store: SqliteStore, held_back):
    once = port.Batch(1, "g", (port.Put("", {"owner": b"me"}, "abort"),))

    first, second = await held_back([once, once])()

    assert first == [True]
    assert isinstance(second, port.GuardFailed)
    assert second.found == b"me"


async def test_a_batch_that_cannot_be_written_takes_no_other_with_it(
    store: SqliteStore, held_back, monkeypatch
):
    put = state.Tables.map_put

    def failing(self: state.Tables, key: str, fields: dict[str, bytes]) -> None:
        put(self, key, fields)
        if "poison" in fields:
            self.flush()
            raise full()

    monkeypatch.setattr(state.Tables, "map_put", failing)
    poison = port.Batch(1, "g", (port.Append("m", (b"never",)), port.Put("k", {"poison": b"x"})))

    results = await held_back([append(b"a"), poison, append(b"b")])()

    assert isinstance(results[1], StoreFullError)
    assert results[1].outcome == "not_applied"
    assert await items(store) == [b"a", b"b"]
    assert await store.apply(port.Batch(1, "g", (port.Get("k"),))) == [{}]


def full() -> sqlite3.OperationalError:
    return failure("SQLITE_FULL")


def failure(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("planted")
    error.sqlite_errorcode = getattr(sqlite3, name)
    error.sqlite_errorname = name
    return error


class FailingCommit:
    """A connection whose COMMIT fails, before or after it has done its work."""

    def __init__(self, connection: sqlite3.Connection, error: sqlite3.Error) -> None:
        self._connection = connection
        self._error: sqlite3.Error | None = error

    def __getattr__(self, name: str):
        return getattr(self._connection, name)

    def execute(self, statement: str, *values):
        if statement == "COMMIT" and self._error is not None:
            error, self._error = self._error, None
            raise error
        return self._connection.execute(statement, *values)


@pytest.mark.parametrize(
    ("name", "outcome"), [("SQLITE_FULL", "not_applied"), ("SQLITE_IOERR_FSYNC", "unknown")]
)
async def test_a_failed_commit_fails_its_group_and_no_other(
    path: Path, monkeypatch, name: str, outcome: str
):
    store = SqliteStore(path, timeout=20)
    await store.apply(port.Batch(1, "g", (CREATE,)))
    await store.close()
    connect = database.Database.connect
    errors = [failure(name)]

    def planted(self: database.Database, *, writes: bool):
        connection = connect(self, writes=writes)
        return FailingCommit(connection, errors.pop()) if writes and errors else connection

    monkeypatch.setattr(database.Database, "connect", planted)
    store = SqliteStore(path, timeout=20)
    lock = files.LockFile(str(path))
    assert lock.acquire()
    tasks = [asyncio.ensure_future(store.apply(append(b"%d" % n))) for n in range(3)]
    await asyncio.sleep(0)
    lock.close()

    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [getattr(result, "outcome", None) for result in results] == [outcome] * 3
    assert await items(store) == []
    await store.apply(append(b"later"))
    assert await items(store) == [b"later"]
    await store.close()


async def test_writes_can_be_read_when_they_are_acknowledged(store: SqliteStore):
    async def work(group: str) -> None:
        await store.apply(port.Batch(1, group, (CREATE,)))
        for number in range(50):
            await store.apply(append(b"%d" % number, group))
            assert len(await items(store, group)) == number + 1

    await asyncio.gather(*[work(f"g{number}") for number in range(8)])


async def test_a_read_sees_what_was_acknowledged_before_it_was_called(
    store: SqliteStore, monkeypatch
):
    woken, go_on = threading.Event(), threading.Event()
    take = pool.Pool.take

    def late(self: pool.Pool, count: int, size: int) -> list[pool.Entry]:
        if "reader" in threading.current_thread().name:
            woken.set()
            assert go_on.wait(20)
        return take(self, count, size)

    monkeypatch.setattr(pool.Pool, "take", late)
    store._reads._most = 1
    early = asyncio.ensure_future(items(store))
    assert await asyncio.to_thread(woken.wait, 20)
    await store.apply(append(b"acknowledged"))
    called_after = asyncio.ensure_future(items(store))
    await asyncio.sleep(0)
    go_on.set()

    assert await called_after == [b"acknowledged"]
    await early


@POSIX
async def test_a_reader_that_finds_the_database_busy_tries_again(store: SqliteStore, monkeypatch):
    begin = state.Tables.begin
    times = []

    def busy(self: state.Tables) -> None:
        begin(self)
        times.append(1)
        if len(times) < 3:
            raise failure("SQLITE_BUSY_RECOVERY")

    monkeypatch.setattr(state.Tables, "begin", busy)
    assert await items(store) == []
    assert len(times) == 3

    def always_busy(self: state.Tables) -> None:
        raise failure("SQLITE_BUSY")

    monkeypatch.setattr(state.Tables, "begin", always_busy)
    with pytest.raises(StoreTimeoutError) as caught:
        await store.apply(port.Batch(1, "g", (port.Get(""),)), timeout=0.02)
    assert caught.value.outcome == "not_applied"
