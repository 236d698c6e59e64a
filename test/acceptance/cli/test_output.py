"""What reaches the screen or the pipe."""

from __future__ import annotations

import subprocess

import pytest
from support.cli import CHATS, SESSIONS, Calls, Cli, Processes, chat, write


def test_sessions_are_paged_and_filtered(cli: Cli):
    store = ("--store", "sqlite:///a.db")
    cli("import", CHATS, *store)

    seen, cursor = [], None
    while True:
        page = cli.json(
            "sessions", "--limit", "3", *store, *(["--cursor", cursor] if cursor else [])
        )
        seen += [session["session_id"] for session in page["sessions"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == SESSIONS
    assert len(cli.json("sessions", "--user", "ada", *store)["sessions"]) == 3
    assert cli.json("sessions", "--status", "failed", *store)["sessions"] == []
    out, err = cli("sessions", "--limit", "3", *store)
    assert "more: aiecs sessions --limit 3 --store sqlite:///a.db --cursor" in err
    assert len(out.splitlines()) == 4


def test_piped_output_has_neither_colour_nor_progress(cli: Calls, processes: Processes):
    store = ("--store", "sqlite:///a.db")

    texts = [
        *processes("import", CHATS, *store),
        *processes("sessions", *store),
        *processes("history", "demo-trip", *store),
        *processes("doctor", *store),
    ]

    assert not any("\x1b" in text or "\r" in text for text in texts)


def test_stored_text_cannot_steer_the_terminal(cli: Cli):
    evil = "\x1b]0;title\x07[bold red]x[/bold red]\x9b2J\u202etxt.exe"
    log = chat("a", evil)
    log["messages"][0] |= {"name": evil, "tool_calls": [{"function": {"name": evil}}]}
    write(cli.directory / "log.jsonl", log)
    cli("import", "log.jsonl", "--store", "sqlite:///a.db")

    out, _ = cli("history", "a", "--store", "sqlite:///a.db")

    assert out.count("[bold red]x[/bold red]") == 3
    assert not set(out) & {"\x1b", "\x07", "\x9b", "\u202e"}
    stored = cli.json("history", "a", "--store", "sqlite:///a.db")["messages"][0]["content"]
    assert stored == evil


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_locale_will_do(cli: Calls, processes: Processes, encoding: str):
    store = ("--store", "sqlite:///a.db")
    cli("import", CHATS, *store)
    process = processes.start(
        "history",
        "demo-zelt",
        *store,
        env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C", "COLUMNS": "20"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = process.communicate(timeout=60)

    assert process.returncode == 0, err
    assert "Zelt" in out.decode(encoding)


def test_a_reader_that_goes_away_is_no_error(cli: Calls, processes: Processes):
    write(cli.directory / "log.jsonl", *(chat(f"s{n}", "x" * 5000) for n in range(200)))
    cli("import", "log.jsonl", "--store", "sqlite:///a.db")
    process = processes.start("export", "--store", "sqlite:///a.db", stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read().decode()
    process.stderr.close()

    assert process.wait(60) in (1, 141)
    assert "Traceback" not in err
    assert "Exception" not in err


def test_version(processes: Processes):
    assert processes("--version")[0].startswith("aiecs-context-engine ")
    assert processes("sessions", "--help")[0].startswith("Usage: ")
