"""Deadlines, full queues and cancelled callers of a SQLite store."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from support.sqlite_store import CREATE, POSIX, append, items

from aiecs.core.errors import InvalidInputError, StoreOverloadedError, StoreTimeoutError
from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore, files, pool, sessions


@POSIX
async def test_a_batch_without_a_turn_is_withdrawn(path: Path, store: SqliteStore):
    lock = files.LockFile(str(path))
    assert lock.acquire()

    with pytest.raises(StoreTimeoutError) as caught:
        await store.apply(append(b"never"), timeout=0.02)
    patient = asyncio.ensure_future(store.apply(append(b"patient")))
    with pytest.raises(StoreTimeoutError):
        await store.apply(append(b"never either"), timeout=0.02)
    lock.close()

    await patient
    assert caught.value.outcome == "not_applied"
    assert await items(store) == [b"patient"]


@POSIX
async def test_readers_do_not_wait_for_the_writers_lock(store: SqliteStore, held):
    assert await items(store) == []


async def test_a_batch_that_has_begun_has_an_unknown_outcome(store: SqliteStore, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    attempt = sessions.Writing._attempt

    def slow(self: sessions.Writing, group):
        begun.set()
        assert go_on.wait(20)
        return attempt(self, group)

    monkeypatch.setattr(sessions.Writing, "_attempt", slow)
    with pytest.raises(StoreTimeoutError) as caught:
        await store.apply(append(b"late"), timeout=0.02)
    assert begun.is_set()
    go_on.set()

    assert caught.value.outcome == "unknown"
    await store.apply(append(b"next"))
    assert await items(store) == [b"late", b"next"]


@POSIX
async def test_callers_wait_outside_a_full_queue(store: SqliteStore, path: Path, monkeypatch):
    monkeypatch.setattr(pool, "MAX_WAITING", 2)
    lock = files.LockFile(str(path))
    assert lock.acquire()
    admitted = [asyncio.ensure_future(store.apply(append(b"%d" % n))) for n in range(2)]
    outside = asyncio.ensure_future(store.apply(append(b"2")))
    await asyncio.sleep(0)

    with pytest.raises(StoreOverloadedError) as caught:
        await store.apply(append(b"never"), timeout=0.02)
    lock.close()

    await asyncio.gather(*admitted, outside)
    assert caught.value.outcome == "not_applied"
    assert await items(store) == [b"0", b"1", b"2"]


@POSIX
async def test_a_full_queue_is_measured_in_bytes_too(store: SqliteStore, path: Path, monkeypatch):
    monkeypatch.setattr(pool, "MAX_WAITING_BYTES", 100)
    lock = files.LockFile(str(path))
    assert lock.acquire()
    admitted = asyncio.ensure_future(store.apply(append(b"x" * 200)))
    await asyncio.sleep(0)

    with pytest.raises(StoreOverloadedError):
        await store.apply(append(b"never"), timeout=0.02)
    lock.close()
    await admitted


@POSIX
async def test_a_cancelled_caller_disturbs_nobody(store: SqliteStore, path: Path):
    lock = files.LockFile(str(path))
    assert lock.acquire()
    tasks = [asyncio.ensure_future(store.apply(append(b"%d" % number))) for number in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    lock.close()

    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
    assert await items(store) == [b"%d" % number for number in range(1, 20, 2)]


async def test_a_bad_batch_is_refused_at_once(store: SqliteStore, held):
    with pytest.raises(InvalidInputError):
        await store.apply(port.Batch(-1, "g", (CREATE,)))
    with pytest.raises(InvalidInputError):
        await store.apply(append("text"))  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError):
        await store.apply(append(b""), timeout=-1)
