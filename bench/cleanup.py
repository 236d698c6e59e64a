"""Cleaning up 10,000 expired sessions among 100,000, and a page of one user's sessions among them.

Clean-up: `cleanup_expired_sessions(24)` finds the due sessions by the activity indexes and removes
each with all its keys and index entries, unless it has been written to meanwhile. Meanwhile a timer
wakes the same event loop every millisecond; its lateness is what other requests of the process
would have felt (beside it the same timer with nothing else going on, for what the machine adds).
The process freezes its heap first (`gc.freeze`), as a service does after its start: else Python's
collector looks through everything that was ever imported, about once in 10,000 sessions, and stops
the loop for "collector ms", measured once beside the rounds.
Due sessions are made by setting their last activity, their expiry and their index entries back by
48 hours. Users own 100 sessions each, 10 of them due; each session has one message. The engine's
own sweep is off, so that it takes no part of the work. Page: `list_sessions(user, limit=50)` of a
user with 100 sessions; server time by the server's own account.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from statistics import median
from typing import Any, NamedTuple

from harness import Options, Server, cpu_of, names, on_loop, running, title
from report import Claim, Report, at_most, environment

from aiecs.core.interface import store as port
from aiecs.core.keys import session_place
from aiecs.domain.context import ContextEngine
from aiecs.domain.context.indexes import session_shard, sessions_of

AT_ONCE, PER_USER, PAGES = 64, 100, 500
IDLE_HOURS = 48


class Round(NamedTuple):
    """One clean-up."""

    removed: int
    seconds: float
    client_seconds: float
    gap_ms: float
    gap_p99_ms: float
    server_seconds: float


class Found(NamedTuple):
    """All that was measured on one server."""

    rounds: list[Round]
    quiet_ms: float
    collector_ms: float
    page_server_ms: float
    page_ms: float


def main() -> None:
    options = Options.parse(__doc__)
    sessions = 2_000 if options.quick else 100_000
    found: dict[str, Found] = {}
    with running() as servers:
        for name in names():
            measure = partial(_measure, servers.start(name), sessions, options)
            found[title(name)] = on_loop("asyncio", measure)
        shown = environment("hiredis", "msgspec", servers=list(map(title, names())))
    report = Report(__doc__, shown)
    measured = (*Round._fields, "idle_gap_ms", "collector_ms")
    columns = ("server", *(name.replace("_", " ") for name in measured))
    rows = [
        (name, *one, f.quiet_ms, f.collector_ms) for name, f in found.items() for one in f.rounds
    ]
    report.table(f"clean-up of a tenth of {sessions:,} sessions", columns, rows)
    pages = [(name, f.page_server_ms, f.page_ms) for name, f in found.items()]
    report.table("a page of 50 sessions of one user", ("server", "server ms", "call ms"), pages)
    for claim in _claims(found):
        report.claim(claim)
    report.show(options)


async def _measure(server: Server, sessions: int, options: Options) -> Found:
    async with ContextEngine(store=server.url, operation_timeout=30.0) as engine:
        ids = [f"session-{number}" for number in range(sessions)]
        users = {session_id: f"user-{n // PER_USER}" for n, session_id in enumerate(ids)}
        await _all(ids, lambda one: engine.create_session(one, users[one]))
        await _all(ids, lambda one: engine.add_conversation_message(one, "user", "hello"))
        engine._on.maintenance.stop()  # or its own sweep, once a minute, takes a part of the due
        page = await _pages(engine, server)
        collector = _freeze()
        quiet = median([(await _gaps(asyncio.sleep(1.0)))[0] for _ in range(3)])
        rounds = []
        for number in range(min(3, options.rounds)):
            due = ids[number::10]
            await _all(due, partial(_age, engine, users))
            rounds.append(await _clean(engine, server))
            await _all(due, lambda one: engine.create_session(one, users[one]))
            await _all(due, lambda one: engine.add_conversation_message(one, "user", "hello"))
        return Found(rounds, quiet * 1e3, collector * 1e3, *page)


def _freeze() -> float:
    """Take all there is out of the collector's sight; the seconds of one collection before."""
    start = time.perf_counter()
    gc.collect()
    took = time.perf_counter() - start
    gc.freeze()
    return took


async def _all(ids: list[str], do: Callable[[str], Awaitable[object]]) -> None:
    async def some(part: list[str]) -> None:
        for one in part:
            await do(one)

    await asyncio.gather(*(some(ids[task::AT_ONCE]) for task in range(AT_ONCE)))


async def _age(engine: Any, users: dict[str, str], session_id: str) -> None:
    """Make a session look as if its last write had been 48 hours ago."""
    apply = engine._on.runtime.apply
    then = time.time_ns() // 1000 - IDLE_HOURS * 3_600_000_000
    place = session_place(session_id)
    ops = (port.Put("", {"l": b"%d" % then}), port.Expire(1))
    await apply(port.Batch(*place, ops, raw=True))
    for index in (session_shard(session_id), sessions_of(users[session_id])):
        put = port.IndexPut(index.key, {session_id: then})
        await apply(port.Batch(index.bucket, "", (put,)))


async def _clean(engine: Any, server: Server) -> Round:
    cpu, client, start = cpu_of(server), time.process_time(), time.perf_counter()
    removed = 0

    async def clean() -> None:
        nonlocal removed
        removed = await engine.cleanup_expired_sessions(24)

    longest, p99 = await _gaps(clean())
    seconds, client = time.perf_counter() - start, time.process_time() - client
    return Round(removed, seconds, client, longest * 1e3, p99 * 1e3, cpu_of(server) - cpu)


async def _gaps(work: Awaitable[None]) -> tuple[float, float]:
    """How late a timer of 1 ms came at most, and in 1 % of the cases, while `work` ran."""
    late: list[float] = []

    async def tick() -> None:
        while True:
            start = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append(time.perf_counter() - start - 0.001)

    ticking = asyncio.ensure_future(tick())
    await asyncio.sleep(0)
    await work
    await asyncio.sleep(0.002)
    ticking.cancel()
    with suppress(asyncio.CancelledError):
        await ticking
    late.sort()
    return late[-1], late[int(len(late) * 0.99)]


async def _pages(engine: Any, server: Server) -> tuple[float, float]:
    """Milliseconds of server time, and of the call, for a page of one user's sessions."""
    await engine.list_sessions("user-1", limit=50)
    cpu, start = cpu_of(server), time.perf_counter()
    for number in range(PAGES):
        page = await engine.list_sessions(f"user-{number % 20}", limit=50)
        if len(page.items) != 50:
            raise RuntimeError(f"a page of {len(page.items)} sessions")
    took = (time.perf_counter() - start) / PAGES
    return (cpu_of(server) - cpu) / PAGES * 1e3, took * 1e3


def _claims(found: dict[str, Found]) -> list[Claim]:
    def middle(value: Callable[[Round], float]) -> dict[str, float]:
        return {name.split()[0]: median(map(value, f.rounds)) for name, f in found.items()}

    pages = {name.split()[0]: f.page_server_ms for name, f in found.items()}
    gaps = middle(lambda one: one.gap_ms)
    return [
        at_most("clean-up of 10,000 of 100,000", 1.5, "s", middle(lambda one: one.seconds)),
        at_most("longest gap of the event loop meanwhile", 20, "ms", gaps),
        at_most("server time of a page of one user's sessions", 1, "ms", pages),
    ]


if __name__ == "__main__":
    main()
