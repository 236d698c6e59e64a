"""`aiecs demo`: it kills a process, loses nothing, and leaves nothing."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from support.cli import SESSIONS, Calls, Cli, Processes, chat, write


def test_the_demo_shows_that_nothing_is_lost_and_leaves_nothing(processes: Processes):
    out, _ = processes("demo")

    assert "9 sessions, 98 messages, 6 messages between agents" in out
    assert "was killed" in out
    assert "identical before and after" in out
    assert [path.name for path in processes.directory.iterdir()] == []


def test_the_demo_keeps_what_it_is_told_to(cli: Calls, processes: Processes):
    found = processes.json("demo", "--keep")

    assert (found["same"], found["kept"]) == (True, True)
    assert next(step["step"] for step in found["steps"]) == "import"
    assert all(step["seconds"] >= 0 for step in found["steps"])
    assert len(cli.json("sessions", "--store", found["store"])["sessions"]) == SESSIONS + 1


def test_the_demo_spares_what_was_there(cli: Cli):
    store = ("--store", "sqlite:///a.db")
    write(cli.directory / "log.jsonl", chat("mine", "1"))
    cli("import", "log.jsonl", *store)

    assert cli.json("demo", *store)["same"] is True

    assert [s["session_id"] for s in cli.json("sessions", *store)["sessions"]] == ["mine"]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT between processes there")
def test_ctrl_c_ends_the_demo_and_leaves_nothing(processes: Processes):
    with processes.start("demo", stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while b"opens the store" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert err.decode() == "interrupted\n"
    assert list(processes.directory.iterdir()) == []
