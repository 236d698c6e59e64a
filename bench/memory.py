"""Memory of the server: per message, and per session with its indexes; Redis and Valkey.

Messages: one session for every 200 messages of 1 KB; what the server's `used_memory` grew by, in
encoded messages (the bytes that lie in the lists). Sessions: four processes create them by
`create_session` without an id (the engine mints it) and without metadata, 100 to a user, as fast as
they can; `used_memory` before and after. The parts by kind of key are what MEMORY USAGE says of
every key; "the server's own tables" is the rest: tables over the keys and over their expiries.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from multiprocessing import get_context
from typing import Any

from harness import Options, Server, names, running, title
from redis import Redis
from report import Claim, Report, at_most, environment

from aiecs.domain.context import ContextEngine

WRITERS, TASKS, PER_USER = 4, 25, 100
TEXT = "The quick brown fox jumps over the lazy dog. " * 21  # 945 characters: 1 KB as stored
MESSAGE_GOALS = {"redis": 1.2, "valkey": 1.05}
KINDS = {
    "hs:": "heads of sessions",
    "ls:": "messages",
    "z_a": "index by activity",
    "z_u": "indexes by user",
    "": "receipts of writers",
}


def main() -> None:
    options = Options.parse(__doc__)
    sessions, messages = (2_000, 2_000) if options.quick else (100_000, 40_000)
    by_message: dict[str, float] = {}
    by_session: dict[str, dict[str, float]] = {}
    with running() as servers:
        for name in names():
            by_message[name] = _messages(servers.start(name), messages)
            by_session[name] = _sessions(servers.start(name), sessions)
        shown = environment("hiredis", "msgspec", servers=list(map(title, names())))
    report = Report(__doc__, shown)
    rows = [(title(name), ratio) for name, ratio in by_message.items()]
    report.table(f"{messages:,} messages of 1 KB", ("server", "bytes per encoded byte"), rows)
    kinds = list(dict.fromkeys(kind for parts in by_session.values() for kind in parts))
    table = [(kind, *(parts.get(kind, 0.0) for parts in by_session.values())) for kind in kinds]
    columns = ("bytes per session", *map(title, by_session))
    report.table(f"{sessions:,} sessions, {PER_USER} to a user, 4 writers", columns, table)
    for claim in _claims(by_message, by_session):
        report.claim(claim)
    report.show(options)


# --- messages -------------------------------------------------------------------------------------


def _messages(server: Server, count: int) -> float:
    with Redis.from_url(server.url) as client:
        asyncio.run(_write(server.url, 0))  # scripts and the receipts of one writer
        before = _used(client)
        asyncio.run(_write(server.url, count))
        grown = _used(client) - before
        keys = client.scan_iter(count=1_000, _type="list")
        stored = sum(len(item) for key in keys for item in client.lrange(key, 0, -1))
    return grown / stored


async def _write(url: str, count: int) -> None:
    async with ContextEngine(store=url, operation_timeout=10.0) as engine:

        async def fill(number: int) -> None:
            for _ in range(200):
                await engine.add_conversation_message(f"session-{number}", "user", TEXT)

        await asyncio.gather(*map(fill, range(count // 200)))


# --- sessions -------------------------------------------------------------------------------------


def _sessions(server: Server, count: int) -> dict[str, float]:
    with Redis.from_url(server.url) as client:
        before = _used(client)
        context = get_context("spawn")
        users = range(count // PER_USER)
        work = [
            context.Process(target=_create, args=(server.url, list(users[part::WRITERS])))
            for part in range(WRITERS)
        ]
        for process in work:
            process.start()
        for process in work:
            process.join()
        if any(process.exitcode for process in work):
            raise RuntimeError("a writer failed")
        grown = _used(client) - before
        parts = _parts(client)
    rest = grown - sum(parts.values())
    whole = {**parts, "the server's own tables": rest, "together": grown}
    return {kind: size / count for kind, size in whole.items()}


def _create(url: str, users: list[int]) -> None:
    asyncio.run(_create_all(url, users))


async def _create_all(url: str, users: list[int]) -> None:
    async with ContextEngine(store=url, operation_timeout=30.0) as engine:
        work = [user for user in users for _ in range(PER_USER)]

        async def create(part: list[int]) -> None:
            for user in part:
                await engine.create_session(user_id=f"user-{user}")

        await asyncio.gather(*(create(work[task::TASKS]) for task in range(TASKS)))


def _parts(client: Any) -> Counter[str]:
    """Bytes by kind of key, as MEMORY USAGE has them."""
    found: Counter[str] = Counter()
    keys = list(client.scan_iter(count=1_000))
    for start in range(0, len(keys), 1_000):
        part = keys[start : start + 1_000]
        pipe = client.pipeline(transaction=False)
        for key in part:
            pipe.memory_usage(key, samples=0)
        for key, size in zip(part, pipe.execute(), strict=True):
            found[_kind(key.decode())] += size
    return found


def _kind(key: str) -> str:
    inner = key.partition("}")[2]
    return KINDS.get(inner[:3], "others")


def _used(client: Any) -> int:
    return int(client.info("memory")["used_memory"])


def _claims(by_message: dict[str, float], by_session: dict[str, dict[str, float]]) -> list[Claim]:
    claims = [
        at_most(
            "server memory per message, in encoded messages",
            MESSAGE_GOALS[name],
            "x",
            {name: ratio},
        )
        for name, ratio in by_message.items()
    ]
    together = {name: parts["together"] for name, parts in by_session.items()}
    what = "server memory per session with its indexes and receipts"
    return [*claims, at_most(what, 350, "bytes", together)]


if __name__ == "__main__":
    main()
