"""`aiecs migrate`: from store to store, killed and called again."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest
from support import servers as real
from support.aiecs_2 import load_golden, old_redis
from support.cli import Calls, Processes
from support.moved import digests, fill_all

from aiecs import ContextEngine


@pytest.fixture(params=real.names())
def server(request, servers):
    started = servers.start(request.param, aof=True)
    yield started
    started.close()


def filled(url: str, more: int = 0) -> None:
    async def work() -> None:
        async with ContextEngine(store=url, operation_timeout=30) as engine:
            await fill_all(engine)
            for number in range(more):
                messages = [{"role": "user", "content": f"{number} {n}"} for n in range(5)]
                await engine.add_conversation_messages(f"more {number}", messages)

    asyncio.run(work())


def told(url: str) -> dict[tuple[str, str], bytes]:
    async def work() -> dict[tuple[str, str], bytes]:
        async with ContextEngine(store=url, operation_timeout=30) as engine:
            return await digests(engine)

    return asyncio.run(work())


def test_there_and_again(cli: Calls, server, tmp_path):
    source = f"sqlite:///{tmp_path}/a.db"
    filled(source)

    out, _ = cli("migrate", "--from", source, "--to", server.url)

    assert out.splitlines()[0] == "sessions: 4 moved"
    assert "compared: 11 groups, the same in both" in out
    assert told(server.url) == told(source)
    report = cli.json("migrate", "--from", source, "--to", server.url, "--no-verify")
    assert (report["sessions"], report["compared"], report["complete"]) == ({"known": 4}, 0, True)


def test_what_cannot_be_moved_is_listed(cli: Calls, tmp_path):
    source, target = f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db"
    filled(source)

    async def occupy() -> None:
        async with ContextEngine(store=target, operation_timeout=10) as engine:
            await engine.create_session("full", "eve")

    asyncio.run(occupy())
    out, err = cli("migrate", "--from", source, "--to", target, code=1)
    assert "error: session full: the target has another session 'full'; it stays" in err
    assert "sessions: 3 moved" in out


def test_questions_that_make_no_sense(cli: Calls, tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    _, err = cli("migrate", "--from", url, "--to", url, code=2)
    assert "the same store" in err
    _, err = cli("migrate", "--from", "memory://", "--to", url, code=2)
    assert "its own process only" in err
    _, err = cli("migrate", "--from", url, "--to", f"sqlite:///{tmp_path}/b.db", code=1)
    assert "does not exist; check --from" in err
    assert list(tmp_path.glob("*.db")) == []


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_it_goes_on_after_its_end(processes: Processes, cli: Calls, server, tmp_path, end):
    source = f"sqlite:///{tmp_path}/a.db"
    filled(source, more=400)
    expected = told(source)
    ended = 0
    for wait_for in (20, 150, 300, 450):
        with processes.start("migrate", "--from", source, "--to", server.url) as process:
            while process.poll() is None and int(server.command("DBSIZE")[1:]) < wait_for:
                pass
            process.send_signal(end)
            _, err = process.communicate(timeout=60)
        ended += process.returncode != 0
        assert b"Traceback" not in err

    report = cli.json("migrate", "--from", source, "--to", server.url)

    assert ended >= 2
    assert report["complete"], report["troubles"]
    assert report["sessions"].get("moved", 0) < 404
    assert told(server.url) == expected
    assert json.dumps(report["troubles"]) == "[]"


def test_an_archive_is_told_once(cli: Calls, archive_database, tmp_path, monkeypatch):
    """Of a store that was never archived, everything; of one that was, nothing again."""
    first, second, third = (f"sqlite:///{tmp_path}/{name}.db" for name in "abc")
    filled(first)
    monkeypatch.setenv("AIECS_ARCHIVE_URL", archive_database.url())

    def messages() -> int:
        return sum(row["messages"] for row in cli.json("archive", "report", "messages")["rows"])

    cli("migrate", "--from", first, "--to", second)
    cli("archive", "ship", "--once", "--store", second)
    assert messages() == 917
    cli("migrate", "--from", second, "--to", third)
    cli("archive", "ship", "--once", "--store", third)
    assert messages() == 917


def test_what_aiecs_2_wrote_is_brought_and_repaired(cli: Calls, server, tmp_path):
    async def old() -> str:
        async with old_redis(server) as client:
            await load_golden(client)
            return str(client.connection_pool.connection_kwargs.get("db", 0))

    source = f"{server.url.rpartition('/')[0]}/{asyncio.run(old())}"
    target = f"sqlite:///{tmp_path}/new.db"

    _, err = cli("migrate", "--from", source, "--to", f"sqlite:///{tmp_path}/none.db")
    assert "--kind aiecs-2 brings that" in err
    told = cli.json("migrate", "--from", source, "--to", target, "--kind", "aiecs-2")

    assert told["sessions"] > 0
    assert told["messages"] > 0
    again = cli.json("migrate", "--from", source, "--to", target, "--kind", "aiecs-2")
    assert (again["sessions"], again["messages"], again["known"]) == (0, 0, told["sessions"])
    out, _ = cli("migrate", "--from", source, "--to", target, "--kind", "aiecs-2")
    assert f"known {told['sessions']}" in out
