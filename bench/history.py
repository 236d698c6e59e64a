"""get_conversation_history(50) of a session with 200 messages of 1 KB; 64 tasks, Redis and Valkey.

Every side gives 50 messages as objects, decoded, the newest of the 200. ContextEngine without its
cache: the tail cache is emptied before each call, so that the whole page travels and is decoded.
With it: each call still asks the server, but only for what is newer than the last message held,
and the answer is taken from memory if that one is the same byte for byte. The specification's
design: redis-py pool, LRANGE, json, one dataclass per message; it gives the newest first. OpenAI
Agents: RedisSession.get_items(50), which stops at plain dicts. "10 reads : 1 write": each task
adds one message to its session after ten reads, on every side; an operation is a read or a write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from harness import Figures, Options, Server, Side, compare, loops, names, on_loop, running, title
from peers import SpecDesign, agents_sessions, pool
from report import Claim, Report, at_least, environment

from aiecs.domain.context import ContextEngine

TASKS, MESSAGES, LIMIT = 64, 200, 50
TEXT = "The quick brown fox jumps over the lazy dog. " * 21  # 945 characters: 1 KB as stored
IDS = [f"session-{n}" for n in range(TASKS)]
OURS, CACHED = "ContextEngine, no cache", "ContextEngine, tail cache"
SPEC, AGENTS = "specification's design", "OpenAI Agents RedisSession"
READS, MIXED = "reads only", "10 reads : 1 write"

Found = dict[str, dict[str, Figures]]


def main() -> None:
    options = Options.parse(__doc__)
    found: dict[tuple[str, str], Found] = {}
    with running() as servers:
        for name in names():
            server = servers.start(name)
            for loop in loops():
                found[title(name), loop] = on_loop(loop, partial(_measure, server, options))
        packages = ("redis", "hiredis", "msgspec", "uvloop", "openai-agents")
        report = Report(__doc__, environment(*packages, servers=list(map(title, names()))))
    for (server_name, loop), tables in found.items():
        for work, figures in tables.items():
            report.sides(f"{work}, {server_name}, {loop}", figures, CACHED)
    for claim in _claims(found):
        report.claim(claim)
    report.show(options)


async def _measure(server: Server, options: Options) -> Found:
    client = pool(server)
    async with ContextEngine(store=server.url, operation_timeout=10.0) as engine:
        reads, writes = _calls(engine, client)
        fill = partial(_fill, client, writes, 50 if options.quick else MESSAGES)
        await fill()
        plain = [Side(name, call, server) for name, call in reads.items()]
        found = {READS: await compare(plain, options, TASKS)}
        await fill()
        both = [Side(n, _mixed(reads[n], writes[n]), server) for n in reads if n != OURS]
        found[MIXED] = await compare(both, options, TASKS)
    await client.aclose()
    for side in (*plain, *both):
        if side.errors:
            raise RuntimeError(f"{side.name}: {side.errors[0]}")
    return found


async def _fill(client: Any, writes: dict[str, Any], messages: int) -> None:
    """Sessions of so many messages, anew, for every side."""

    async def one(write: Callable[[int, int], Any], task: int) -> None:
        for number in range(messages):
            await write(task, number)

    await client.flushall()
    for name, write in writes.items():
        if name != OURS:  # the same sessions as CACHED
            await asyncio.gather(*(one(write, task) for task in range(TASKS)))


def _calls(engine: Any, client: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """How each side reads, and how it writes."""
    spec, agents = SpecDesign(client), agents_sessions(client, TASKS)
    read, add = engine.get_conversation_history, engine.add_conversation_message
    forget = _cache_of(engine).clear

    def uncached(task: int, _: int) -> Any:
        forget()
        return read(IDS[task], LIMIT)

    reads = {
        CACHED: lambda task, _: read(IDS[task], LIMIT),
        OURS: uncached,
        SPEC: lambda task, _: spec.history(IDS[task], LIMIT),
    }
    writes = {
        CACHED: lambda task, _: add(IDS[task], "user", TEXT),
        OURS: lambda task, _: add(IDS[task], "user", TEXT),
        SPEC: lambda task, _: spec.add_message(IDS[task], "user", TEXT),
    }
    if agents is not None:
        message = [{"role": "user", "content": TEXT}]
        reads[AGENTS] = lambda task, _: agents[task].get_items(LIMIT)
        writes[AGENTS] = lambda task, _: agents[task].add_items(message)
    return reads, writes


def _mixed(read: Callable[[int, int], Any], write: Callable[[int, int], Any]) -> Any:
    return lambda task, number: (read if number % 11 else write)(task, number)


def _cache_of(engine: Any) -> Any:
    """The engine's tail cache; there is no public way to do without it."""
    return engine._on.conversations._history._cache


def _claims(found: dict[tuple[str, str], Found]) -> list[Claim]:
    spec = "times the rate of the specification's design"
    reads = at_least(f"history(50) without cache: {spec}", 3, "x", {})
    mixed = at_least(f"history(50), 10 reads : 1 write, with the tail cache: {spec}", 10, "x", {})
    for (server, loop), tables in found.items():
        where = f"{server.split()[0]}, {loop}"
        reads.figures[where] = tables[READS][OURS].times(tables[READS][SPEC])
        mixed.figures[where] = tables[MIXED][CACHED].times(tables[MIXED][SPEC])
    return [reads, mixed]


if __name__ == "__main__":
    main()
