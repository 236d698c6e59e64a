"""What every benchmark shares: sides that take turns, CPU per operation, tables and claims.

A *side* is one way to do an operation. Sides take turns in short rounds (A B C A B C ...), so that
a machine that slows down slows all of them; each figure is the median of its rounds, each ratio
the median of the ratios within a round. CPU per operation is the figure to trust: it counts what
the client process (all its threads) and the server spent, whatever else the machine did.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from array import array
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test"))  # the servers that the tests start

from support.servers import Server, Servers, names, running, title  # noqa: E402

__all__ = ["Options", "Server", "Servers", "Side", "names", "running", "title"]


async def nothing() -> None:
    """What a side does before a round unless told otherwise."""


@dataclass
class Side:
    """One way to do an operation. `call` gets the number of its task and of its call."""

    name: str
    call: Callable[[int, int], Awaitable[object]]
    server: Server | None = None
    before: Callable[[], Awaitable[None]] = nothing
    errors: list[str] = field(default_factory=list)


class Sample(NamedTuple):
    """One round of one side: latencies in seconds, CPU in seconds."""

    calls: int
    seconds: float
    client: float
    server: float
    latencies: array[float]

    @property
    def rate(self) -> float:
        return self.calls / self.seconds

    def percentile(self, share: float) -> float:
        found = sorted(self.latencies)
        return found[min(len(found) - 1, int(len(found) * share))]


class Figures(NamedTuple):
    """Medians over the rounds of a side, and the rounds themselves."""

    rate: float
    p50_ms: float
    p99_ms: float
    client_us: float
    server_us: float
    samples: list[Sample]

    def times(self, other: Figures) -> float:
        """How many times as fast as `other`, by the rounds that lay side by side."""
        return median(a.rate / b.rate for a, b in zip(self.samples, other.samples, strict=True))


def cpu_of(server: Server | None) -> float:
    """Seconds of CPU that a server has used so far, by its own account."""
    if server is None:
        return 0.0
    lines = server.command("INFO", "cpu").decode().splitlines()
    wanted = ("used_cpu_sys:", "used_cpu_user:")
    return sum(float(line.partition(":")[2]) for line in lines if line.startswith(wanted))


class Options(NamedTuple):
    """How a benchmark was asked to run."""

    quick: bool
    as_json: bool
    rounds: int
    seconds: float

    @classmethod
    def parse(cls, about: str | None) -> Options:
        parser = argparse.ArgumentParser(description=about)
        parser.add_argument("--quick", action="store_true", help="a few seconds: does it run?")
        parser.add_argument("--json", action="store_true", help="print JSON, not tables")
        parser.add_argument("--rounds", type=int, help="rounds per side")
        parser.add_argument("--seconds", type=float, help="seconds per round")
        asked = parser.parse_args()
        rounds = asked.rounds or (1 if asked.quick else 5)
        seconds = asked.seconds or (0.1 if asked.quick else 1.0)
        return cls(asked.quick, asked.json, rounds, seconds)


async def compare(sides: Sequence[Side], options: Options, tasks: int = 64) -> dict[str, Figures]:
    """Let the sides take turns, each call by one of so many tasks at once."""
    samples: dict[str, list[Sample]] = {side.name: [] for side in sides}
    for _ in range(options.rounds):
        for side in sides:
            samples[side.name].append(await _sample(side, tasks, options.seconds))
    return {name: _figures(found) for name, found in samples.items()}


async def _sample(side: Side, tasks: int, seconds: float) -> Sample:
    await side.before()
    await _drive(side, tasks, min(0.3, seconds))
    gc.collect()
    server, client, start = cpu_of(side.server), time.process_time(), time.perf_counter()
    latencies = await _drive(side, tasks, seconds)
    took, client = time.perf_counter() - start, time.process_time() - client
    return Sample(len(latencies), took, client, cpu_of(side.server) - server, latencies)


async def _drive(side: Side, tasks: int, seconds: float) -> array[float]:
    latencies: array[float] = array("d")
    clock, call, note = time.perf_counter, side.call, latencies.append
    end = clock() + seconds

    async def work(task: int) -> None:
        start, number = clock(), 0
        while start < end:
            try:
                await call(task, number)
            except Exception as error:  # noqa: BLE001 - counted, and shown
                side.errors.append(f"{type(error).__name__}: {error}"[:200])
            now = clock()
            note(now - start)
            start, number = now, number + 1

    await asyncio.gather(*map(work, range(tasks)))
    return latencies


def _figures(samples: list[Sample]) -> Figures:
    def middle(value: Callable[[Sample], float]) -> float:
        return median(map(value, samples))

    return Figures(
        middle(lambda one: one.rate),
        middle(lambda one: one.percentile(0.50) * 1e3),
        middle(lambda one: one.percentile(0.99) * 1e3),
        middle(lambda one: one.client / one.calls * 1e6),
        middle(lambda one: one.server / one.calls * 1e6),
        samples,
    )


def on_loop(name: str, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run on a new loop of this kind: `asyncio` or `uvloop`."""
    factory = None
    if name == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


def loops() -> list[str]:
    """The kinds of event loop that can be measured here."""
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return ["asyncio"]
    return ["asyncio", "uvloop"]
