"""Messages beside a client in C that sends the very same commands, 64 at once, on loopback.

What the engine sends for messages of 1 KB is recorded, then sent again to the emptied server by
`replay.c`: four connections, each 16 commands at a time, all of them answered before the next 16.
It reads them from memory and counts the answers, so it has the least work that a client can have.
*store* is the engine's store alone, given calls that are ready to be sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from harness import Options, Server, cpu_of, loops, names, on_loop, running, title
from report import Claim, Report, at_least, environment

from aiecs.core.interface.store import Call
from aiecs.domain.context import ContextEngine
from aiecs.infrastructure.persistence.stores.redis import RedisStore
from aiecs.infrastructure.persistence.stores.redis.connection import Connection

TASKS, CONNECTIONS, DEPTH = 64, 4, 16
TEXT = "x" * 945  # 1 KB as stored
ENGINE, STORE, CLIENT = "ContextEngine", "its store", "C, 4 x 16"


class Round(NamedTuple):
    """One side's turn."""

    rate: float
    server_us: float


def main() -> None:
    options = Options.parse(__doc__)
    compiler = shutil.which("cc")
    if compiler is None:
        sys.exit("this benchmark compiles its C client: install one (apt-get install gcc)")
    claims = [
        at_least(f"messages: rate of {side} in rates of the C client", 0.55, "x", {})
        for side in (ENGINE, STORE)
    ]
    tables: dict[str, dict[str, list[Round]]] = {}
    with tempfile.TemporaryDirectory() as folder, running() as servers:
        binary = Path(folder, "replay")
        source = Path(__file__).with_name("replay.c")
        subprocess.run([compiler, "-O2", "-o", binary, source], check=True)
        for name in names():
            server = servers.start(name)
            for loop in loops():
                where = f"{title(name).split()[0]}, {loop}"
                tables[where] = on_loop(loop, partial(_measure, server, options, binary))
                _claim(claims, where, tables[where])
        report = Report(__doc__, environment("hiredis", "uvloop"))
    for where, sides in tables.items():
        rows = [
            (side, round(_middle(rounds, 0)), _middle(rounds, 1), _share(sides, side))
            for side, rounds in sides.items()
        ]
        report.table(f"messages, {where}", ("side", "ops/s", "server us", "of C"), rows)
    for claim in claims:
        report.claim(claim)
    report.show(options)


def _middle(rounds: list[Round], field: int) -> float:
    return median(one[field] for one in rounds)


def _share(sides: dict[str, list[Round]], side: str) -> float:
    pairs = zip(sides[side], sides[CLIENT], strict=True)
    return median(ours.rate / theirs.rate for ours, theirs in pairs)


def _claim(claims: list[Claim], where: str, sides: dict[str, list[Round]]) -> None:
    for claim, side in zip(claims, (ENGINE, STORE), strict=True):
        claim.figures[where] = _share(sides, side)


async def _measure(server: Server, options: Options, binary: Path) -> dict[str, list[Round]]:
    count = (4 if options.quick else 128) * TASKS * CONNECTIONS
    found: dict[str, list[Round]] = {ENGINE: [], STORE: [], CLIENT: []}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, str(number)) for number in range(CONNECTIONS)]
        for file in files:
            await _record(server, file, count // CONNECTIONS)
        for _ in range(options.rounds):
            found[ENGINE].append(await _timed(server, count, partial(_engine, server, count)))
            found[STORE].append(await _timed(server, count, partial(_store, server, count)))
            replay = partial(_replay, [binary, str(server.port), str(DEPTH), *files], count)
            found[CLIENT].append(await _timed(server, count, replay))
    return found


async def _timed(server: Server, count: int, side: Any) -> Round:
    server.command("FLUSHALL", "SYNC")
    before = cpu_of(server)
    seconds = await side()
    return Round(count / seconds, (cpu_of(server) - before) / count * 1e6)


async def _record(server: Server, file: Path, count: int) -> None:
    """The bytes that the engine sends for so many messages, its greeting left out."""
    server.command("FLUSHALL", "SYNC")
    async with ContextEngine(store=server.url, operation_timeout=10.0) as engine:
        await engine.add_conversation_message("first", "user", TEXT)
        with _recorded(file):
            await _spread(engine, count, file.name)


@contextlib.contextmanager
def _recorded(file: Path) -> Iterator[None]:
    write = Connection.write
    with file.open("wb") as kept:

        def recording(connection: Connection, data: bytes) -> None:
            kept.write(data)
            write(connection, data)

        Connection.write = recording  # type: ignore[method-assign]
        try:
            yield
        finally:
            Connection.write = write  # type: ignore[method-assign]


async def _spread(engine: ContextEngine, count: int, mark: str) -> None:
    async def work(task: int) -> None:
        for _ in range(count // TASKS):
            await engine.add_conversation_message(f"{mark}-{task}", "user", TEXT)

    await asyncio.gather(*map(work, range(TASKS)))


async def _engine(server: Server, count: int) -> float:
    async with ContextEngine(store=server.url, operation_timeout=10.0) as engine:
        await engine.add_conversation_message("first", "user", TEXT)
        start = asyncio.get_running_loop().time()
        await _spread(engine, count, "own")
        return asyncio.get_running_loop().time() - start


async def _store(server: Server, count: int) -> float:
    """The calls of the engine, given to the store again and again."""
    store = RedisStore.from_url(server.url, timeout=10.0)
    calls = await _calls(server)

    async def work(call: Call) -> None:
        for _ in range(count // TASKS):
            await store.apply(call)

    await asyncio.gather(*map(store.apply, calls))
    start = asyncio.get_running_loop().time()
    await asyncio.gather(*map(work, calls))
    took = asyncio.get_running_loop().time() - start
    await store.close()
    return took


async def _calls(server: Server) -> list[Call]:
    """What the engine asks of its store for one message to each session."""
    found: list[Call] = []
    async with ContextEngine(store=server.url, operation_timeout=10.0) as engine:
        for task in range(TASKS):
            await engine.add_conversation_message(f"own-{task}", "user", TEXT)
        apply = RedisStore.apply

        async def noting(self: RedisStore, batch: Any, **options: Any) -> Any:
            found.append(batch)
            return await apply(self, batch, **options)

        RedisStore.apply = noting  # type: ignore[method-assign]
        try:
            for task in range(TASKS):
                await engine.add_conversation_message(f"own-{task}", "user", TEXT)
        finally:
            RedisStore.apply = apply  # type: ignore[method-assign]
    return [call for call in found if isinstance(call, Call)]


async def _replay(command: list[Any], count: int) -> float:
    running = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    told, _ = await running.communicate()
    seconds, answered, applied = told.split()
    if int(applied) < count:  # a session's first message is more than one command
        raise RuntimeError(f"{count} messages, {answered!r} answers, {applied!r} applied")
    return float(seconds)


if __name__ == "__main__":
    main()
