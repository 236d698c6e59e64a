"""`aiecs import` and `aiecs export`: there, back, and there again; also after Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import AGENTS, CHATS, SESSIONS, Calls, Cli, Processes, chat, content, write
from support.waiting import until

from aiecs.domain.context import ContextEngine


def test_import_look_export_import_again(cli: Calls, processes: Processes):
    store, other = "sqlite:///a.db", "sqlite:///b.db"

    out, err = processes("import", CHATS, AGENTS, "--store", store)
    assert "imported 9 sessions; with 98 messages, 1 agent conversation, 6 agent messages" in out
    assert "async with ContextEngine(store='sqlite:///a.db') as engine" in out
    assert err == f"store: {store} (--store)\n"

    listed = cli.json("sessions", "--store", store)
    assert len(listed["sessions"]) == SESSIONS + 1
    assert listed["cursor"] is None

    history = cli.json("history", "demo-returns", "--store", store)
    logged = json.loads(CHATS.read_text(encoding="utf-8").splitlines()[0])["messages"]
    assert [m["role"] for m in history["messages"]] == [m["role"] for m in logged]
    assert [m["content"] for m in history["messages"]] == [m["content"] or "" for m in logged]
    assert [m.get("tool_calls") for m in history["messages"]] == [
        m.get("tool_calls") for m in logged
    ]
    assert history["session"]["output_tokens"] > 0

    first = processes("export", "--store", store)[0]
    (cli.directory / "export.ndjson").write_text(first, encoding="utf-8")
    processes("import", "export.ndjson", "--store", other)
    assert content(cli("export", "--store", other)[0]) == content(first)

    again = cli.json("import", "export.ndjson", "--store", other)
    assert again["total"]["known"] == SESSIONS + 1
    assert again["total"]["messages"] == again["total"]["sessions"] == 0
    assert content(cli("export", "--store", other)[0]) == content(first)


async def test_everything_an_engine_writes_survives(processes: Processes):
    async with ContextEngine(store=f"sqlite:///{processes.directory}/a.db") as engine:
        await engine.create_session("s/1 ünï", "ada", {"k": {"deep": [1, None]}})
        await engine.add_conversation_message(
            "s/1 ünï", "user", "hi", {"input_tokens": 3}, name="Ada", pinned=True
        )
        await engine.update_session("s/1 ünï", increment_requests=True, add_processing_time=0.25)
        await engine.store_checkpoint(
            "t", "c1", {"raw": b"\x00", ("a", 1): {2}}, session_id="s/1 ünï"
        )
        await engine.put_writes("t", "c1", "task", [("out", b"\xff"), ("n", 1.5)])
        await engine.store_checkpoint("alone", "c1", {"x": 1})
        await engine.end_session("s/1 ünï", "failed")
        before = await engine.get_session("s/1 ünï")

    processes("export", "--store", "sqlite:///a.db", "-o", "x.ndjson")
    processes("import", "x.ndjson", "--store", "sqlite:///b.db")

    async with ContextEngine(store=f"sqlite:///{processes.directory}/b.db") as engine:
        assert await engine.get_session("s/1 ünï") == before
        (message,) = await engine.get_conversation_history("s/1 ünï")
        assert (message.name, message.pinned) == ("Ada", True)
        found = await engine.get_checkpoint("t")
        assert found is not None
        assert found["data"] == {"raw": b"\x00", ("a", 1): {2}}
        assert await engine.get_writes("t", "c1") == [("out", b"\xff"), ("n", 1.5)]
        assert await engine.get_checkpoint("alone") is not None
        assert (await engine.delete_session("s/1 ünï")).checkpoints == 1


def test_export_of_some_sessions(cli: Cli):
    store = ("--store", "sqlite:///a.db")
    cli("import", CHATS, *store)

    assert cli("export", "demo-note", *store)[0].count('"type":"session"') == 1
    assert cli("export", "--user", "ada", *store)[0].count('"type":"session"') == 3
    assert cli("export", "--status", "failed", *store)[0].count('"type":"session"') == 0
    summary = json.loads(cli("export", "demo-note", *store, "-o", "n.ndjson", "--json")[0])
    assert (summary["sessions"], summary["messages"], summary["file"]) == (1, 4, "n.ndjson")


def test_export_of_an_unknown_session_writes_nothing(cli: Cli):
    cli("import", CHATS, "--store", "sqlite:///a.db")
    arguments = ("export", "nobody", "--store", "sqlite:///a.db", "-o", "x.ndjson")

    _, err = cli(*arguments, code=1)

    assert "error: there is no session 'nobody'" in err
    assert not list(cli.directory.glob("*ndjson*"))
    assert not list(cli.directory.glob(".*ndjson*"))


def test_import_reads_a_pipe(cli: Cli):
    cli("import", CHATS, "--store", "sqlite:///a.db")
    exported, _ = cli("export", "--store", "sqlite:///a.db")
    summary, _ = cli("import", "-", "--store", "sqlite:///b.db", stdin=exported.encode())

    assert "imported 8 sessions; with 96 messages" in summary


MANY_SESSIONS = 6_000  # more than any machine imports between two looks at the file


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT between processes there")
def test_ctrl_c_ends_an_import_which_can_be_repeated(cli: Calls, processes: Processes):
    chats = (chat(f"s{n}", "x" * 2000) for n in range(MANY_SESSIONS))
    log = write(cli.directory / "log.jsonl", *chats)
    process = processes.start(
        "import",
        log,
        "--store",
        "sqlite:///a.db",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    database = cli.directory / "a.db-wal"

    async def has_begun():
        assert process.poll() is None
        return size(database) > 200_000

    asyncio.run(until(has_begun, 30))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert err.decode().splitlines()[1:] == ["interrupted"]
    found = cli.json("import", log, "--store", "sqlite:///a.db")["total"]
    assert found["sessions"] + found["known"] == MANY_SESSIONS
    assert found["known"] > 0
