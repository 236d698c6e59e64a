"""After clean-up and erasure nothing is left: counted key by key, row by row, byte by byte."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from contextlib import closing

import pytest
from redis import Redis
from support import servers as real
from support.graphs import talking
from support.transfer import fill

from aiecs import ContextEngine
from aiecs.integrations.langgraph import ContextEngineSaver

CANARY = "canary-7c1e55"


async def fill_with_canaries(engine: ContextEngine) -> None:
    """Everything that can hold content, all of one user."""
    await fill(engine)
    graph = talking(ContextEngineSaver(engine))
    for number in range(3):
        session = f"{CANARY}-{number}"
        await engine.create_session(session, "ada", {CANARY: CANARY})
        for repeat in range(40):
            text = f"{CANARY} {repeat} " + "x" * 300
            metadata = {"model": CANARY}
            await engine.add_conversation_message(
                session, "user", text, metadata, idempotency_key=f"{CANARY}{repeat}"
            )
        await engine.store_task_context(session, _context())
        parties = [{"id": CANARY, "type": "agent"}]
        key = await engine.create_conversation_session(session, parties, CANARY)
        await engine.add_agent_communication_message(key, CANARY, "agent", "r", content=CANARY)
        await engine.store_checkpoint(f"{CANARY}-t{number}", "c", {"x": CANARY}, session_id=session)
        await engine.put_writes(f"{CANARY}-t{number}", "c", "task", [("ch", CANARY)])
        config = {"configurable": {"thread_id": f"{CANARY}-g{number}", "session_id": session}}
        await graph.ainvoke({"messages": [("user", CANARY * 20)]}, config)


def _context():
    from aiecs.domain.task.task_context import TaskContext

    return TaskContext({"user_id": "ada", "text": CANARY})


async def remove_all(engine: ContextEngine, way: str) -> None:
    if way == "erasure":
        report = await engine.delete_user("ada")
        assert report.complete
        assert (report.sessions, report.task_contexts) == (4, 4)
        await engine.delete_session("empty")
        await engine.delete_thread("loose")
    else:
        await engine.apply_retention(max_idle_hours=0)
    await engine._on.runtime.tasks.drain(5)


WAYS = ["erasure", "cleanup"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", real.names())
async def test_on_a_server_no_key_is_left(servers, name, way):
    server = servers.start(name, aof=True)
    async with ContextEngine(store=server.url, operation_timeout=10) as engine:
        await fill_with_canaries(engine)
        with Redis(port=server.port) as client:
            assert len(client.keys("*")) > 50
            _age(client)
            await remove_all(engine, way)
            if way == "erasure":  # the names are old enough to go now
                assert not (await engine.delete_user("ada")).sessions
            await engine.apply_retention(max_idle_hours=0)
            left = [key.decode() for key in client.keys("*") if client.type(key) != b"hash"]
            assert left == []
            groups = [key for key in client.keys("*") if re.search(rb"}h[^_]", key)]
            assert groups == []
            client.save()
            client.bgrewriteaof()
            await _rewritten(client)

    for file in server.directory.rglob("*"):
        if file.is_file() and file.suffix in {".rdb", ".aof"}:
            assert CANARY.encode() not in file.read_bytes(), file.name
    server.close()


def _age(client: Redis) -> None:
    """Names stay in the indexes for ten minutes: let them be older."""
    for key in client.keys("*"):
        if client.type(key) == b"zset":
            for member, _ in client.zrange(key, 0, -1, withscores=True):
                client.zincrby(key, -700_000_000, member)


async def _rewritten(client: Redis) -> None:
    async with asyncio.timeout(60):
        while client.info("persistence")["aof_rewrite_in_progress"]:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("way", WAYS)
async def test_in_a_file_no_row_and_no_byte_is_left(tmp_path, way):
    path = tmp_path / "a.db"
    async with ContextEngine(store=f"sqlite:///{path}", operation_timeout=10) as engine:
        await fill_with_canaries(engine)
        with closing(sqlite3.connect(path)) as client, client:
            client.execute("UPDATE entries SET score = score - 700000000 WHERE score > 1000")
        await remove_all(engine, way)
        await engine.delete_user("ada")
        await engine.apply_retention(max_idle_hours=0)
        with closing(sqlite3.connect(path)) as client:
            rows = {
                table: client.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("items", "entries")
            }
            owners = client.execute(
                "SELECT DISTINCT name FROM names JOIN fields ON owner = id"
            ).fetchall()
        assert rows == {"items": 0, "entries": 0}
        assert [name for (name,) in owners if "/s:" in name or "/t:" in name] == []
        assert await engine.scrub()

        files = [file for file in tmp_path.iterdir() if file.name.startswith("a.db")]
        assert path in files
        for file in files:
            assert CANARY.encode() not in file.read_bytes(), file.name
    assert CANARY.encode() not in path.read_bytes()


async def test_scrubbing_beside_writers_and_readers(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    async with ContextEngine(store=url, operation_timeout=30) as engine:
        await engine.create_session("s", "u")
        stop = asyncio.Event()

        async def write():
            number = 0
            while not stop.is_set():
                await engine.add_conversation_message("s", "user", str(number))
                number += 1
            return number

        writers = [asyncio.create_task(write()) for _ in range(4)]
        for _ in range(3):
            assert await engine.scrub()
        stop.set()
        written = sum(await asyncio.gather(*writers))

        assert len(await engine.get_conversation_history("s", None)) == written


async def test_a_store_without_a_file_has_nothing_to_scrub(timed):
    engine, _ = timed
    assert await engine.scrub() is False
