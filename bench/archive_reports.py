"""Reading a million archived messages of 420 bytes: reports, sessions, and their size on disk.

ClickHouse is chDB behind the HTTP bridge of our tests, which costs about 3 ms per query (the first
line of the first table). The messages are those of 20,000 sessions of 50 over the last year, 1,000
users, 4 models; they lie in parts as the inserts and the engine's own merges have left them.
*Reports* cover the whole year, each message counted once. *Read a session*: 50 messages of a random
session that the hot store does not know, by `get_conversation_history` of an engine: every one is
read for the first time, and the outbox, the owners and what was deleted are looked at too. *The
same, one query*: only its rows, by a query of the benchmark. *Text index*: the same search
after `text_index=true` and `MATERIALIZE INDEX`. *Bytes per message*: of all columns and indexes,
merged to one part per month.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import NamedTuple

from archive_load import PER_SESSION, SEARCHED, TABLE, cpu_of, load
from harness import Options
from report import Report, at_most, environment
from support.clickhouse import Bridge, ClickHouses

from aiecs import ContextEngine
from aiecs.infrastructure.persistence.archive import ClickHouseArchive
from aiecs.infrastructure.persistence.archive.reports import REPORTS, run_report

SESSION = f"""
SELECT role, content, metadata, seq, created_at FROM {TABLE} PREWHERE session_id = {{id:String}}
ORDER BY incarnation, seq, version DESC LIMIT 1 BY incarnation, seq, event_id
"""
PARTS = """
SELECT count(), sum(bytes_on_disk), sum(data_uncompressed_bytes), sum(rows) FROM system.parts
WHERE active AND database = currentDatabase() AND table = {table:String}
"""
_PATIENCE = 600.0


class Size(NamedTuple):
    """What a table takes."""

    parts: int
    on_disk: int
    raw: int
    rows: int


class Reader:
    """Asks the archive and notes how long it took, in milliseconds."""

    def __init__(self, bridge: Bridge, rounds: int) -> None:
        self._pid = bridge.pid
        self._url = f"{bridge.url}/million?timeout={_PATIENCE:.0f}"
        self._rounds = rounds
        self._random = random.Random(1)
        self.archive = ClickHouseArchive.from_url(self._url)
        self.archive.open()
        self.times: dict[str, list[float]] = {}
        #: CPU of client and server per run, in milliseconds.
        self.cpu: dict[str, tuple[float, float]] = {}

    def note(self, name: str, work: Callable[[], object], times: int) -> None:
        work()
        found = self.times[name] = []
        client, server = time.process_time(), cpu_of(self._pid)
        for _ in range(times):
            start = time.perf_counter()
            work()
            found.append((time.perf_counter() - start) * 1e3)
        spent = (time.process_time() - client, cpu_of(self._pid) - server)
        self.cpu[name] = (spent[0] / times * 1e3, spent[1] / times * 1e3)

    def sessions(self, name: str, count: int) -> None:
        times = self._rounds * 20
        numbers = iter(self._random.sample(range(count // PER_SESSION), 2 * (times + 1)))

        def select() -> None:
            rows = self.archive.select(SESSION, {"id": f"session-{next(numbers):08}"})
            assert len(rows) == PER_SESSION

        async def history(engine: ContextEngine) -> None:
            found = await engine.get_conversation_history(
                f"session-{next(numbers):08}", PER_SESSION
            )
            assert len(found) == PER_SESSION

        with asyncio.Runner() as runner:
            engine = ContextEngine(store="memory://", archive=self._url)
            runner.run(engine.initialize())
            self.note(f"read a session, {name}", lambda: runner.run(history(engine)), times)
            runner.run(engine.close())
        self.note(f"the same, one query, {name}", select, times)

    def reports(self) -> None:
        for name in REPORTS:
            self.report(name, f"report: {name}")

    def report(self, name: str, shown: str) -> None:
        given: dict[str, object] = {"days": 366}
        if name == "search":
            given["text"] = SEARCHED
        work = partial(run_report, self.archive, name, given)
        assert work().rows
        self.note(shown, work, self._rounds)

    def merge(self) -> None:
        self.archive.execute(f"OPTIMIZE TABLE {TABLE} FINAL")

    def index(self) -> None:
        self.archive.close()
        self.archive = ClickHouseArchive.from_url(f"{self._url}&text_index=true")
        self.archive.open()
        words = f"ALTER TABLE {TABLE} MATERIALIZE INDEX words SETTINGS mutations_sync = 2"
        self.archive.execute(words)

    def size(self) -> Size:
        return Size(*self.archive.select(PARTS, {"table": TABLE})[0])


def main() -> None:
    options = Options.parse(__doc__)
    os.environ["AIECS_ARCHIVE_READ_TIMEOUT"] = "60"  # a slow read is to be measured, not given up
    count = 20_000 if options.quick else 1_000_000
    servers = ClickHouses(None)
    try:
        reader = Reader(servers.start(), options.rounds)
        start = time.perf_counter()
        load(reader.archive, count)
        loaded = count / (time.perf_counter() - start)
        sizes = _measure(reader, count)
        reader.archive.close()
        shown = environment("clickhouse-connect", "chdb-core-lite", servers=servers.titles())
    finally:
        servers.close()
    report = Report(__doc__, shown)
    rows = [
        (name, _at(t, 0.5), _at(t, 0.99), *reader.cpu[name], len(t))
        for name, t in reader.times.items()
    ]
    title = f"{count:,} messages, loaded at {loaded:,.0f} a second (20,000 to an insert)"
    columns = ("query", "p50 ms", "p99 ms", "client CPU ms", "server CPU ms", "runs")
    report.table(title, columns, rows)
    columns = ("table", "parts", "bytes per message", "raw bytes per message")
    report.table("Size", columns, [_size(name, size) for name, size in sizes.items()])
    reads = {name: median(t) for name, t in reader.times.items() if name.startswith("read")}
    report.claim(at_most(f"read a session of 50 among {count:,}: p50", 25, "ms", reads))
    report.show(options)


def _measure(reader: Reader, count: int) -> dict[str, Size]:
    sizes = {"as inserted": reader.size()}
    reader.note("SELECT 1", partial(reader.archive.select, "SELECT 1"), 50)
    reader.sessions("as inserted", count)
    reader.reports()
    reader.merge()
    sizes["merged"] = reader.size()
    reader.sessions("merged", count)
    reader.report("costs", "report: costs, merged")
    reader.index()
    sizes["merged, with the text index"] = reader.size()
    reader.report("search", "report: search, text index")
    return sizes


def _at(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def _size(name: str, size: Size) -> tuple[object, ...]:
    return name, size.parts, size.on_disk / size.rows, size.raw / size.rows


if __name__ == "__main__":
    main()
