"""add_conversation_message (1 KB) and update_session: 64 tasks, loopback, Redis and Valkey.

Each task writes to a session of its own, and waits for each answer before its next call.
ContextEngine does per message, in one atomic batch: message with id and time, activity and expiry
of the session, a receipt that makes a repetition harmless. The specification's design: redis-py
pool, json, LPUSH then EXPIRE. OpenAI Agents: RedisSession.add_items. Calibration: a bare connection
(hiredis, one write per tick) that sends one RPUSH of the same bytes. MULTI/EXEC: the very commands
that the engine's script runs, receipt included, sent as a transaction on the bare connection
(it can refuse nothing: no expired session, no repetition). Script: those commands from a script
that does nothing else, the least that a batch with a guard can cost the server.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from bare import Bare, Monitor
from harness import Figures, Options, Server, Side, compare, loops, names, on_loop, running, title
from peers import SpecDesign, agents_sessions, pool
from report import Claim, Report, at_least, at_most, environment

from aiecs.domain.context import ContextEngine

TASKS = 64
TEXT = "The quick brown fox jumps over the lazy dog. " * 21  # 945 characters: 1 KB as stored
IDS = [f"session-{n}" for n in range(TASKS)]
OURS, SPEC, AGENTS = "ContextEngine", "specification's design", "OpenAI Agents RedisSession"
BARE, MULTI = "calibration: bare RPUSH", "MULTI/EXEC, same commands"
SCRIPT = "script, same commands"
MACHINE_OF_GOALS = 4.6  # client us of the bare connection where the goals were measured


def main() -> None:
    options = Options.parse(__doc__)
    found: dict[tuple[str, str], dict[str, dict[str, Figures]]] = {}
    with running() as servers:
        for name in names():
            server = servers.start(name)
            for loop in loops():
                found[title(name), loop] = on_loop(loop, partial(_measure, server, options))
        packages = ("redis", "hiredis", "msgspec", "uvloop", "openai-agents")
        report = Report(__doc__, environment(*packages, servers=list(map(title, names()))))
    for (server_name, loop), tables in found.items():
        for operation, figures in tables.items():
            report.sides(f"{operation}, {server_name}, {loop}", figures, OURS)
    for claim in _claims(found):
        report.claim(claim)
    report.show(options)


async def _measure(server: Server, options: Options) -> dict[str, dict[str, Figures]]:
    client, bare = pool(server), await Bare.connect(server)
    async with ContextEngine(store=server.url, operation_timeout=10.0) as engine:
        adds = await _add_sides(server, engine, client, bare)
        updates = _update_sides(server, engine, client)
        found = {
            "add_conversation_message": await compare(adds, options, TASKS),
            "update_session": await compare(updates, options, TASKS),
        }
    bare.close()
    await client.aclose()
    for side in (*adds, *updates):
        if side.errors:
            raise RuntimeError(f"{side.name}: {side.errors[0]}")
    return found


async def _add_sides(server: Server, engine: Any, client: Any, bare: Bare) -> list[Side]:
    spec, agents = SpecDesign(client), agents_sessions(client, TASKS)

    async def flush() -> None:
        await bare.execute("FLUSHALL", "SYNC")

    batches = await _batches(server, engine, bare)
    item = next(words[-1] for words in batches[-1] if words[0].upper() == b"RPUSH")
    transactions = [[(b"MULTI",), *commands, (b"EXEC",)] for commands in batches]
    scripts = [await _script(bare, commands) for commands in batches]
    add = engine.add_conversation_message
    calls = {
        OURS: lambda task, _: add(IDS[task], "user", TEXT),
        SPEC: lambda task, _: spec.add_message(IDS[task], "user", TEXT),
        BARE: lambda task, _: bare.execute("RPUSH", IDS[task], item),
        MULTI: lambda task, _: bare.execute_all(transactions[task]),
        SCRIPT: lambda task, _: bare.execute(*scripts[task]),
    }
    if agents is not None:
        message = [{"role": "user", "content": TEXT}]
        calls[AGENTS] = lambda task, _: agents[task].add_items(message)
    return [Side(name, call, server, flush) for name, call in calls.items()]


async def _batches(server: Server, engine: Any, bare: Bare) -> list[list[Any]]:
    """The commands that the engine's script runs for one message to each session."""
    batches = []
    for session_id in IDS:
        await engine.add_conversation_message(session_id, "user", TEXT)
        monitor = Monitor(server)
        await engine.add_conversation_message(session_id, "user", TEXT)
        await bare.execute("ECHO", session_id)
        batches.append(monitor.scripted(session_id.encode()))
        monitor.close()
    return batches


async def _script(bare: Bare, commands: list[Any]) -> list[Any]:
    """The call of a script that runs these commands."""
    keys = list(dict.fromkeys(words[1] for words in commands if len(words) > 1))
    lines, values = [], []
    for name, *words in commands:
        parts = [f"'{name.decode()}'", *(f"KEYS[{keys.index(key) + 1}]" for key in words[:1])]
        for value in words[1:]:
            values.append(value)
            parts.append(f"ARGV[{len(values)}]")
        lines.append(f"redis.call({','.join(parts)})")
    sha = await bare.execute("SCRIPT", "LOAD", "\n".join([*lines, "return 1"]))
    return ["EVALSHA", sha, len(keys), *keys, *values]


def _update_sides(server: Server, engine: Any, client: Any) -> list[Side]:
    spec = SpecDesign(client)

    async def create() -> None:
        for session_id in IDS:
            await engine.create_session(session_id, "somebody")
            await spec.create_session(session_id, "somebody")

    def ours(task: int, _: int) -> Any:
        return engine.update_session(IDS[task], increment_requests=True, add_processing_time=0.25)

    def theirs(task: int, _: int) -> Any:
        return spec.update_session(IDS[task], 0.25)

    return [Side(OURS, ours, server, create), Side(SPEC, theirs, server, create)]


def _claims(found: dict[tuple[str, str], dict[str, dict[str, Figures]]]) -> list[Claim]:
    adds = {where: tables["add_conversation_message"] for where, tables in found.items()}
    claims = [
        at_least("add_message: times the rate of the specification's design", 8, "x", {}),
        at_least("add_message: times the rate of OpenAI Agents RedisSession", 4, "x", {}),
        at_most("add_message: server CPU in MULTI/EXECs of the same commands", 1.7, "x", {}),
    ]
    for (server, loop), figures in adds.items():
        where, ours = f"{server.split()[0]}, {loop}", figures[OURS]
        claims[0].figures[where] = ours.times(figures[SPEC])
        if AGENTS in figures:
            claims[1].figures[where] = ours.times(figures[AGENTS])
        claims[2].figures[where] = ours.server_us / figures[MULTI].server_us
    for loop, goal in (("asyncio", 12.0), ("uvloop", 10.0)):
        here = {server.split()[0]: f for (server, kind), f in adds.items() if kind == loop}
        raw = {where: f[OURS].client_us for where, f in here.items()}
        scale = {
            where: us * MACHINE_OF_GOALS / _bare_asyncio(adds, where) for where, us in raw.items()
        }
        claims.append(at_most(f"add_message: client CPU, {loop}, as measured", goal, "us", raw))
        what = f"add_message: client CPU, {loop}, where a bare RPUSH costs {MACHINE_OF_GOALS} us"
        claims.append(at_most(what, goal, "us", scale))
    return claims


def _bare_asyncio(adds: dict[tuple[str, str], dict[str, Figures]], server: str) -> float:
    """Client us of the calibration on the plain loop, on which the goals' machine was gauged."""
    return next(
        figures[BARE].client_us
        for (name, loop), figures in adds.items()
        if loop == "asyncio" and name.split()[0] == server
    )


if __name__ == "__main__":
    main()
