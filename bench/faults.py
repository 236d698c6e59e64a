"""What becomes of messages when Redis fails: ContextEngine beside redis-py and PyPI's aiecs 2.2.0.

Each side runs in a process of its own and adds numbered messages while one fault happens; then it
reads its histories, and everything is counted:

    lost      acknowledged, and not in the history
    doubled   in the history more than once
    ghosts    refused ("not applied"), and in the history all the same
    wrong     answers without an error while the server was gone
    error s   the longest that a call took to fail
    back s    from the end of the fault to the next acknowledgement
    gap ms    the longest that the event loop was held

`AIECS_2_2_0_PYTHON` names a Python with aiecs 2.2.0 (it may not share an environment with this
package); `make faults` makes one. Without it that side is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

from harness import Server, Servers, names, running, title
from support.proxy import Proxy

_SIDE = Path(__file__).with_name("fault_side.py")
_DOCS = Path(__file__).parents[1] / "docs/reference/faults.md"
_PATIENCE = 120.0
_REFERENCE = "AIECS_2_2_0_PYTHON"


class Place(NamedTuple):
    """A server and the proxy in front of it."""

    server: Server
    proxy: Proxy


class Side:
    """One side's process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process

    @classmethod
    async def start(cls, name: str, python: str, url: str, tasks: int) -> Self:
        process = await asyncio.create_subprocess_exec(
            *(python, _SIDE, name, url, str(tasks)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=2**26,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )
        side = cls(name, process)
        await side._answer()
        return side

    async def ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())
        return await self._answer()

    async def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(_PATIENCE):
            while line := await self._process.stdout.readline():
                if line.startswith(b"@"):
                    found: dict[str, Any] = json.loads(line[1:])
                    return found
        raise RuntimeError(f"{self.name} ended before it answered")

    async def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


# --- faults -------------------------------------------------------------------------------------


async def nothing(_: Place) -> None:
    await asyncio.sleep(1.0)


async def lose_replies(place: Place) -> None:
    """The server executes, and its reply is lost with the connection; ten times."""
    for _ in range(10):
        place.proxy.tripped.clear()
        place.proxy.drop_reply(50)  # past what a new connection says first
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                await place.proxy.tripped.wait()


async def cut(place: Place) -> None:
    """All connections are cut; ten times."""
    for _ in range(10):
        place.proxy.sever()
        await asyncio.sleep(0.1)


async def silence(place: Place) -> None:
    """Nothing is answered for three seconds."""
    place.proxy.blackhole()
    await asyncio.sleep(3.0)
    place.proxy.heal()


async def kill(place: Place) -> None:
    """Killed, and back after a second with everything that it had acknowledged."""
    place.server.kill()
    await asyncio.sleep(1.0)
    place.server.mend_torn_tail()
    place.server.start()


async def slow(place: Place) -> None:
    """Every reply comes 200 ms late, for two seconds."""
    place.proxy.delay(0.2)
    await asyncio.sleep(2.0)
    place.proxy.heal()


async def fill(place: Place) -> None:
    """No memory left for a second."""
    place.server.command("CONFIG", "SET", "maxmemory", "1")
    await asyncio.sleep(1.0)
    place.server.command("CONFIG", "SET", "maxmemory", "0")


class Scenario(NamedTuple):
    """A fault, and how many tasks add messages meanwhile."""

    name: str
    act: Callable[[Place], Awaitable[None]]
    tasks: int = 16


SCENARIOS = (
    Scenario("no fault, 64 callers at once", nothing, 64),
    Scenario("replies lost after execution", lose_replies),
    Scenario("connections cut", cut),
    Scenario("200 ms late for 2 s", slow),
    Scenario("silent for 3 s", silence),
    Scenario("killed, back after 1 s", kill),
    Scenario("memory full for 1 s", fill),
)


# --- counting -----------------------------------------------------------------------------------


class Count(NamedTuple):
    """What became of the messages."""

    acknowledged: int
    lost: int
    doubled: int
    ghosts: int
    slowest: float
    back: float
    gap: float


def counted(told: dict[str, Any], read: dict[str, list[str]], healed: float) -> Count:
    """The histories against what each caller was told; `healed`: when the fault was over."""
    stored = Counter(name for history in read.values() for name in history)
    return Count(
        acknowledged=len(told["acknowledged"]),
        lost=sum(name not in stored for name in told["acknowledged"]),
        doubled=sum(count > 1 for count in stored.values()),
        ghosts=sum(name in stored for name in told["failed"]),
        slowest=told["slowest"],
        back=min((m for m in told["moments"] if m >= healed), default=math.inf) - healed,
        gap=told["gap"] * 1e3,
    )


async def run(servers: Servers, kind: str, side: str, python: str, scenario: Scenario) -> Count:
    """One side through one fault, on a server of its own."""
    server = servers.start(kind, aof=True)
    async with Proxy(server.port) as proxy:
        process = await Side.start(side, python, proxy.url, scenario.tasks)
        try:
            await process.ask("start")
            await asyncio.sleep(0.5)
            await scenario.act(Place(server, proxy))
            healed = time.monotonic()
            await asyncio.sleep(3.0)
            told = await process.ask("stop")
            read = (await process.ask("read"))["read"]
        finally:
            await process.end()
    server.close()
    return counted(told, read, healed)


async def asked_while_gone(servers: Servers, kind: str, side: str, python: str) -> dict[str, Any]:
    """What a side says while the server is gone."""
    server = servers.start(kind)
    process = await Side.start(side, python, server.url, 1)
    try:
        server.kill()
        return await process.ask("probe")
    finally:
        await process.end()


Row = tuple[str, ...]
_SHOWN = {"ours": "ContextEngine", "redis-py": "redis-py", "aiecs": "PyPI aiecs 2.2.0"}
_HEAD: Row = (
    "fault",
    "side",
    "acknowledged",
    "lost",
    "doubled",
    "ghosts",
    "error s",
    "back s",
    "gap ms",
)
_GONE: Row = ("server gone: 5 reads, 5 writes", "side", "wrong", "error s")


async def under_faults(servers: Servers, kind: str, pythons: dict[str, str]) -> list[Row]:
    """A row for each fault and side."""
    rows = []
    for scenario in SCENARIOS:
        for side, python in pythons.items():
            found = await run(servers, kind, side, python, scenario)
            counts = (f"{count:,}" for count in found[:4])
            times = (f"{found.slowest:.2f}", f"{found.back:.2f}", f"{found.gap:.0f}")
            rows.append((scenario.name, _SHOWN[side], *counts, *times))
            show(rows[-1])
    return rows


async def while_gone(servers: Servers, kind: str, pythons: dict[str, str]) -> list[Row]:
    """A row for each side."""
    rows = []
    for side, python in pythons.items():
        gone = await asked_while_gone(servers, kind, side, python)
        rows.append(("", _SHOWN[side], str(gone["wrong"]), f"{gone['slowest']:.2f}"))
        show(rows[-1])
    return rows


def show(row: Row) -> None:
    first, second, *rest = row
    print(f"{first:<32}{second:<18}" + "".join(f"{cell:>13}" for cell in rest), flush=True)


def page(server: str, tables: list[tuple[Row, list[Row]]]) -> str:
    """The page of the documentation."""
    lines = [_PAGE.format(server=server)]
    for head, rows in tables:
        lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(row) + " |" for row in rows] + [""]
    return "\n".join(lines)


_PAGE = """# What faults do

<!-- Written by bench/faults.py --page; `make faults` prints the same tables. -->

Sixteen tasks add numbered messages to eight sessions while one fault happens, on {server} with
`appendfsync always`; then everything is counted. redis-py, made by `Redis(host, port)`, and aiecs
2.2.0 run as they come, each in a process of its own.

*Lost*: acknowledged, and not in the history. *Doubled*: in the history more than once. *Ghosts*:
refused as not applied, and in the history all the same. *Error s*: the longest that a call took to
fail. *Back s*: from the end of the fault to the next acknowledgement. *Gap ms*: the longest that
the event loop was held. *Wrong*: answers without an error while there was no server.
"""


async def main() -> None:
    pythons = {"ours": sys.executable, "redis-py": sys.executable}
    if reference := os.environ.get(_REFERENCE):
        pythons["aiecs"] = reference
    kind = names()[-1]
    with running() as servers:
        print(f"Faults, {title(kind)}\n")
        show(_HEAD)
        faults = await under_faults(servers, kind, pythons)
        print()
        show(_GONE)
        gone = await while_gone(servers, kind, pythons)
    if "--page" in sys.argv:
        _DOCS.write_text(page(title(kind), [(_HEAD, faults), (_GONE, gone)]))


if __name__ == "__main__":
    asyncio.run(main())
