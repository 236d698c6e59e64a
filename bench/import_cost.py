"""What importing costs: fresh processes, one after the other, medians.

`import aiecs` must load no driver and no framework; `ContextEngine` brings what an application
needs before it opens a store; services and settings load when it opens one. Milliseconds are taken
inside the process around the import, with the bytecode already compiled: CPU time, which is the
wall time of a machine that has nothing else to do, and the wall time as it was. Memory is the peak
of the process, interpreter included. A process that imports nothing stands beside them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from statistics import median
from typing import Any, NamedTuple

from harness import ROOT, Options
from report import Report, at_most, environment

IMPORTS = {
    "nothing": "",
    "import aiecs": "import aiecs",
    "from aiecs.domain.context import ContextEngine": (
        "from aiecs.domain.context import ContextEngine"
    ),
    "the same, and open on memory://": (
        "from aiecs.domain.context import ContextEngine as E; import asyncio; "
        "asyncio.run(E(store='memory://').initialize())"
    ),
}
DRIVERS = ("redis", "hiredis", "sqlite3", "clickhouse_connect", "chdb", "langgraph", "pydantic")
SCRIPT = """
import json, resource, sys, time
before, cpu, start = len(sys.modules), time.process_time(), time.perf_counter()
{}
cpu, took = time.process_time() - cpu, time.perf_counter() - start
loaded = [name for name in {} if name in sys.modules]
if sys.platform == "linux":  # ru_maxrss would be that of the process that started this one
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if "VmHWM" in line)
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([cpu * 1e3, took * 1e3, peak / 1024, len(sys.modules) - before, loaded]))
"""


class Cost(NamedTuple):
    """Medians of one import."""

    cpu_ms: float
    wall_ms: float
    peak_mb: float
    modules: int
    drivers: str


def main() -> None:
    options = Options.parse(__doc__)
    runs = 3 if options.quick else 21
    found: dict[str, list[list[Any]]] = {name: [] for name in IMPORTS}
    for number in range(runs + 1):
        for name, statement in IMPORTS.items():
            measured = _run(statement)
            if number:  # the first one compiles
                found[name].append(measured)
    costs = {name: _cost(rows) for name, rows in found.items()}
    report = Report(__doc__, environment("msgspec", "redis", "pydantic-settings"))
    columns = ("import", "CPU ms", "wall ms", "peak MB", "modules", "drivers loaded")
    report.table(f"{runs} fresh processes each", columns, [(n, *c) for n, c in costs.items()])
    _, package, engine, _ = costs.values()
    drivers = {"drivers": float(len(package.drivers.split()) if package.drivers != "none" else 0)}
    for claim in (
        at_most("import aiecs", 100, "ms", {"CPU": package.cpu_ms}),
        at_most("import aiecs: drivers loaded", 0, "modules", drivers),
        at_most("import ContextEngine", 150, "ms", {"CPU": engine.cpu_ms}),
        at_most("import ContextEngine: peak memory", 45, "MB", {"median": engine.peak_mb}),
    ):
        report.claim(claim)
    report.show(options)


def _run(statement: str) -> list[Any]:
    command = [sys.executable, "-c", SCRIPT.format(statement, DRIVERS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    row: list[Any] = json.loads(done.stdout)
    return row


def _cost(rows: list[list[Any]]) -> Cost:
    cpu, wall, peak, modules = (median(row[n] for row in rows) for n in range(4))
    drivers = sorted({name for row in rows for name in row[4]})
    return Cost(cpu, wall, peak, int(modules), " ".join(drivers) or "none")


if __name__ == "__main__":
    main()
