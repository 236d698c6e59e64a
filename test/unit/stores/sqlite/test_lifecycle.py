"""A SQLite store is closed; several loops, threads and stores share a file."""

# ruff: noqa: ASYNC240 - files are the subject here, and they are small

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.sqlite_store import CREATE, POSIX, append, items, threads

from aiecs.core.errors import LifecycleError
from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore, files


async def test_close_is_idempotent_and_ends_the_threads(path: Path):
    store = SqliteStore(path)
    await store.ping()
    await store.apply(port.Batch(1, "g", (CREATE,)))
    assert threads()

    await asyncio.gather(store.close(), store.close())
    await store.close()

    assert not threads()
    for call in (store.ping(), store.apply(append(b"x")), items(store)):
        with pytest.raises(LifecycleError):
            await call


async def test_a_store_that_was_never_used_can_be_closed(path: Path):
    await SqliteStore(path).close()

    assert not path.exists()


@POSIX
async def test_close_finishes_what_waits(path: Path, store: SqliteStore):
    lock = files.LockFile(str(path))
    assert lock.acquire()
    tasks = [asyncio.ensure_future(store.apply(append(b"%d" % number))) for number in range(9)]
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(store.close())
    await asyncio.sleep(0)
    lock.close()
    await closing

    assert len(await asyncio.gather(*tasks)) == 9


@POSIX
async def test_close_leaves_one_file(path: Path, store: SqliteStore):
    await store.apply(append(b"x"))
    await store.close()

    assert {file.name for file in path.parent.iterdir()} == {"store.db", "store.db-lock"}


async def test_several_loops_and_threads_share_a_store(store: SqliteStore):
    async def work(name: str) -> None:
        await store.apply(port.Batch(1, name, (CREATE,)))
        for number in range(100):
            await store.apply(append(b"%d" % number, name))
        assert await items(store, name) == [b"%d" % number for number in range(100)]

    async def several(name: str) -> None:
        await asyncio.gather(*[work(f"{name}-{number}") for number in range(4)])

    threads = [asyncio.to_thread(asyncio.run, several(f"thread{n}")) for n in range(2)]
    await asyncio.gather(several("here"), *threads)


@POSIX
async def test_a_loop_that_ends_does_not_hold_up_others(store: SqliteStore, path: Path):
    lock = files.LockFile(str(path))
    assert lock.acquire()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.apply(append(b"abandoned")), 0.02)

    await asyncio.to_thread(asyncio.run, give_up())
    lock.close()
    await store.apply(append(b"x"))

    assert await items(store) == [b"x"]


async def test_two_stores_on_one_file_see_each_other(path: Path, store: SqliteStore):
    other = SqliteStore(path, timeout=20)
    for number in range(20):
        await (store, other)[number % 2].apply(append(b"%d" % number))
        await (other, store)[number % 2].apply(
            port.Batch(1, "g", (port.Incr("", {"n": 1}), port.RequireExists("")))
        )

    assert await items(other) == await items(store) == [b"%d" % number for number in range(20)]
    assert await store.apply(port.Batch(1, "g", (port.Get("", ("n",)),))) == [[b"20"]]
    await other.close()
