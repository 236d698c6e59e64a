"""The doctor's examinations: each looks at one thing and says what it found."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING

from aiecs.cli.about import DISTRIBUTION, version
from aiecs.cli.findings import health_findings, latency
from aiecs.cli.running import explain
from aiecs.cli.target import Target
from aiecs.core.errors import ContextEngineError, InvalidInputError, MissingExtraError, StoreError
from aiecs.core.interface.finding import Finding, size
from aiecs.core.secret import safe_url
from aiecs.core.settings import load_settings

if TYPE_CHECKING:
    from aiecs.domain.context import ContextEngine

_READS = 20
_ROOM = 1024 * 1024 * 1024
_CHECKED_BELOW = 256 * 1024 * 1024
_EXTRAS = {
    "clickhouse": "clickhouse_connect",
    "chdb": "chdb",
    "langgraph": "langgraph",
    "zstd": "zstandard",
    "uvloop": "uvloop",
}
_PREFIXES = ("AIECS_", "REDIS_", "CLICKHOUSE_")
_SECRET = ("PASSWORD", "SECRET", "TOKEN", "KEY")
_OPEN = ("AIECS_KEY_PREFIX",)


def installation() -> list[Finding]:
    """Versions, extras, and the name clash."""
    python = f"Python {platform.python_version()} on {platform.system()}"
    there = [name for name, module in _EXTRAS.items() if util.find_spec(module) is not None]
    return [
        Finding("version", "ok", f"{DISTRIBUTION} {version()}, {python}"),
        Finding("extras", "ok", ", ".join(there) or "none but the command line"),
        name_clash(),
    ]


def name_clash() -> Finding:
    """Whether the other distribution that is imported as `aiecs` is installed too."""
    try:
        other = metadata.version("aiecs")
    except metadata.PackageNotFoundError:
        return Finding("name clash", "ok", "no other package is imported as aiecs")
    return Finding(
        "name clash",
        "fail",
        f"PyPI's aiecs {other} is installed too; both write into the same directory",
        f"pip uninstall aiecs && pip install --force-reinstall {DISTRIBUTION}",
    )


def settings(environ: Mapping[str, str] | None = None) -> Finding:
    """The environment variables that matter here, secrets masked."""
    found = os.environ if environ is None else environ
    names = sorted(name for name in found if name.startswith(_PREFIXES) and found[name])
    shown = [f"{name}={_masked(name, found[name])}" for name in names]
    try:
        load_settings()
    except InvalidInputError as error:
        return Finding("settings", "fail", str(error), "correct the variables that are named")
    return Finding("settings", "ok", ", ".join(shown) or "none in the environment")


def _masked(name: str, value: str) -> str:
    if name not in _OPEN and any(mark in name for mark in _SECRET):
        return "***"
    return safe_url(value) if "://" in value else value


async def store(target: Target) -> list[Finding]:
    """The store itself: whether it can be reached, and how it is."""
    found = []
    if target.scheme == "memory":
        note = "gone when the process ends"
        found.append(Finding("store", "note", note, "name another store to keep anything"))
    if target.file is not None:
        found += _sqlite_file(target.file)
        if not target.file.exists():
            return found

    from aiecs.cli.opened import Unarchived

    engine = Unarchived(store=target.url, operation_timeout=5.0)
    try:
        async with engine:
            found.append(Finding("reachable", "ok", target.shown))
            found += await _examine(engine, target)
    except (ContextEngineError, OSError) as error:
        found.append(_unreachable(target, error))
    return found


def _unreachable(target: Target, error: Exception) -> Finding:
    advice = "see the message"
    if isinstance(error, (StoreError, MissingExtraError)):
        advice = (
            explain(error).removeprefix(f"{error}; ").replace("`aiecs doctor`", "the server's log")
        )
    return Finding("reachable", "fail", f"{target.shown}: {error}", advice)


async def _examine(engine: ContextEngine, target: Target) -> list[Finding]:
    found = [latency(await _reads(engine))]
    if target.file is not None:
        found += _sqlite_contents(target.file)
    return found + health_findings(await engine.health_check())


async def _reads(engine: ContextEngine) -> list[float]:
    taken = []
    await engine.get_session("doctor")  # the first one also connects
    for _ in range(_READS):
        start = time.perf_counter()
        await engine.get_session("doctor")
        taken.append(time.perf_counter() - start)
    return taken


def _sqlite_file(file: Path) -> list[Finding]:
    place = file if file.exists() else _existing(file.absolute().parent)
    if not os.access(place, os.W_OK):
        return [Finding("file", "fail", f"{place} cannot be written", "change its permissions")]
    free = shutil.disk_usage(place).free
    detail = f"{size(file.stat().st_size)}" if file.exists() else "not there yet; it will be made"
    detail += f", {size(free)} free on its disk"
    if free < _ROOM:
        return [Finding("file", "warn", detail, "make room: writes fail when the disk is full")]
    return [Finding("file", "ok", detail)]


def _existing(directory: Path) -> Path:
    while not directory.exists():
        directory = directory.parent
    return directory


def _sqlite_contents(file: Path) -> list[Finding]:
    found = [Finding("server", "ok", f"SQLite {sqlite3.sqlite_version}, inside this process")]
    uri = f"{file.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=5)) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        if mode == "wal":
            kept = "write-ahead log: a power cut may lose the last writes, never the file"
            found.append(Finding("persistence", "ok", kept))
        else:
            found.append(Finding("persistence", "warn", f"journal mode {mode} instead of wal"))
        found.append(Finding("eviction", "ok", "none: a file forgets nothing"))
        if file.stat().st_size < _CHECKED_BELOW:
            found.append(_sqlite_check(connection))
    return found


def _sqlite_check(connection: sqlite3.Connection) -> Finding:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict == "ok":
        return Finding("integrity", "ok", "quick_check passed")
    advice = "restore a backup, or save what can be read with `aiecs export`"
    return Finding("integrity", "fail", f"damaged: {verdict}", advice)
