"""Several processes on one SQLite file: killed, stopped, forked and crowded."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from support.sqlite_store import CREATE, POSIX, append, child, done, items, lines

from aiecs.core.errors import StoreTimeoutError
from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore

pytestmark = POSIX


KILLS = 20


def killed(process: subprocess.Popen[str]) -> list[str]:
    """What a process says before it is killed, at a random moment."""
    said = [process.stdout.readline() for _ in range(random.randint(1, 400))]
    process.kill()
    return said + process.communicate()[0].splitlines(keepends=True)


async def read(store: SqliteStore, group: str) -> port.LogSlice:
    (found,) = await store.apply(port.Batch(1, group, (port.Read("m"),)))
    return found


@pytest.mark.parametrize("together", [1, 4])
async def test_what_was_acknowledged_survives_a_kill(path: Path, together: int, measured):
    acknowledged: dict[str, list[tuple[int, int]]] = {}
    for kill in range(0, KILLS, together):
        with contextlib.ExitStack() as stack:
            storms = [child("storm", path, f"k{kill + n}", 16) for n in range(together)]
            processes = [stack.enter_context(storm) for storm in storms]
            told = await asyncio.gather(*[asyncio.to_thread(killed, each) for each in processes])
        for line in (line for one in told for line in one if line.endswith("\n")):
            group, sequence, number = line.split()
            acknowledged.setdefault(group, []).append((int(sequence), int(number)))

    store = SqliteStore(path, timeout=20)
    for group, events in acknowledged.items():
        found = await read(store, group)
        numbers = [int(item) for item in found.items]
        assert numbers == list(range(len(numbers))), "once, in order, nothing in between lost"
        assert [found.base + number for _, number in events] == [sequence for sequence, _ in events]
        assert len(numbers) >= len(events)
        (counted,) = await store.apply(port.Batch(1, group, (port.Get("", ("n",)),)))
        assert counted == [b"%d" % len(numbers)], "a batch is there as a whole"
    await store.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    measured(f"{KILLS} kills, {sum(map(len, acknowledged.values())):,} acknowledged, 0 lost")


async def test_four_processes_count_exactly(path: Path):
    store = SqliteStore(path, timeout=20)
    await store.apply(port.Batch(1, "shared", (CREATE,)))
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(child("count", path, 50, 8)) for _ in range(4)]
        outputs = await asyncio.gather(*[asyncio.to_thread(lines, process) for process in children])
        pids = {process.pid for process in children}

    assert outputs == [["failures []"]] * 4
    found = await read(store, "shared")
    assert len(found.items) == found.next - found.base == 1_600
    assert {int(item) for item in found.items} == pids
    assert all(found.items.count(b"%d" % pid) == 400 for pid in pids)
    assert await store.apply(port.Batch(1, "shared", (port.Get("", ("n",)),))) == [[b"1600"]]
    await store.close()


async def test_a_process_that_is_stopped_holds_up_nobody_beyond_the_deadline(path: Path):
    store = SqliteStore(path, timeout=20)
    await store.apply(port.Batch(1, "g", (CREATE,)))
    with child("hold", path) as process:
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGSTOP)

        with pytest.raises(StoreTimeoutError) as caught:
            await store.apply(append(b"never"), timeout=0.05)
        assert caught.value.outcome == "not_applied"
        assert await items(store) == []
        waiting = asyncio.create_task(store.apply(append(b"after")))
        await asyncio.sleep(0)
        process.kill()

        await waiting
    assert await items(store) == [b"after"]
    await store.close()


async def test_a_lock_of_another_program_is_waited_for(path: Path):
    store = SqliteStore(path, timeout=20)
    await store.apply(port.Batch(1, "g", (CREATE,)))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        with pytest.raises(StoreTimeoutError) as caught:
            await store.apply(append(b"never"), timeout=0.05)
        assert time.monotonic() - started > 0.04
        waiting = asyncio.create_task(store.apply(append(b"after")))
        await asyncio.sleep(0)
        other.execute("ROLLBACK")
        await waiting

    assert caught.value.outcome == "not_applied"
    assert await items(store) == [b"after"]
    await store.close()


def test_a_fork_in_the_middle_of_a_storm(path: Path):
    output = done("fork", path)

    assert output.count("child 7") == 5
    assert output[-1] == "lost 0"
    assert sum("in use before this process was forked" in line for line in output) == 5
    assert sum("was open when this process was forked" in line for line in output) == 5
    assert len(output) == 16


def test_a_store_that_was_not_used_before_the_fork(path: Path):
    assert done("prefork", path) == ["used", "child 0", "used"]
