"""The commands of whoever runs a store: stats, health, cleanup, recount."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest
from support import servers as real
from support.cli import AGENTS, CHATS, Calls, Processes

from aiecs import ContextEngine


@pytest.fixture(params=["sqlite", *real.names()])
def store(request, servers, prefix, tmp_path, monkeypatch) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("AIECS_KEY_PREFIX", prefix.strip(":"))
    return servers.shared(request.param).url


@pytest.fixture
def filled(cli: Calls, store: str) -> str:
    cli("import", CHATS, "--store", store)
    return store


def test_stats_tell_what_there_is(cli: Calls, filled: str):
    out, _ = cli("stats", "--store", filled)
    rows = dict(line.split("\t") for line in out.splitlines())
    assert rows["active sessions"] == "8"
    assert rows["messages"] == "96 (96 ever)"
    assert rows["breaker"] == "closed"
    assert "p50" in rows["answers in"]
    told = cli.json("stats", "--store", filled)
    assert (told["active_sessions"], told["stored_messages"]) == (8, 96)


def test_watching_goes_on_until_it_is_interrupted(processes: Processes, cli: Calls, tmp_path):
    url = f"sqlite:///{tmp_path}/watched.db"
    cli("import", CHATS, "--store", url)
    arguments = ("stats", "--watch", "--every", "0.1", "--json", "--store", url)
    with processes.start(*arguments) as process:
        first = json.loads(process.stdout.readline())
        cli("import", AGENTS, "--store", url)
        while json.loads(process.stdout.readline())["total_messages"] == first["total_messages"]:
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)

    assert first["rates"] == dict.fromkeys(first["rates"], 0.0)
    assert process.returncode == 130
    assert b"interrupted" in err
    assert b"Traceback" not in err


@pytest.mark.parametrize("name", real.names())
def test_watching_outlasts_an_outage(processes: Processes, servers, name):
    server = servers.start(name, aof=True)
    arguments = ("stats", "--watch", "--every", "0.1", "--json", "--store", server.url)
    with processes.start(*arguments) as process:
        assert json.loads(process.stdout.readline())["active_sessions"] == 0
        server.stop()
        while b"no answer: " not in process.stderr.readline():
            pass
        server.start()
        assert json.loads(process.stdout.readline())["active_sessions"] == 0
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    server.close()
    assert process.returncode == 130


def test_health_of_a_store_that_is_well(cli: Calls, filled: str):
    out, _ = cli("health", "--exit-code", "--store", filled)
    assert out.splitlines()[0] == "healthy"
    assert "8 active, 96 messages ever" in out
    told = cli.json("health", "--store", filled)
    assert (told["status"], told["storage_mode"], told["breaker"]) == (
        "healthy",
        "configured",
        "closed",
    )


def test_health_of_a_store_that_does_not_answer(cli: Calls):
    nowhere = "redis://:secret@localhost:1/0"
    out, err = cli("health", "--store", nowhere)
    assert out.splitlines()[0] == "unhealthy"
    assert "StoreUnavailableError" in out
    assert "secret" not in out + err
    told = json.loads(cli("health", "--exit-code", "--json", "--store", nowhere, code=3)[0])
    assert told["status"] == "unhealthy"


@pytest.mark.parametrize("name", real.names())
def test_health_of_a_server_that_is_full(cli: Calls, servers, name):
    server = servers.start(name)
    cli("import", CHATS, "--store", server.url)
    server.command("CONFIG", "SET", "maxmemory", "1")
    told = json.loads(cli("health", "--exit-code", "--json", "--store", server.url, code=1)[0])
    server.close()
    assert told["status"] == "degraded"
    assert told["issues"][0].startswith("writes are refused: StoreFullError")


def test_cleanup_says_what_it_would_do_and_does_it(cli: Calls, filled: str):
    dry = cli.json("cleanup", "--max-messages", "2", "--dry-run", "--store", filled)
    assert (dry["dry_run"], dry["messages"], dry["sessions"]) == (True, 80, 0)
    assert cli("cleanup", "--max-messages", "2", "--dry-run", "--store", filled)[0] == (
        "would remove 80 messages\n"
    )
    assert cli("cleanup", "--max-messages", "2", "--store", filled)[0] == "removed 80 messages\n"
    assert cli("cleanup", "--max-messages", "2", "--store", filled)[0] == "removed nothing\n"
    out, _ = cli("cleanup", "--max-idle-hours", "0", "--store", filled)
    assert out == "removed 8 sessions, 16 messages\n"
    _, err = cli("cleanup", "--max-messages", "0", "--store", filled, code=2)
    assert "max_messages is 1 or more" in err


def test_recount_puts_right_and_tells(cli: Calls, filled: str):
    assert cli("recount", "--store", filled)[0].splitlines() == [
        "sessions 8, ended 0, messages 96, checkpoints 0",
        "the totals were right",
    ]

    async def spoil() -> None:
        async with ContextEngine(store=filled, operation_timeout=10) as engine:
            engine._on.runtime.counters.add("messages", 5)

    asyncio.run(spoil())
    told = cli.json("recount", "--store", filled)
    assert (told["messages"], told["drift"]) == (96, {"messages": -5})
    assert cli.json("stats", "--store", filled)["stored_messages"] == 96
