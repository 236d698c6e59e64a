"""Several processes on one SQLite file: killed, stopped, forked and crowded."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiecs.core.errors import StoreTimeoutError
from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, fork and flock")

ROOT = Path(__file__).resolve().parents[2]
CHILD = ROOT / "test" / "support" / "sqlite_child.py"
CREATE = port.Put("", {"~i": port.NEW_INCARNATION}, "skip")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@contextlib.contextmanager
def child(job: str, path: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(CHILD), job, str(path), *map(str, arguments)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def lines(process: subprocess.Popen[str]) -> list[str]:
    return process.communicate(timeout=100)[0].splitlines()


async def read(store: SqliteStore, group: str) -> port.LogSlice:
    (found,) = await store.apply(port.Batch(1, group, (port.Read("m"),)))
    return found


@pytest.mark.parametrize("kills", [1, 3])
async def test_what_was_acknowledged_survives_a_kill(path: Path, kills: int):
    acknowledged: dict[str, list[tuple[int, int]]] = {}
    for kill in range(kills):
        with child("storm", path, f"round{kill}", 16) as process:
            for _ in range(400):
                group, sequence, number = process.stdout.readline().split()
                acknowledged.setdefault(group, []).append((int(sequence), int(number)))
            process.kill()
            rest = process.communicate()[0].splitlines(keepends=True)
        for line in rest:
            if line.endswith("\n"):
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
            await store.apply(port.Batch(1, "g", (port.Append("m", (b"never",)),)), timeout=0.05)
        assert caught.value.outcome == "not_applied"
        assert (await read(store, "g")).items == []
        waiting = asyncio.ensure_future(
            store.apply(port.Batch(1, "g", (port.Append("m", (b"after",)),)))
        )
        await asyncio.sleep(0)
        process.kill()

        await waiting
    assert (await read(store, "g")).items == [b"after"]
    await store.close()


async def test_a_lock_of_another_program_is_waited_for(path: Path):
    store = SqliteStore(path, timeout=20)
    await store.apply(port.Batch(1, "g", (CREATE,)))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreTimeoutError) as caught:
            await store.apply(port.Batch(1, "g", (port.Append("m", (b"never",)),)), timeout=0.05)
        waiting = asyncio.ensure_future(
            store.apply(port.Batch(1, "g", (port.Append("m", (b"after",)),)))
        )
        await asyncio.sleep(0)
        other.execute("ROLLBACK")
        await waiting

    assert caught.value.outcome == "not_applied"
    assert (await read(store, "g")).items == [b"after"]
    await store.close()


def test_a_fork_in_the_middle_of_a_storm(path: Path):
    with child("fork", path) as process:
        output = lines(process)

    assert process.returncode == 0
    assert output.count("child 7") == 5
    assert output[-1] == "lost 0"
    assert sum("in use before this process was forked" in line for line in output) == 5
    assert sum("was open when this process was forked" in line for line in output) == 5
    assert len(output) == 16


def test_a_store_that_was_not_used_before_the_fork(path: Path):
    with child("prefork", path) as process:
        assert lines(process) == ["used", "child 0", "used"]
