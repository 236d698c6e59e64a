"""LangGraph savers: the room that a thread takes, and the time of each call, alone and 32 at once.

A thread grows by one message of some 500 bytes with each step: a checkpoint with four channels, two
calls of aput_writes. Room: what the thread takes after 200 and 2,000 steps, by the server's own
`used_memory` (which is what it grew by) or by the size of the files. Calls: on threads with 200
messages; the sides take turns. "Steps": a checkpoint and its two writes. Every side decodes all of
what it reads. AsyncSqliteSaver and ContextEngine on SQLite each write a file on the same disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from harness import Figures, Options, Server, Side, compare, running, title
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph_checkpoint_plainredis import AsyncRedisSaver
from peers import pool
from redis import Redis
from report import Report, at_least, at_most, environment

from aiecs import ContextEngine
from aiecs.integrations.langgraph import ContextEngineSaver

OURS, OURS_FILE = "ContextEngine, Valkey", "ContextEngine, SQLite"
UNSHIPPED = "ContextEngine, Valkey, its archive down"
MEMORY, SQLITE = "InMemorySaver", "AsyncSqliteSaver"
PLAIN, VALKEY = "plainredis", "AsyncValkeySaver (aws)"
NETWORKED = (PLAIN, VALKEY)
MESSAGES, THREADS = 200, 32
_TEXT = "the quick brown fox jumps over a lazy dog while rain falls on the roofs of town"
_WORDS = tuple(_TEXT.split())


class Opened(NamedTuple):
    """A saver, and how many bytes it holds by now."""

    saver: Any
    size: Callable[[], int]


def main() -> None:
    options = Options.parse(__doc__)
    with running() as servers:
        found = asyncio.run(_measure(servers.start("valkey"), options))
        rooms = asyncio.run(_rooms(servers.start("valkey"), options))
        packages = (
            "langgraph", "langgraph-checkpoint", "langgraph-checkpoint-sqlite",
            "langgraph-checkpoint-plainredis", "langgraph-checkpoint-aws", "ormsgpack",
        )  # fmt: skip
        report = Report(__doc__, environment(*packages, servers=[title("valkey")]))
    rows = [(name, *map(_megabytes, (*sizes, None)[:2])) for name, sizes in rooms.items()]
    columns = ("saver", *(f"MB after {steps:,} steps" for steps in _steps(options)))
    report.table("room of one thread", columns, rows)
    for (work, tasks), figures in found.items():
        ours = OURS if OURS in figures else OURS_FILE
        report.sides(f"{work}, {tasks} at once", figures, ours)
    _claim(report, rooms, found)
    report.show(options)


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.2f}"


def _steps(options: Options) -> tuple[int, int]:
    return (20, 200) if options.quick else (MESSAGES, 10 * MESSAGES)


# --- the savers -----------------------------------------------------------------------------------


@asynccontextmanager
async def _savers(server: Server, directory: str) -> AsyncIterator[dict[str, Opened]]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        url, files = server.url, {name: Path(directory, name) for name in ("ours.db", "theirs.db")}
        client = stack.enter_context(Redis.from_url(url))

        def used() -> int:
            return int(client.info("memory")["used_memory"])

        engine = ContextEngine(store=url, operation_timeout=10.0)
        file = ContextEngine(store=f"sqlite:///{files['ours.db']}", operation_timeout=10.0)
        memory = InMemorySaver()
        savers = {
            OURS: Opened(ContextEngineSaver(await enter(engine)), used),
            PLAIN: Opened(AsyncRedisSaver(await enter(pool(server))), used),
            OURS_FILE: Opened(
                ContextEngineSaver(await enter(file)), partial(_bytes, files["ours.db"])
            ),
            SQLITE: Opened(
                await enter(AsyncSqliteSaver.from_conn_string(str(files["theirs.db"]))),
                partial(_bytes, files["theirs.db"]),
            ),
            MEMORY: Opened(memory, partial(_payload, memory)),
        }
        with suppress(ImportError):  # it holds back versions of other packages: install it by hand
            from langgraph_checkpoint_aws.checkpoint.valkey import AsyncValkeySaver

            address = url.replace("redis://", "valkey://")
            valkey = AsyncValkeySaver.from_conn_string(address, pool_size=2 * THREADS)
            savers[VALKEY] = Opened(await enter(valkey), used)
        yield savers


@asynccontextmanager
async def _unshipped(server: Server) -> AsyncIterator[Opened]:
    """All that is to go to the archive waits in the store, beside the thread."""
    url, down = server.url, "clickhouse://127.0.0.1:1/nowhere"
    with Redis.from_url(url) as client:
        async with ContextEngine(store=url, archive=down, operation_timeout=10.0) as engine:
            yield Opened(
                ContextEngineSaver(engine), lambda: int(client.info("memory")["used_memory"])
            )


def _bytes(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:  # what waits in the journal is no growth
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return sum(one.stat().st_size for one in path.parent.glob(f"{path.name}*"))


def _payload(saver: InMemorySaver) -> int:
    return sum(len(data) for _, data in saver.blobs.values())


class Thread:
    """A thread on its way: a checkpoint with all messages so far, and two writes, at each step."""

    def __init__(self, saver: Any, name: str, seed: int = 0) -> None:
        self.saver = saver
        self.config: Any = {"configurable": {"thread_id": name, "checkpoint_ns": ""}}
        self.chance = Random(f"{name} {seed}")
        self.messages: list[Any] = []
        self.base: list[Any] = []
        self.versions: dict[str, Any] = {}
        self.step = 0

    def _say(self) -> Any:
        text = " ".join(self.chance.choices(_WORDS, k=98))
        kind = AIMessage if self.step % 2 else HumanMessage
        return kind(text, id=str(uuid.UUID(int=self.chance.getrandbits(128))))

    async def put(self, *, grow: bool = True) -> None:
        if grow or not self.messages:
            self.messages = [*self.messages, self._say()]
        version = self.saver.get_next_version(self.versions.get("messages"), None)
        first = self.versions.get("profile", version)
        changed = dict.fromkeys(("messages", "step", "branch:to:model"), version)
        new = changed if self.versions else {**changed, "profile": version}
        self.versions = {**changed, "profile": first}
        made = {
            "v": 4,
            "id": str(uuid6(clock_seq=self.step)),
            "ts": "2026-11-23T10:00:00.000000+00:00",
            "channel_values": {
                "messages": self.messages,
                "step": self.step,
                "branch:to:model": None,
                "profile": {"name": "ada", "tier": "gold"},
            },
            "channel_versions": dict(self.versions),
            "versions_seen": {"__input__": {}, "model": {"branch:to:model": version}},
            "updated_channels": sorted(changed),
        }
        metadata = {"source": "loop", "step": self.step, "parents": {}}
        self.config = await self.saver.aput(self.config, made, metadata, new)
        self.step += 1

    async def write(self) -> None:
        task = str(uuid.UUID(int=self.chance.getrandbits(128)))
        await self.saver.aput_writes(
            self.config, [("messages", self.messages[-1:])], task, "~__pregel_pull, model"
        )

    async def both(self) -> None:
        await self.put()
        await self.write()
        await self.write()

    async def get(self) -> None:
        found = await self.saver.aget_tuple(self._thread())
        assert len(found.checkpoint["channel_values"]["messages"]) == len(self.messages)

    async def list(self) -> None:
        found = [one async for one in self.saver.alist(self._thread(), limit=10)]
        assert len(found) == 10

    def _thread(self) -> Any:
        configurable = self.config["configurable"]
        return {"configurable": {"thread_id": configurable["thread_id"], "checkpoint_ns": ""}}


# --- measuring ------------------------------------------------------------------------------------


async def _rooms(server: Server, options: Options) -> dict[str, list[int]]:
    sizes: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as directory:
        async with _savers(server, directory) as savers, _unshipped(server) as archived:
            for name, opened in {**savers, UNSHIPPED: archived}.items():
                thread, before = Thread(opened.saver, f"room {name}"), opened.size()
                sizes[name] = []
                for steps in _steps(options):
                    if steps > MESSAGES and name not in (OURS, OURS_FILE, UNSHIPPED):
                        continue  # would be gigabytes, and take an hour
                    while thread.step < steps:
                        await thread.both()
                    sizes[name].append(opened.size() - before)
    return sizes


async def _measure(server: Server, options: Options) -> dict[tuple[str, int], dict[str, Figures]]:
    found: dict[tuple[str, int], dict[str, Figures]] = {}
    count = 20 if options.quick else MESSAGES
    with tempfile.TemporaryDirectory() as directory:
        async with _savers(server, directory) as savers:
            threads = {name: await _grown(opened.saver, count) for name, opened in savers.items()}
            for tasks in (1, THREADS):
                for work in ("aput", "aput_writes", "steps", "aget_tuple", "alist(10)"):
                    sides = [
                        Side(name, partial(_call, work, mine), None if "SQL" in name else server)
                        for name, mine in threads.items()
                    ]
                    found[work, tasks] = await compare(sides, options, tasks)
    return found


async def _grown(saver: Any, count: int) -> list[Thread]:
    threads = [Thread(saver, f"thread {number}") for number in range(THREADS)]
    for thread in threads:
        thread.messages = thread.base = [thread._say() for _ in range(count)]
        for _ in range(11):
            await thread.put(grow=False)
    return threads


def _call(work: str, threads: list[Thread], task: int, _: int) -> Awaitable[None]:
    thread = threads[task]
    if work in ("aput", "steps"):
        thread.messages = thread.base  # so that no side's list is longer than another's
        return thread.put() if work == "aput" else thread.both()
    return {"aput_writes": thread.write, "aget_tuple": thread.get, "alist(10)": thread.list}[work]()


def _claim(
    report: Report,
    rooms: dict[str, list[int]],
    found: dict[tuple[str, int], dict[str, Figures]],
) -> None:
    ours, file = rooms[OURS], rooms[OURS_FILE]
    room = {OURS: ours[0] / 1e6, OURS_FILE: file[0] / 1e6}
    report.claim(at_most("MB after 200 steps", 1.0, "MB", room))
    waiting = {UNSHIPPED: rooms[UNSHIPPED][0] / 1e6}
    report.claim(
        at_most("MB after 200 steps, all of it waiting for the archive too", 2.0, "MB", waiting)
    )
    growth = {OURS: ours[1] / ours[0], OURS_FILE: file[1] / file[0]}
    report.claim(at_most("ten times the steps, times the room", 11, "x", growth))
    networked = [name for name in NETWORKED if name in rooms]
    others = {name: rooms[name][0] / ours[0] for name in (*networked, SQLITE)}
    report.claim(at_least("room of others", 15, "x", others))
    for work, tasks, goal in (
        ("aput_writes", 1, 1.0), ("aput", 1, 0.8), ("aput", THREADS, 1.0), ("steps", THREADS, 2.0),
        ("aget_tuple", 1, 0.87), ("alist(10)", 1, 0.87), ("aget_tuple", THREADS, 0.87),
    ):  # fmt: skip
        figures = found[work, tasks]
        rate = min(figures[OURS].times(figures[other]) for other in networked)
        what = f"{work}, {tasks} at once, against the best networked saver"
        report.claim(at_least(what, goal, "x", {"Valkey": rate}))
    for work in ("aput", "aput_writes", "steps"):
        ratios = {
            f"{tasks} at once": found[work, tasks][OURS_FILE].times(found[work, tasks][SQLITE])
            for tasks in (1, THREADS)
        }
        report.claim(at_least(f"{work} on SQLite against AsyncSqliteSaver", 1.0, "x", ratios))


if __name__ == "__main__":
    main()
