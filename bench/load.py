"""The transport from 1 task to 10,000: SET and GET of 1 KB, and messages, on loopback.

A message is all that ContextEngine does for one; of the others, JSON, LPUSH and EXPIRE, as in the
specification's design.

Ours sends every command of a loop over one connection. redis-py: a pool with a connection for each
task. coredis and valkey-glide take part where they are installed (they are not among the
requirements). At 10,000 tasks each adds messages to a session of its own: what counts then is that
no call fails, that every task gets its share, and that memory is bounded. Last, a gigabyte of
history is read through while the event loop's gaps are watched.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import coredis
from glide import GlideClient, GlideClientConfiguration, NodeAddress
from harness import Figures, Options, Server, Side, compare, loops, names, on_loop, running, title
from peers import TTL, Message
from redis.asyncio import Redis
from report import Claim, Report, at_least, at_most, environment

from aiecs.domain.context import ContextEngine
from aiecs.infrastructure.persistence.stores.redis import RedisStore

TASKS = (1, 64, 512)
MANY = 10_000
TTL_WORD = str(TTL)
VALUE = "x" * 1_000
PACKAGES = ("redis", "hiredis", "coredis", "valkey-glide", "uvloop")
OURS, POOL = "ContextEngine", "redis-py pool"
HISTORY_BYTES, MESSAGE_BYTES, PAGE = 1_000_000_000, 50_000, 50


class Crowd(NamedTuple):
    """What 10,000 tasks got."""

    rate: float
    failed: int
    unfairness: float
    grown_mb: float


Send = Callable[..., Awaitable[Any]]
Found = dict[tuple[str, int], dict[str, Figures]]


def main() -> None:
    options = Options.parse(__doc__)
    report: Report
    tables: list[tuple[str, dict[str, Figures]]] = []
    claims: list[Claim] = []
    crowds: list[tuple[object, ...]] = []
    with running() as servers:
        for name in names():
            server = servers.start(name)
            for loop in loops():
                where = f"{title(name).split()[0]}, {loop}"
                found: Found = on_loop(loop, partial(_measure, server, options))
                tables += [(f"{what}, {n} tasks, {where}", f) for (what, n), f in found.items()]
                crowd: Crowd = on_loop(loop, partial(_crowd, server, options))
                crowds.append((where, *crowd))
                gap = on_loop(loop, partial(_read_through, server, options))
                _claim(claims, where, found, crowd, gap)
        report = Report(__doc__, environment(*PACKAGES))
    for name, figures in tables:
        report.sides(name, figures, OURS)
    report.table(f"{MANY:,} tasks", ("where", "ops/s", "failed", "max/median", "grown MB"), crowds)
    for claim in claims:
        report.claim(claim)
    report.show(options)


def _claim(claims: list[Claim], where: str, found: Found, crowd: Crowd, gap: float) -> None:
    if not claims:
        claims += [
            at_least("SET and GET: times the rate of redis-py's pool, 64 tasks", 5, "x", {}),
            at_least("messages: times the rate of redis-py's pool, 64 tasks", 5, "x", {}),
            at_most("messages: p99, 64 tasks", 3, "ms", {}),
            at_least("messages: rate at 512 tasks in rates at 64", 0.8, "x", {}),
            at_most("10,000 tasks: failed calls", 0, "", {}),
            at_most("10,000 tasks: calls of the luckiest task in those of the median", 20, "x", {}),
            at_most("longest gap of the loop while a gigabyte is read", 50, "ms", {}),
        ]
    few, many = found["messages", 64][OURS], found["messages", 512][OURS]
    raw = found["SET and GET", 64]
    figures = (
        raw[OURS].times(raw[POOL]),
        few.times(found["messages", 64][POOL]),
        few.p99_ms,
        many.times(few),
        crowd.failed,
        crowd.unfairness,
        gap,
    )
    for claim, figure in zip(claims, figures, strict=True):
        claim.figures[where] = figure


async def _measure(server: Server, options: Options) -> Found:
    found: Found = {}
    store = RedisStore.from_url(server.url, timeout=10.0)
    async with ContextEngine(store=server.url, operation_timeout=10.0) as engine:
        for tasks in TASKS:
            async with (
                Redis(port=server.port, max_connections=tasks) as pool,
                _coredis(server, tasks) as other,
                _glide(server) as glide,
            ):
                clients = {OURS: store.command, POOL: pool.execute_command}
                clients |= {"coredis": other, "valkey-glide": glide}
                sides = [Side(name, _set_and_get(send), server) for name, send in clients.items()]
                found["SET and GET", tasks] = await compare(sides, options, tasks)
                clients.pop(OURS)
                adding = [Side(OURS, partial(_add, engine), server)]
                adding += [Side(name, _add_as(send), server) for name, send in clients.items()]
                found["messages", tasks] = await compare(adding, options, tasks)
            for side in (*sides, *adding):
                if side.errors:
                    raise RuntimeError(f"{side.name}: {side.errors[0]}")
            server.command("FLUSHALL", "SYNC")
    await store.close()
    return found


def _set_and_get(send: Send) -> Callable[[int, int], Awaitable[object]]:
    def call(task: int, number: int) -> Awaitable[object]:
        key = f"key-{task}"
        return send("GET", key) if number % 2 else send("SET", key, VALUE)

    return call


def _add(engine: ContextEngine, task: int, _: int) -> Awaitable[object]:
    return engine.add_conversation_message(f"session-{task}", "user", VALUE)


def _add_as(send: Send) -> Callable[[int, int], Awaitable[object]]:
    """A message as the specification's design stores it, by way of another client."""

    async def call(task: int, _: int) -> None:
        data = json.dumps(Message("user", VALUE, datetime.now(UTC)).to_dict())
        await send("LPUSH", f"conversation:{task}", data)
        await send("EXPIRE", f"conversation:{task}", TTL_WORD)

    return call


@contextlib.asynccontextmanager
async def _coredis(server: Server, tasks: int) -> AsyncIterator[Send]:
    async with coredis.Redis(port=server.port, max_connections=tasks) as client:
        words: dict[str, Any] = {
            "SET": client.set,
            "GET": client.get,
            "EXPIRE": lambda key, seconds: client.expire(key, int(seconds)),
        }
        words["LPUSH"] = lambda key, value: client.lpush(key, [value])
        yield lambda word, *rest: words[word](*rest)


@contextlib.asynccontextmanager
async def _glide(server: Server) -> AsyncIterator[Send]:
    place = NodeAddress("127.0.0.1", server.port)
    asked = GlideClientConfiguration([place], request_timeout=10_000)
    client = await GlideClient.create(asked)
    try:
        yield lambda *command: client.custom_command(list(command))
    finally:
        await client.close()


async def _crowd(server: Server, options: Options) -> Crowd:
    counts = [0] * MANY
    failed = 0
    async with ContextEngine(store=server.url, operation_timeout=30.0) as engine:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        end = time.perf_counter() + 10 * options.seconds

        async def work(task: int) -> None:
            nonlocal failed
            while time.perf_counter() < end:
                try:
                    await _add(engine, task, 0)
                except Exception:  # noqa: BLE001 - counted
                    failed += 1
                counts[task] += 1

        started = time.perf_counter()
        await asyncio.gather(*map(work, range(MANY)))
        took = time.perf_counter() - started
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    server.command("FLUSHALL", "SYNC")
    return Crowd(sum(counts) / took, failed, max(counts) / max(1, median(counts)), grown / 1024)


async def _read_through(server: Server, options: Options) -> float:
    """The longest gap of the loop, in milliseconds, while a long history is read page by page."""
    total = HISTORY_BYTES // 100 if options.quick else HISTORY_BYTES
    count, longest, done = total // MESSAGE_BYTES, 0.0, False
    async with ContextEngine(store=server.url, operation_timeout=30.0) as engine:
        sessions = [f"long-{number}" for number in range(4)]
        text = "y" * MESSAGE_BYTES
        for number in range(count):
            await engine.add_conversation_message(sessions[number % 4], "user", text)

        async def watch() -> None:
            nonlocal longest
            last = time.perf_counter()
            while not done:
                await asyncio.sleep(0)
                now = time.perf_counter()
                longest, last = max(longest, now - last), now

        watching = asyncio.create_task(watch())
        read = 0
        for session in sessions:
            last = 0
            while page := await engine.get_conversation_history(session, PAGE, after=last):
                read += sum(len(message.content) for message in page)
                last = page[-1].seq or 0
        done = True
        await watching
    server.command("FLUSHALL", "SYNC")
    assert read == count * MESSAGE_BYTES
    return longest * 1e3


if __name__ == "__main__":
    main()
