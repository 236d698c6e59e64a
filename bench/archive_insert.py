"""Messages of 400 bytes into ClickHouse: our shipper's inserts beside one insert per message.

The server is chDB behind the HTTP bridge of our tests, the same one for all sides, which take turns
in rounds. *Delivery, 2,000 rows* is what a shipper does with a full manifest: events are read, made
into rows and columns, checked, and sent as one insert with a token. *Delivery, 1 row* is the same
with an event at a time, *insert alone* the part of it that begins with columns. *aiecs 2.2.0* is
that release's ClickHousePermanentBackend, which the specification describes, in an environment and
a process of its own: one awaited insert for each message. `AIECS_2_2_0_PYTHON` names a Python with
`aiecs[clickhouse]==2.2.0`; without it that side is left out. The bridge does not model a server's
queue of asynchronous inserts, which gathers the inserts of several connections; aiecs 2.2.0 has one
connection and waits for each insert.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from archive_load import TABLE, cpu_of
from harness import Options
from report import Report, at_least, environment
from support.clickhouse import Bridge, ClickHouses

from aiecs.core.events import About, header
from aiecs.infrastructure.persistence.archive import ClickHouseArchive
from aiecs.infrastructure.persistence.archive.delivery import MOST_ROWS, Delivery
from aiecs.infrastructure.persistence.archive.rows import Shipped, rows_of

TEXT = "The quick brown fox jumps over the lazy dog. " * 9
PYTHON = "AIECS_2_2_0_PYTHON"
BATCHES, SINGLES = 10, 60
BATCH, SINGLE, REFERENCE = f"Delivery, {MOST_ROWS:,} rows", "Delivery, 1 row", "aiecs 2.2.0"
ALONE = f"insert alone, {MOST_ROWS:,} rows"


class Sample(NamedTuple):
    """One round of one side: seconds, and CPU seconds of client and server."""

    rows: int
    inserts: int
    seconds: float
    client: float
    server: float

    @property
    def rate(self) -> float:
        return self.rows / self.seconds


#: How many rows and inserts a round of a side was, its seconds and its client's CPU seconds.
Round = Callable[[], tuple[int, int, float, float]]


def main() -> None:
    options = Options.parse(__doc__)
    servers = ClickHouses(None)
    try:
        bridge = servers.start()
        found = _measure(bridge, options)
        shown = environment("clickhouse-connect", "chdb-core-lite", servers=servers.titles())
    finally:
        servers.close()
    report = Report(__doc__, shown)
    columns = ("side", "rows/s", "ms per insert", "client us/row", "server us/row", "ours is")
    report.table("rows of context_conversations", columns, [_row(name, found) for name in found])
    report.claim(at_least("rows/s: times one row per insert", 500, "x", _ratios(found, SINGLE)))
    if REFERENCE in found:
        report.claim(at_least("rows/s: times aiecs 2.2.0", 500, "x", _ratios(found, REFERENCE)))
    report.show(options)


def _measure(bridge: Bridge, options: Options) -> dict[str, list[Sample]]:
    archive = ClickHouseArchive.from_url(f"{bridge.url}/ours")
    archive.open()
    # Beside ours: that release makes other tables of the same names, in a database that exists.
    archive.execute("CREATE DATABASE IF NOT EXISTS reference")
    batches, singles = (2, 5) if options.quick else (BATCHES, SINGLES)
    side = Reference.start(bridge.port)
    sides: dict[str, Round] = {
        BATCH: Ours(archive, batches, MOST_ROWS).deliver,
        ALONE: Ours(archive, batches, MOST_ROWS).insert,
        SINGLE: Ours(archive, singles, 1).deliver,
    }
    if side is not None:
        sides[REFERENCE] = lambda: side.append(singles)
    for warm_up in sides.values():
        warm_up()
    samples: dict[str, list[Sample]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, work in sides.items():
            server = cpu_of(bridge.pid)
            rows, inserts, seconds, client = work()
            sample = Sample(rows, inserts, seconds, client, cpu_of(bridge.pid) - server)
            samples[name].append(sample)
    _check_all_there(archive, samples)
    archive.close()
    if side is not None:
        side.end()
    return samples


def _check_all_there(archive: ClickHouseArchive, samples: dict[str, list[Sample]]) -> None:
    ours = [sample for name in (BATCH, ALONE, SINGLE) for sample in samples[name]]
    warm_ups = sum(samples[name][0].rows for name in (BATCH, ALONE, SINGLE))
    ((rows,),) = archive.select("SELECT count() FROM context_conversations")
    assert rows == sum(sample.rows for sample in ours) + warm_ups
    if REFERENCE in samples:
        theirs = [sample.rows for sample in samples[REFERENCE]]
        ((rows,),) = archive.select("SELECT count() FROM reference.context_conversations")
        assert rows == sum(theirs) + theirs[0]


class Ours:
    """Delivers new events at every round."""

    _next = 0

    def __init__(self, archive: ClickHouseArchive, inserts: int, rows: int) -> None:
        self._archive = archive
        self._delivery = Delivery(archive, "bench")
        self._inserts = inserts
        self._rows = rows

    def deliver(self) -> tuple[int, int, float, float]:
        manifests = [self._events() for _ in range(self._inserts)]
        cpu, start = time.process_time(), time.perf_counter()
        for manifest in manifests:
            dead = self._delivery.deliver(f"t{manifest[0].number}", manifest)
            assert not dead
        seconds = time.perf_counter() - start
        return self._inserts * self._rows, self._inserts, seconds, time.process_time() - cpu

    def insert(self) -> tuple[int, int, float, float]:
        made = [rows_of(self._events(), "bench").by_table[TABLE] for _ in range(self._inserts)]
        inserts = [{name: [one.row[name] for one in rows] for name in rows[0].row} for rows in made]
        cpu, start = time.process_time(), time.perf_counter()
        for columns in inserts:
            self._archive.insert(TABLE, columns, token=f"alone-{columns['version'][0]}")
        seconds = time.perf_counter() - start
        return self._inserts * self._rows, self._inserts, seconds, time.process_time() - cpu

    def _events(self) -> list[Shipped]:
        first, Ours._next = Ours._next, Ours._next + self._rows
        return [Shipped(0, number, _event(number)) for number in range(first, Ours._next)]


def _event(number: int) -> bytes:
    """As the store leaves it in an outbox."""
    session = f"session-{number // 50:08}"
    message = {
        "role": "user",
        "content": TEXT,
        "timestamp": "2026-11-06T12:00:00+00:00",
        "metadata": {},
        "id": f"{number:032x}",
    }
    stamps = b"%032x %d %d " % (number // 50, number % 50 + 1, 1_794_000_000_000_000 + number)
    return stamps + header(About.MESSAGE, session) + b"\n" + json.dumps(message).encode()


class Reference:
    """aiecs 2.2.0 in its process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._answer()

    @classmethod
    def start(cls, port: int) -> Reference | None:
        python = os.environ.get(PYTHON)
        if not python:
            return None
        script = Path(__file__).with_name("archive_side.py")
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return cls(
            subprocess.Popen(
                [python, str(script), str(port), "reference"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=clean,
            )
        )

    def append(self, count: int) -> tuple[int, int, float, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        found = self._answer()
        assert not found["failed"]
        return count, count, found["seconds"], found["cpu"]

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("@"):
                found: dict[str, Any] = json.loads(line[1:])
                return found
        raise RuntimeError("aiecs 2.2.0 ended before it answered")

    def end(self) -> None:
        self._process.communicate("\n")


def _times(found: dict[str, list[Sample]], ours: str, other: str) -> float:
    """By the rounds that lay side by side."""
    return median(a.rate / b.rate for a, b in zip(found[ours], found[other], strict=True))


def _ratios(found: dict[str, list[Sample]], other: str) -> dict[str, float]:
    return {ours: _times(found, ours, other) for ours in (BATCH, ALONE)}


def _row(name: str, found: dict[str, list[Sample]]) -> tuple[object, ...]:
    def middle(value: Callable[[Sample], float]) -> float:
        return median(map(value, found[name]))

    ratio = "" if name == BATCH else f"{_times(found, BATCH, name):.1f}x"
    return (
        name,
        round(middle(lambda one: one.rate)),
        middle(lambda one: one.seconds / one.inserts * 1e3),
        middle(lambda one: one.client / one.rows * 1e6),
        middle(lambda one: one.server / one.rows * 1e6),
        ratio,
    )


if __name__ == "__main__":
    main()
