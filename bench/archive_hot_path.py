"""What an archive costs the path of messages: 400 bytes each, on Redis or Valkey.

Offered: 10,000 messages a second over 64 sessions, by a clock; *off* has no archive, *on* ships
from a thread of the same process, *dead* has an archive whose server is killed. Saturated: as many
as 64 tasks can write, without an archive and with shipping in another process (`aiecs archive
ship`), over 64 sessions and over 10,000. Sides take turns. ClickHouse is chDB behind the HTTP
bridge of our tests, which shares the machine with all of it: its CPU is told apart, and where there
are fewer than four cores the sides with an archive are short of it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from statistics import median
from typing import NamedTuple, TypeAlias

from archive_load import cpu_of as cpu_of_process
from harness import Options, Server, cpu_of, names, on_loop, running, title
from report import Report, at_least, at_most, environment
from support.clickhouse import Bridge, ClickHouses

from aiecs.core.errors import ContextEngineError
from aiecs.domain.context import ContextEngine

TEXT = "x" * 330
RATE, SLOW = 10_000, 1_000
SESSIONS, MANY, TASKS = 64, 10_000, 64
OFF, ON, DEAD = "off", "on", "dead"
TICK = 0.001
AT_ONCE = 100  # of a clock that lags behind no more are sent between two looks of the loop


class Sample(NamedTuple):
    """One round; seconds, and CPU seconds by who spent them. `gap`: the loop's longest."""

    calls: int
    seconds: float
    latencies: array[float]
    gap: float
    client: float
    shipper: float
    store: float
    archive: float
    backlog: int
    failed: int

    @property
    def rate(self) -> float:
        return self.calls / self.seconds

    @property
    def p99_ms(self) -> float:
        return sorted(self.latencies)[int(len(self.latencies) * 0.99)] * 1e3


Found = dict[str, list[Sample]]


def main() -> None:
    options = Options.parse(__doc__)
    clickhouses = ClickHouses(None)
    name = names()[-1]
    with running() as servers:
        try:
            server = servers.start(name)
            offered: Found = on_loop("uvloop", lambda: _offered(server, clickhouses, options))
            size: float = on_loop("uvloop", lambda: _gathered(server, clickhouses, options))
            few: Found = on_loop("uvloop", lambda: _full(server, clickhouses, options, SESSIONS))
            many: Found = on_loop("uvloop", lambda: _full(server, clickhouses, options, MANY))
        finally:
            clickhouses.close()
        shown = environment("clickhouse-connect", "chdb-core-lite", servers=[title(name)])
    report = Report(__doc__, shown)
    report.table(f"{RATE:,} messages a second offered", COLUMNS, _rows(offered))
    report.table(f"saturated, {SESSIONS} sessions", COLUMNS, _rows(few))
    report.table(f"saturated, {MANY:,} sessions", COLUMNS, _rows(many))
    _claims(report, offered, few)
    report.claim(at_least(f"{SLOW:,} a second: rows of an insert", 500, "", {"": size}))
    report.show(options)


COLUMNS = (
    "archive",
    "messages/s",
    "p99 ms",
    "gap ms",
    "client us",
    "shipper us",
    "store us",
    "ClickHouse us",
    "backlog",
    "failed",
)


def _rows(found: Found) -> list[tuple[object, ...]]:
    return [
        (
            side,
            round(median(one.rate for one in samples)),
            median(one.p99_ms for one in samples),
            max(one.gap for one in samples) * 1e3,
            *(
                median(getattr(one, who) / one.calls * 1e6 for one in samples)
                for who in ("client", "shipper", "store", "archive")
            ),
            max(one.backlog for one in samples),
            sum(one.failed for one in samples),
        )
        for side, samples in found.items()
    ]


def _claims(report: Report, offered: Found, few: Found) -> None:
    def ratio(side: str) -> float:
        pairs = zip(offered[side], offered[OFF], strict=True)
        return median(one.p99_ms / off.p99_ms for one, off in pairs)

    dead = "offered, dead: p99 in those without archive"
    full = f"saturated, {SESSIONS} sessions: rate in those without"
    last = [one.backlog / RATE for one in offered[ON]]
    gap = max(one.gap for one in offered[ON]) * 1e3
    report.claim(at_most("offered, on: p99 in those without archive", 1.5, "x", {"": ratio(ON)}))
    report.claim(at_most("offered, on: backlog, seconds of it", 10, "s", {"": max(last)}))
    report.claim(at_most("offered, on: longest gap of the loop", 20, "ms", {"": gap}))
    report.claim(at_most(dead, 1.5, "x", {"": ratio(DEAD)}))
    pairs = zip(few[ON], few[OFF], strict=True)
    share = median(one.rate / off.rate for one, off in pairs)
    report.claim(at_least(full, 0.6, "x", {"": share}))


# --- the two loads --------------------------------------------------------------------------------


async def _offered(server: Server, clickhouses: ClickHouses, options: Options) -> Found:
    bridge = clickhouses.start()
    dead = clickhouses.start()
    dead.kill()
    seconds = options.seconds if options.quick else max(20.0, options.seconds)
    rounds = min(3, options.rounds)
    found: Found = {OFF: [], ON: [], DEAD: []}
    async with (
        _engine(server, "off") as off,
        _engine(server, "on", bridge.url) as on,
        _engine(server, "dead", dead.url) as without,
    ):
        sides = {OFF: off, ON: on, DEAD: without}
        for engine in sides.values():
            await _pace(engine, min(1.0, seconds))
        for _ in range(rounds):
            for side, engine in sides.items():
                with _measured(server, bridge if side == ON else None) as note:
                    note(*await _pace(engine, seconds), await _backlog(engine))
                found[side].append(note.sample)
                if side == ON:  # what waits is not to burden the others
                    await on.archive_barrier(timeout=600)
    return found


async def _gathered(server: Server, clickhouses: ClickHouses, options: Options) -> float:
    """Rows of an insert at 1,000 messages a second."""
    bridge = clickhouses.start()
    async with _engine(server, "slow", bridge.url) as engine:
        await _pace(engine, 1.0, SLOW)
        await engine.archive_barrier(timeout=600)
        before = bridge.statistics()
        await _pace(engine, options.seconds if options.quick else 20.0, SLOW)
        after = bridge.statistics()
    return (after["rows"] - before["rows"]) / max(1, after["inserts"] - before["inserts"])


async def _full(server: Server, clickhouses: ClickHouses, options: Options, sessions: int) -> Found:
    bridge = clickhouses.start()
    seconds = options.seconds if options.quick else max(10.0, options.seconds)
    found: Found = {OFF: [], ON: []}
    prefix = f"full{sessions}"
    async with _engine(server, f"{prefix}off") as off:
        for _ in range(min(3, options.rounds)):
            with _measured(server, None) as note:
                note(*await _press(off, sessions, seconds), 0)
            found[OFF].append(note.sample)
            on_prefix = f"{prefix}on"
            with _shipping(server, bridge, on_prefix):
                async with _engine(server, on_prefix, bridge.url, ship=False) as on:
                    with _measured(server, bridge) as note:
                        note(*await _press(on, sessions, seconds), await _backlog(on))
                    found[ON].append(note.sample)
    return found


Load: TypeAlias = "tuple[array[float], float, int]"
"""Latencies in seconds, the loop's longest gap, failed calls."""


async def _pace(engine: ContextEngine, seconds: float, rate: int = RATE) -> Load:
    """Messages by a clock, whether or not the earlier ones are done."""
    latencies: array[float] = array("d")
    failed, under_way = 0, set()
    clock = time.perf_counter

    async def one(number: int) -> None:
        nonlocal failed
        start = clock()
        try:
            await engine.add_conversation_message(f"s{number % SESSIONS}", "user", TEXT)
        except ContextEngineError:
            failed += 1
        latencies.append(clock() - start)

    async with _watched() as gaps:
        start, sent = clock(), 0
        while (passed := clock() - start) < seconds:
            due = min(round(passed * rate), sent + AT_ONCE)
            for number in range(sent, due):
                task = asyncio.ensure_future(one(number))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            sent = due
            await asyncio.sleep(TICK)
        await asyncio.gather(*under_way)
    return latencies, max(gaps), failed


async def _press(engine: ContextEngine, sessions: int, seconds: float) -> Load:
    """As many messages as so many tasks can write."""
    latencies: array[float] = array("d")
    failed, clock = 0, time.perf_counter
    end = clock() + seconds

    async def work(task: int) -> None:
        nonlocal failed
        number, start = task, clock()
        while start < end:
            try:
                await engine.add_conversation_message(f"s{number % sessions}", "user", TEXT)
            except ContextEngineError:
                failed += 1
            now = clock()
            latencies.append(now - start)
            start, number = now, number + TASKS

    async with _watched() as gaps:
        await asyncio.gather(*map(work, range(TASKS)))
    return latencies, max(gaps), failed


# --- what is around them --------------------------------------------------------------------------


@asynccontextmanager
async def _engine(
    server: Server, prefix: str, archive: str | None = None, *, ship: bool = True
) -> AsyncIterator[ContextEngine]:
    os.environ["AIECS_KEY_PREFIX"] = prefix
    os.environ["AIECS_ARCHIVE_SHIP"] = str(ship).lower()
    os.environ["AIECS_ARCHIVE_OUTBOX_BYTES"] = str(8 * 1024**3)
    async with ContextEngine(store=server.url, archive=archive, operation_timeout=10) as engine:
        yield engine


@contextmanager
def _shipping(server: Server, bridge: Bridge, prefix: str) -> Iterator[None]:
    """Another process that ships."""
    command = ["-m", "aiecs", "archive", "ship", "--store", server.url, "--archive", bridge.url]
    process = subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | {"AIECS_KEY_PREFIX": prefix},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _shippers.append(process.pid)
    try:
        yield
    finally:
        _shippers.remove(process.pid)
        process.terminate()
        process.wait()


_shippers: list[int] = []


@asynccontextmanager
async def _watched() -> AsyncIterator[list[float]]:
    gaps = [0.0]

    async def watch() -> None:
        before = time.perf_counter()
        while True:
            await asyncio.sleep(TICK)
            now = time.perf_counter()
            gaps.append(now - before - TICK)
            before = now

    task = asyncio.ensure_future(watch())
    try:
        yield gaps
    finally:
        task.cancel()


async def _backlog(engine: ContextEngine) -> int:
    state = (await engine.get_metrics())["archive"]
    return int(state.get("waiting", 0))


class _Note:
    """Takes what a load found, and makes a sample of it."""

    def __init__(self, server: Server, bridge: Bridge | None) -> None:
        self._server, self._bridge = server, bridge
        self._start, self._spent = time.perf_counter(), self._now()
        self.sample: Sample

    def __call__(self, latencies: array[float], gap: float, failed: int, backlog: int) -> None:
        seconds = time.perf_counter() - self._start
        whole, shipper, store, archive = (
            after - before for after, before in zip(self._now(), self._spent, strict=True)
        )
        calls = len(latencies)
        spent = (whole, shipper, store, archive)
        self.sample = Sample(calls, seconds, latencies, gap, *spent, backlog, failed)

    def _now(self) -> tuple[float, float, float, float]:
        threads = [one for one in threading.enumerate() if one.name.startswith("aiecs-archive")]
        clocks = (time.pthread_getcpuclockid(one.ident or 0) for one in threads)
        shipper = sum(map(time.clock_gettime, clocks))
        others = sum(map(cpu_of_process, _shippers))
        whole = time.process_time() - shipper
        bridge = 0.0 if self._bridge is None else cpu_of_process(self._bridge.pid)
        return whole, shipper + others, cpu_of(self._server), bridge


@contextmanager
def _measured(server: Server, bridge: Bridge | None) -> Iterator[_Note]:
    yield _Note(server, bridge)


if __name__ == "__main__":
    main()
