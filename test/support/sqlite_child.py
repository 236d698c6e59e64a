"""A process of its own on a SQLite store, for tests that kill, fork, fill and crowd.

    python sqlite_child.py JOB PATH ARGUMENT...

Prints one line per event, so that a test can wait for it instead of sleeping.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import threading

from aiecs.core.errors import LifecycleError, StoreError
from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore, files

CREATE = port.Put("", {"~i": port.NEW_INCARNATION}, "skip")
APPEND = port.Plan("append", port.Append("m", (port.Arg(0),)), port.Incr("", {"n": 1}))
NOBODY = 65_534


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - what the test waits for


def append(group: str, item: bytes) -> port.Call:
    return port.Call(APPEND, 1, group, (item,))


async def storm(store: SqliteStore, name: str, tasks: str) -> None:
    """Append without end; a line for each acknowledged item: its group, sequence and number."""

    async def one(group: str) -> None:
        await store.apply(port.Batch(1, group, (CREATE,)))
        number = 0
        while True:
            sequence, _ = await store.apply(append(group, b"%d" % number)) or (0, 0)
            say(group, sequence, number)
            number += 1

    await asyncio.gather(*[one(f"{name}-{task}") for task in range(int(tasks))])


async def count(store: SqliteStore, writes: str, tasks: str) -> None:
    """So many appends to one shared group, then the number of failures."""
    failures: list[StoreError] = []

    async def one() -> None:
        for _ in range(int(writes)):
            try:
                await store.apply(append("shared", b"%d" % os.getpid()))
            except StoreError as error:
                failures.append(error)

    await asyncio.gather(*[one() for _ in range(int(tasks))])
    say("failures", failures)


async def fill(store: SqliteStore, limit: str) -> None:
    """Append until files may not grow, then with room again."""
    await store.apply(port.Batch(1, "g", (CREATE,)))
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), hard))
    acknowledged = 0
    try:
        while True:
            await store.apply(append("g", os.urandom(50_000)))
            acknowledged += 1
    except StoreError as error:
        say(type(error).__name__, error.outcome, acknowledged)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await store.apply(append("g", b"room again"))
    say("went on")


async def unprivileged(store: SqliteStore) -> None:
    """Write and read without the right to; root gives its own up for it."""
    if os.geteuid() == 0:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    for batch in (append("g", b"x"), port.Batch(1, "g", (port.Get(""),))):
        try:
            await store.apply(batch)
            say("worked")
        except StoreError as error:
            say(type(error).__name__, error.outcome)


async def hold(store: SqliteStore) -> None:
    """Hold the writers' lock until killed."""
    lock = files.LockFile(store.path)
    while not lock.acquire():  # noqa: ASYNC110 - a lock of other processes has no event
        await asyncio.sleep(0.001)
    say("held")
    await asyncio.Event().wait()


def fork(store: SqliteStore) -> None:
    """Fork in the middle of a storm; children must neither use, harm nor wait for the parent's."""
    stop, ready = threading.Event(), threading.Event()
    acknowledged = []

    async def one() -> None:
        while not stop.is_set():
            await store.apply(append("g", b"x" * 500))
            acknowledged.append(1)

    async def parent() -> None:
        await store.apply(port.Batch(1, "g", (CREATE,)))
        await store.apply(port.Batch(1, "g", (port.Get(""),)))
        ready.set()
        await asyncio.gather(*[one() for _ in range(32)])
        (found,) = await store.apply(port.Batch(1, "g", (port.Read("m"),))) or ()
        say("lost", len(acknowledged) - len(found.items))
        await store.close()

    async def child() -> None:
        for used in (store, SqliteStore(store.path)):
            try:
                await used.ping()
            except LifecycleError as error:
                say(error)
            await used.close()
        fresh = SqliteStore(f"{store.path}-{os.getpid()}")
        await fresh.ping()
        await fresh.close()

    thread = threading.Thread(target=lambda: asyncio.run(parent()))
    thread.start()
    ready.wait()
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            asyncio.run(child())
            gc.collect()
            sys.exit(7)
        say("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    stop.set()
    thread.join()


def prefork(store: SqliteStore) -> None:
    """A store that was made, but not used, before the fork."""
    pid = os.fork()
    if pid == 0:
        asyncio.run(use(store))
        sys.exit(0)
    say("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    asyncio.run(use(store))


async def use(store: SqliteStore) -> None:
    await store.apply(port.Batch(1, "g", (CREATE,)))
    await store.apply(append("g", b"x"))
    await store.close()
    say("used")


async def run(job: str, store: SqliteStore, arguments: list[str]) -> None:
    try:
        await JOBS[job](store, *arguments)
    finally:
        await store.close()


JOBS = {
    "storm": storm,
    "count": count,
    "fill": fill,
    "unprivileged": unprivileged,
    "hold": hold,
}

if __name__ == "__main__":
    _, name, path, *rest = sys.argv
    target = SqliteStore(path, timeout=20, synchronous="FULL" if name == "storm" else "NORMAL")
    if name in ("fork", "prefork"):
        {"fork": fork, "prefork": prefork}[name](target)
    else:
        asyncio.run(run(name, target, rest))
