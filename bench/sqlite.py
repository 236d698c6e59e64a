"""add_conversation_message (1 KB) into a SQLite file: 64 tasks in one process, then 4 processes.

The same logical work on both sides of the first comparison: a row for the message and a change to
the row of its session, committed before the call returns. aiosqlite: one connection, one
transaction per call under a lock, WAL, sequence and index as small as possible; it stores no times,
checks nothing. OpenAI Agents: SQLiteSession.add_items, one object per session, one file; it does
not set `synchronous`, so SQLite's default FULL applies to it. ContextEngine commits what has
gathered while the last commit ran (group commit); a call returns after its own commit. NORMAL
survives a killed process, FULL a power cut. Four processes: 16 tasks each on one file, each its own
sessions; aiosqlite with its usual busy timeout of 5 s. "Locked" counts calls that failed with it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from harness import Figures, Options, Side, compare, on_loop
from report import Claim, Report, at_least, at_most, environment

from aiecs.domain.context import ContextEngine

TASKS, PROCESSES = 64, 4
TEXT = "The quick brown fox jumps over the lazy dog. " * 21  # 945 characters: 1 KB as stored
IDS = [f"session-{n}" for n in range(TASKS)]
MODES = ("NORMAL", "FULL")
OURS, PLAIN, AGENTS = "ContextEngine", "aiosqlite", "OpenAI Agents SQLiteSession"
TABLES = """
CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, messages INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS messages (session TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS messages_by_session ON messages (session);
"""


class Plain:
    """A careful application on aiosqlite: one transaction per call, one call at a time."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._lock = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path, mode: str) -> Plain:
        import aiosqlite

        connection = await aiosqlite.connect(path)
        await connection.execute("PRAGMA journal_mode = WAL")
        await connection.execute(f"PRAGMA synchronous = {mode}")
        await connection.executescript(TABLES)
        return cls(connection)

    async def add(self, session_id: str, role: str, content: str) -> None:
        body = json.dumps({"role": role, "content": content, "timestamp": time.time()}).encode()
        upsert = "INSERT INTO sessions VALUES (?, 1) ON CONFLICT DO UPDATE SET messages=messages+1"
        async with self._lock:
            await self._connection.execute("INSERT INTO messages VALUES (?, ?)", (session_id, body))
            await self._connection.execute(upsert, (session_id,))
            await self._connection.commit()

    async def close(self) -> None:
        await self._connection.close()


def main() -> None:
    options = Options.parse(__doc__)
    place = Path(tempfile.mkdtemp(prefix="bench-sqlite-"))
    try:
        found = on_loop("asyncio", partial(_measure, place, options))
        crowds = {kind: _crowd(place / f"{kind}.db", kind, options) for kind in (OURS, PLAIN)}
    finally:
        shutil.rmtree(place)
    where = environment("sqlite3", "aiosqlite", "openai-agents", "msgspec")
    report = Report(__doc__, where)
    report.sides("64 tasks, one process, asyncio", found, f"{OURS} NORMAL")
    columns = ("side", "ops/s", "p50 ms", "p99 ms", "longest ms", "locked", "other errors")
    report.table(
        "4 processes on one file, NORMAL",
        columns,
        [(kind, *crowd) for kind, crowd in crowds.items()],
    )
    for claim in _claims(found, crowds[OURS]):
        report.claim(claim)
    report.show(options)


# --- one process ----------------------------------------------------------------------------------


async def _measure(place: Path, options: Options) -> dict[str, Figures]:
    engines = {mode: _engine(place / f"ours-{mode}.db", mode) for mode in MODES}
    plains = {mode: await Plain.open(place / f"plain-{mode}.db", mode) for mode in MODES}
    agents = _agents(place / "agents.db")
    for engine in engines.values():
        await engine.initialize()
    sides = _sides(engines, plains, agents)
    found = await compare(sides, options, TASKS)
    for engine in engines.values():
        await engine.close()
    for plain in plains.values():
        await plain.close()
    for agent in agents or ():
        agent.close()
    failed = [f"{side.name}: {side.errors[0]}" for side in sides if side.errors]
    if failed:
        raise RuntimeError("; ".join(failed))
    return found


def _engine(path: Path, mode: str) -> ContextEngine:
    return ContextEngine(store=f"sqlite:///{path}?synchronous={mode}", operation_timeout=10.0)


def _agents(path: Path) -> list[Any] | None:
    try:
        from agents import SQLiteSession
    except ImportError:
        return None
    return [SQLiteSession(session_id, path) for session_id in IDS]


def _sides(engines: dict[str, Any], plains: dict[str, Plain], agents: Any) -> list[Side]:
    def ours(mode: str, task: int, _: int) -> Any:
        return engines[mode].add_conversation_message(IDS[task], "user", TEXT)

    def plain(mode: str, task: int, _: int) -> Any:
        return plains[mode].add(IDS[task], "user", TEXT)

    calls = {f"{OURS} {mode}": partial(ours, mode) for mode in MODES}
    calls |= {f"{PLAIN} {mode}": partial(plain, mode) for mode in MODES}
    if agents is not None:
        message = [{"role": "user", "content": TEXT}]
        calls[AGENTS] = lambda task, _: agents[task].add_items(message)
    return [Side(name, call) for name, call in calls.items()]


# --- several processes ----------------------------------------------------------------------------


class Crowd(NamedTuple):
    """What several processes on one file had together."""

    rate: int
    p50_ms: float
    p99_ms: float
    longest_ms: float
    locked: int
    others: int


def _crowd(path: Path, kind: str, options: Options) -> Crowd:
    seconds = options.seconds * options.rounds
    context = get_context("spawn")
    barrier, results = context.Barrier(PROCESSES), context.Queue()
    members = [Member(path, kind, number, seconds) for number in range(PROCESSES)]
    work = [context.Process(target=_member, args=(one, barrier, results)) for one in members]
    for process in work:
        process.start()
    found = [results.get(timeout=seconds + 120) for _ in work]
    for process in work:
        process.join()
    latencies = sorted(one for member, _ in found for one in member)
    errors = [error for _, member in found for error in member]
    locked = sum("locked" in error or "busy" in error.lower() for error in errors)
    points = [latencies[int(len(latencies) * share)] * 1e3 for share in (0.5, 0.99)]
    rate = round(len(latencies) / seconds)
    return Crowd(rate, *points, latencies[-1] * 1e3, locked, len(errors) - locked)


class Member(NamedTuple):
    """What one of the processes does."""

    path: Path
    kind: str
    number: int
    seconds: float


def _member(member: Member, barrier: Any, results: Any) -> None:
    results.put(asyncio.run(_work(member, barrier)))


async def _work(member: Member, barrier: Any) -> tuple[list[float], list[str]]:
    path, kind, number, seconds = member
    store: Any = _engine(path, "NORMAL") if kind == OURS else await Plain.open(path, "NORMAL")
    if kind == OURS:
        await store.initialize()
    add = store.add_conversation_message if kind == OURS else store.add
    side = Side(kind, lambda task, _: add(f"{number}-{task}", "user", TEXT))
    await asyncio.to_thread(barrier.wait, 60)
    sample = Options(quick=False, as_json=False, rounds=1, seconds=seconds)
    found = (await compare([side], sample, TASKS // PROCESSES))[kind].samples[0]
    await store.close()
    return found.latencies.tolist(), side.errors


def _claims(found: dict[str, Figures], crowd: Crowd) -> list[Claim]:
    def against(mode: str, peer: str) -> dict[str, float]:
        return {mode: found[f"{OURS} {mode}"].times(found[peer])} if peer in found else {}

    same = "the same work, one aiosqlite transaction per call"
    agents = against("NORMAL", AGENTS) | against("FULL", AGENTS)
    p99 = {"16 tasks each": crowd.p99_ms}
    locked = {"16 tasks each": float(crowd.locked + crowd.others)}
    return [
        at_least(f"add_message: times {same}", 2, "x", against("NORMAL", f"{PLAIN} NORMAL")),
        at_least(f"add_message: times {same}", 5, "x", against("FULL", f"{PLAIN} FULL")),
        at_least("add_message: times OpenAI Agents SQLiteSession", 3, "x", agents),
        at_most("4 processes on one file: p99", 50, "ms", p99),
        at_most("4 processes on one file: calls that failed", 0, "calls", locked),
    ]


if __name__ == "__main__":
    main()
