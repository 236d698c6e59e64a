"""Handles of the engine that is embedded in this process, on a directory that only it uses."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aiecs.core.errors import ArchiveInUseError
from aiecs.infrastructure.persistence.archive.url import Address

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: The engine itself is opened by the first handle, and is not made for two at once.
_opening = threading.Lock()


def open_embedded(address: Address) -> Client:
    """A handle; the directory is made. `ArchiveInUseError` while another process has it."""
    import clickhouse_connect

    path = Path(address.path or "")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _is_taken(path):
        raise in_use(address.name)
    with _opening:
        return clickhouse_connect.get_client(interface="chdb", path=str(path), tz_mode="aware")


def open_embedded_reader(address: Address) -> Client:
    """A handle that changes nothing."""
    reader = open_embedded(address)
    reader.command("SET readonly = 2")
    return reader


def in_use(name: str) -> ArchiveInUseError:
    """What is said when another process has the directory."""
    return ArchiveInUseError(
        f"{name} cannot be opened: one process at a time can use an embedded archive's directory, "
        "and another one does; close it there, or use a ClickHouse server",
        unexpected=True,
    )


def _is_taken(path: Path) -> bool:
    """Whether another process has the directory.

    The engine finds that out itself, but says it on standard error, each time that it is asked.
    """
    if sys.platform == "win32":
        return False
    with suppress(FileNotFoundError, PermissionError), (path / "status").open("rb") as status:
        if status.readline() == b"PID: %d\n" % os.getpid():
            return False
        try:
            fcntl.flock(status, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
