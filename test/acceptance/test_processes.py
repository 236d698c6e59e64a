"""Several processes on one store, and processes that are killed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from support import servers as real
from support import worker

from aiecs.domain.context import ContextEngine

Start = Callable[..., Any]


@pytest.fixture(params=["sqlite", *real.names()])
def place(request: pytest.FixtureRequest, servers: real.Servers, prefix: str, tmp_path: Path):
    """The address and key prefix of a store that processes share."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shared.db", prefix
    return servers.shared(request.param).url, prefix


@pytest.fixture
async def engine(place: tuple[str, str]) -> AsyncIterator[ContextEngine]:
    store = worker.open_store(*place)
    async with ContextEngine(store=store, operation_timeout=worker.DEADLINE) as engine:
        yield engine
    await store.close()


@pytest.fixture
async def start(place: tuple[str, str]) -> AsyncIterator[Start]:
    """Starts a process that does a job; all are killed in the end."""
    processes: list[asyncio.subprocess.Process] = []

    async def start(job: str, *arguments: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, worker.__file__, *place, job, *arguments,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line_of(process: asyncio.subprocess.Process) -> str:
    return (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()


async def test_two_processes_lose_no_increment(engine: ContextEngine, start: Start):
    await engine.create_session("counted")

    processes = [await start("increment", "counted", "500") for _ in range(2)]
    assert [await line_of(process) for process in processes] == ["done", "done"]

    assert (await engine.get_session("counted")).request_count == 1000


async def test_what_a_killed_process_was_told_is_kept(engine: ContextEngine, start: Start):
    process = await start("say", "talk")
    for _ in range(200):
        last = await line_of(process)
    process.kill()
    rest = (await process.stdout.read()).decode().split("\n")
    told = [int(line.split()[1]) for line in [last, *rest] if line.startswith("kept ")][-1]

    history = await engine.get_conversation_history("talk", limit=None)

    assert [message.content for message in history[: told + 1]] == [
        f"m{number}" for number in range(told + 1)
    ]
    assert len(history) <= told + 2


async def test_a_process_killed_between_index_and_session(engine: ContextEngine, start: Start):
    await engine.create_session("there", "ada")
    process = await start("create", "half", "ada")
    assert await line_of(process) == "announced"
    process.kill()
    await process.wait()

    assert [s.session_id for s in (await engine.list_sessions("ada")).items] == ["there"]
    assert await engine.get_session("half") is None
    await engine.create_session("half", "ada")
    listed = (await engine.list_sessions("ada")).items
    assert {session.session_id for session in listed} == {"half", "there"}

    report = await engine.delete_user("ada")

    assert report.sessions == 2
    assert (await engine.list_sessions("ada")).items == []
