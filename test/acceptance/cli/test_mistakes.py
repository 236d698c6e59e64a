"""What goes wrong is told in one line, with its place, and never with a secret."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from support.cli import CHATS, ROOT, Calls, Cli, chat, write

from aiecs.domain.context import ContextEngine


def test_a_bad_line_is_reported_and_the_rest_goes_on(cli: Cli):
    log = write(cli.directory / "log.jsonl", chat("a", "1"), '{"messages": [}', chat("b", "2"))

    out, err = cli("import", log, "--store", "sqlite:///a.db", code=1)

    assert f"error: {log}:2: is not JSON: Expecting value at column 15" in err
    assert "imported 2 sessions; with 2 messages; 1 mistake" in out


def test_strict_stops_at_the_first_mistake(cli: Cli):
    log = write(cli.directory / "log.jsonl", chat("a", "1"), "{}", chat("b", "2"), "{}")

    found = cli.json("import", log, "--strict", "--store", "sqlite:///a.db", code=1)

    assert [error["line"] for error in found["errors"]] == [2]
    assert found["mistakes"] == 1
    assert len(cli.json("sessions", "--store", "sqlite:///a.db")["sessions"]) <= 1


def test_other_content_under_the_same_id_is_refused(cli: Cli):
    first = write(cli.directory / "1.jsonl", chat("a", "one", "two"))
    longer = write(cli.directory / "2.jsonl", chat("a", "one", "two", "three"))
    other = write(cli.directory / "3.jsonl", chat("a", "one", "TWO"))
    store = ("--store", "sqlite:///a.db")
    cli("import", first, *store)

    assert "continued 1; with 1 message" in cli("import", longer, *store)[0]
    assert "1 were there already" in cli("import", first, *store)[0]
    _, err = cli("import", other, *store, code=1)
    assert f"{other}:1: session 'a' is there with other messages, from the 2nd on" in err
    history = cli.json("history", "a", *store)["messages"]
    assert [message["content"] for message in history] == ["one", "two", "three"]


def test_a_session_of_somebody_else_is_refused(cli: Cli):
    log = write(cli.directory / "log.jsonl", chat("a", "one"))
    store = ("--store", "sqlite:///a.db")
    cli("import", log, "--user", "ada", *store)

    _, err = cli("import", log, "--user", "eve", *store, code=1)

    assert "belongs to another user" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("import", "missing.jsonl"), "error: missing.jsonl: No such file or directory"),
        (("import", "."), "error: .: Is a directory"),
        (("sessions",), "error: nothing is stored yet"),
        (("history", "a"), "error: nothing is stored yet"),
        (("export",), "error: nothing is stored yet"),
        (("sessions", "--store", "sqlite:///no.db"), "error: no.db does not exist"),
        (("sessions", "--store", "redis://localhost:1"), "is it running"),
        (("import", str(CHATS), "--store", "redis://localhost:1"), "is it running"),
        (("demo", "--store", "memory://"), "error: the demo ends a process"),
    ],
)
def test_what_goes_wrong_is_one_line(cli: Cli, arguments: tuple[str, ...], message: str):
    out, err = cli(*arguments, code=1)

    assert out == ""
    last = [line for line in err.splitlines() if not line.startswith("store: ")]
    assert len(last) == 1
    assert message in last[0]
    assert not list(cli.directory.glob("*.db*"))


def test_there_is_no_falling_back(cli: Cli):
    for environment in ({"REDIS_HOST": "localhost", "REDIS_PORT": "1"}, {"REDIS_PORT": "1"}):
        _, err = cli("import", CHATS, code=1, **environment)
        assert "(the REDIS_* settings)" in err
        assert "is it running" in err
    assert list(cli.directory.iterdir()) == []


def test_an_unknown_session_is_told_from_an_empty_one(cli: Cli):
    cli("import", CHATS, "--store", "sqlite:///a.db")

    _, err = cli("history", "nobody", "--store", "sqlite:///a.db", code=1)

    assert "error: there is no session 'nobody' in sqlite:///a.db; `aiecs sessions` lists" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sessions", "--store", "nonsense"), "error: a store is named as scheme://..."),
        (("sessions", "--store", "mongodb://x"), "error: unknown store 'mongodb'://"),
    ],
)
def test_what_makes_no_sense_is_wrong_use(cli: Cli, arguments: tuple[str, ...], message: str):
    _, err = cli(*arguments, code=2)

    assert err.splitlines()[-1].startswith(message)


@pytest.mark.parametrize("arguments", [("nonsense",), ("history",), ("sessions", "--limit", "0")])
def test_wrong_use_has_exit_code_2(cli: Cli, arguments: tuple[str, ...]):
    _, err = cli(*arguments, code=2)

    assert "Error: " in err


def test_a_damaged_file_is_no_traceback(cli: Cli):
    (cli.directory / "a.db").write_bytes(b"not a database, but long enough to be looked at" * 100)

    _, err = cli("sessions", "--store", "sqlite:///a.db", code=1)

    assert err.count("error: ") == 1


def test_secrets_do_not_reach_the_screen(cli: Cli):
    url = "redis://ada:hunter2@localhost:1/0"

    for command in ("sessions", "doctor"):
        out, err = cli(command, "--store", url, code=1)
        assert "hunter2" not in out + err
        out, err = cli(command, code=1, AIECS_STORE_URL=url)
        assert "hunter2" not in out + err


def test_what_nobody_expected_is_one_line_too(cli: Calls, monkeypatch: pytest.MonkeyPatch):
    async def fail(*args: Any) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(ContextEngine, "initialize", fail)

    _, err = cli("sessions", "--store", "memory://", code=1)

    (line,) = err.splitlines()[1:]
    assert line.startswith("error: ZeroDivisionError: by zero; this should not happen")
    with pytest.raises(ZeroDivisionError):
        cli("sessions", "--store", "memory://", AIECS_DEBUG="1")


def test_without_the_extra_the_script_says_how_to_get_it(cli: Cli):
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('typer', 'rich'):\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from importlib import util\n"
        "found = util.find_spec\n"
        "util.find_spec = lambda n, *a: None if n in ('typer', 'rich') else found(n, *a)\n"
        "from aiecs.cli.entry import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )

    assert done.returncode == 1
    assert "pip install 'aiecs-context-engine[cli]'" in done.stderr
    assert "Traceback" not in done.stderr
