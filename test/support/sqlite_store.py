"""A SQLite store under test: short words for its batches, and processes that use the same file."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore

CREATE = port.Put("", {"~i": port.NEW_INCARNATION}, "skip")
APPEND = port.Plan("append", port.Append("m", (port.Arg(0),)))
ROOT = Path(__file__).resolve().parents[2]
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


@contextlib.contextmanager
def child(job: str, path: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that does a job of `sqlite_child` on the file; it does not outlive the block."""
    script = Path(__file__).with_name("sqlite_child.py")
    process = subprocess.Popen(
        [sys.executable, script, job, path, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def lines(process: subprocess.Popen[str]) -> list[str]:
    """What a process prints until it ends."""
    return process.communicate(timeout=100)[0].splitlines()


def done(job: str, path: Path, *arguments: object) -> list[str]:
    """What a job prints that ends well."""
    with child(job, path, *arguments) as process:
        said = lines(process)
    assert process.returncode == 0
    return said
