"""How fast a store moves into another: as bytes and compared, beside export and import.

Sessions of ten messages of 200 bytes with metadata, from SQLite to Valkey or Redis and back. The
other way to do it is our own export and import of records, which decodes and encodes everything,
carries less, and compares nothing. Both into an empty store, in turns; sessions per second of the
clock, and CPU of this process per session.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from pathlib import Path
from statistics import median

from harness import Options, Servers, names, title
from report import Report, at_least, environment

from aiecs import ContextEngine
from aiecs.domain.context.migration import migrate
from aiecs.domain.context.transfer import exporter_of, importer_of

MESSAGES = 10
_PATIENT = {"operation_timeout": 60.0, "session_ttl": None}


async def fill(engine: ContextEngine, sessions: int) -> None:
    text = {"role": "user", "content": "x" * 200, "metadata": {"model": "m"}}
    for at in range(0, sessions, 100):
        some = range(at, min(sessions, at + 100))
        await asyncio.gather(
            *(engine.create_session(f"s{n}", f"u{n % 50}", {"n": n}) for n in some)
        )
        await asyncio.gather(
            *(engine.add_conversation_messages(f"s{n}", [text] * MESSAGES) for n in some)
        )


async def move(source: ContextEngine, target: ContextEngine) -> None:
    report = await migrate(source, target, verify=False)
    assert report.complete


async def move_and_compare(source: ContextEngine, target: ContextEngine) -> None:
    report = await migrate(source, target)
    assert report.complete


async def export_and_import(source: ContextEngine, target: ContextEngine) -> None:
    exporter = exporter_of(source)

    def refused(place: object, error: Exception) -> None:
        raise AssertionError(place) from error

    async with importer_of(target, refused) as importer:
        async for session in source.iter_sessions():
            async for record in exporter.session(session.session_id):
                await importer.add(record)


WAYS = {
    "moved": move,
    "moved and compared": move_and_compare,
    "exported and imported": export_and_import,
}


async def main() -> None:
    options = Options.parse(__doc__)
    sessions, rounds = (100, 1) if options.quick else (3_000, 5)
    servers = Servers()
    server = servers.start(names()[-1])
    report = Report(__doc__, environment("redis", servers=[title(names()[-1])]))
    numbers = itertools.count()
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:

        def place(kind: str) -> str:
            if kind == "SQLite":
                return f"sqlite:///{Path(folder)}/{next(numbers)}.db"
            server.command("FLUSHALL")
            return server.url

        for kinds in (("SQLite", "the server"), ("the server", "SQLite")):
            rows, rates = [], {}
            async with ContextEngine(store=place(kinds[0]), **_PATIENT) as source:
                await fill(source, sessions)
                found: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
                for _ in range(rounds):
                    for name, way in WAYS.items():
                        url = place(kinds[1]) if kinds[1] == "SQLite" else _emptied(server)
                        async with ContextEngine(store=url, **_PATIENT) as target:
                            wall, cpu = time.perf_counter(), time.process_time()
                            await way(source, target)
                            took = time.perf_counter() - wall, time.process_time() - cpu
                        found[name].append(took)
            for name, samples in found.items():
                rates[name] = sessions / median(wall for wall, _ in samples)
                cpu_us = median(cpu for _, cpu in samples) / sessions * 1e6
                rows.append((name, round(rates[name]), cpu_us))
            report.table(
                f"From {kinds[0]} to {kinds[1]}: {sessions:,} sessions of {MESSAGES} messages",
                ("way", "sessions/s", "CPU us per session"),
                rows,
            )
            direction = f"from {kinds[0]}"
            ratios[direction] = rates["moved"] / rates["exported and imported"]
    servers.close()
    report.claim(at_least("moved against exported and imported", 1.0, "x", ratios))
    report.show(options)


def _emptied(server: object) -> str:
    server.command("FLUSHALL")  # type: ignore[attr-defined]
    return server.url  # type: ignore[attr-defined,no-any-return]


if __name__ == "__main__":
    asyncio.run(main())
