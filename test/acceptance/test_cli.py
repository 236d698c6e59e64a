"""The command line as people run it: a process of its own, on files and on a real server."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from support import servers as real

from aiecs.cli.entry import main
from aiecs.domain.context import ContextEngine

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "aiecs" / "cli" / "sample"
CHATS, AGENTS = SAMPLE / "chats.jsonl", SAMPLE / "agents.jsonl"
SESSIONS = 8
MESSAGES = 96


class Cli:
    """Runs the command line in a directory of its own, with a home of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            "HOME": str(directory),
            "XDG_DATA_HOME": str(directory / "data"),
            "TMPDIR": str(directory),
        }

    def __call__(
        self, *arguments: str | Path, code: int = 0, stdin: bytes = b"", **env: str
    ) -> tuple[str, str]:
        """Standard output and standard error; the exit code must be `code`."""
        returned, out, err = self.run(list(map(str, arguments)), stdin, env)
        assert returned == code, f"{returned}: {out}\n{err}"
        assert "Traceback" not in err
        return out, err

    def run(self, arguments: list[str], stdin: bytes, env: dict[str, str]) -> tuple[int, str, str]:
        raise NotImplementedError

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code)[0])


def heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Processes(Cli):
    """`python -m aiecs`, as people run it."""

    def start(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "aiecs", *map(str, arguments)]
        foreign = ("FORCE_COLOR", "COLUMNS")
        usual = {name: value for name, value in os.environ.items() if name not in foreign}
        environment = usual | self.environment | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        if sys.platform != "win32":  # a suite in the background hands down an ignored SIGINT
            options["preexec_fn"] = heed_interrupts
        return subprocess.Popen(command, cwd=self.directory, env=environment, **pipes | options)

    def run(self, arguments: list[str], stdin: bytes, env: dict[str, str]) -> tuple[int, str, str]:
        with self.start(*arguments, env=env) as process:
            out, err = process.communicate(stdin, timeout=100)
        return process.returncode, out.decode(), err.decode()


class Calls(Cli):
    """The same entry point, called in this process: a test of many commands stays quick."""

    def __init__(
        self,
        directory: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        super().__init__(directory)
        self.monkeypatch = monkeypatch
        self.capsys = capsys

    def run(self, arguments: list[str], stdin: bytes, env: dict[str, str]) -> tuple[int, str, str]:
        with self.monkeypatch.context() as patch:
            patch.chdir(self.directory)
            patch.setattr(sys, "argv", ["aiecs", *arguments])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            for name, value in (self.environment | env).items():
                patch.setenv(name, value)
            self.capsys.readouterr()
            code = main()
        return code, *self.capsys.readouterr()


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(tmp_path)


@pytest.fixture
def cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Calls:
    return Calls(tmp_path, monkeypatch, capsys)


def write(path: Path, *lines: Any) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(text + "\n" for text in texts))
    return path


def chat(session_id: str, *contents: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": content} for content in contents]
    return {"session_id": session_id, "messages": messages}


def content(export: str) -> list[Any]:
    """An export without its header, which says when it was made, in an order of its own."""
    return sorted(
        map(json.loads, export.splitlines()[1:]), key=lambda one: json.dumps(one, sort_keys=True)
    )


# --- there and back -------------------------------------------------------------------------------


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
    exported = cli("import", CHATS, "--store", "sqlite:///a.db")
    exported = cli("export", "--store", "sqlite:///a.db")
    summary = cli("import", "-", "--store", "sqlite:///b.db", stdin=exported[0].encode())

    assert "imported 8 sessions; with 96 messages" in summary[0]


# --- mistakes -------------------------------------------------------------------------------------


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
        (("sessions", "--store", "nonsense"), "error: a store is named as scheme://..."),
        (("sessions", "--store", "mongodb://x"), "error: unknown store 'mongodb'://"),
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


# --- output ---------------------------------------------------------------------------------------


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


MANY_SESSIONS = 6_000  # more than any machine imports between two looks at the file


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
    deadline = time.monotonic() + 30
    while not (database.exists() and database.stat().st_size > 200_000):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert err.decode().splitlines()[1:] == ["interrupted"]
    found = cli.json("import", log, "--store", "sqlite:///a.db")["total"]
    assert found["sessions"] + found["known"] == MANY_SESSIONS
    assert found["known"] > 0


# --- doctor, demo, and the rest -------------------------------------------------------------------


def test_doctor_on_a_file(cli: Cli):
    cli("import", CHATS)

    found = cli.json("doctor")

    assert found["ok"] is True
    checks = {one["check"]: one for one in found["findings"]}
    assert {"version", "settings", "name clash", "reachable", "latency", "persistence"} <= set(
        checks
    )
    assert all(one["level"] in ("ok", "warn") for one in found["findings"])
    assert (cli.directory / "data" / "aiecs" / "aiecs.db").exists()
    out, _ = cli("doctor")
    assert "ok   integrity" in out


def test_doctor_makes_no_file(cli: Cli):
    found = cli.json("doctor", "--store", "sqlite:///a.db")

    assert found["ok"] is True
    assert "not there yet" in next(o["detail"] for o in found["findings"] if o["check"] == "file")
    assert not (cli.directory / "a.db").exists()


def test_doctor_finds_a_damaged_file(cli: Cli):
    cli("import", CHATS, "--store", "sqlite:///a.db")
    file = cli.directory / "a.db"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    size = file.stat().st_size
    with file.open("r+b") as stream:
        stream.seek(size // 2)
        stream.write(b"\xff" * (size // 4))

    found = cli.json("doctor", "--store", "sqlite:///a.db", code=1)

    assert found["ok"] is False


def test_doctor_says_what_to_do_when_nobody_answers(cli: Cli):
    found = cli.json("doctor", "--store", "redis://localhost:1", code=1)

    failed = [one for one in found["findings"] if one["level"] == "fail"]
    assert [one["check"] for one in failed] == ["reachable"]
    assert "is it running" in failed[0]["advice"]


@pytest.mark.parametrize("name", real.names())
def test_a_server(cli: Cli, servers: real.Servers, name: str):
    server = servers.start(name)
    store = ("--store", server.url)

    cli("import", CHATS, AGENTS, *store)
    exported = cli("export", *store)[0]
    cli("import", "-", "--store", "sqlite:///a.db", stdin=exported.encode())
    assert content(cli("export", "--store", "sqlite:///a.db")[0]) == content(exported)

    checks = {one["check"]: one for one in cli.json("doctor", *store)["findings"]}
    assert checks["server"]["level"] == "ok"
    assert checks["role"]["level"] == "ok"
    assert checks["eviction"]["detail"].startswith("noeviction")
    assert checks["persistence"]["level"] in ("ok", "warn")

    assert cli.json("demo", *store)["same"] is True
    assert cli("export", *store)[0].count('"type":"session"') == SESSIONS + 1


@pytest.mark.parametrize("name", real.names())
def test_a_user_who_may_not_ask_the_server(cli: Cli, servers: real.Servers, name: str):
    server = servers.start(name)
    with redis.Redis.from_url(server.url) as client:
        client.acl_setuser(
            "app",
            enabled=True,
            passwords=["+hunter2"],
            keys=["*"],
            categories=["+@all", "-@admin", "-@dangerous"],
        )

    store = server.url.replace("://", "://app:hunter2@")
    checks = {one["check"]: one for one in cli.json("doctor", "--store", store)["findings"]}

    assert checks["reachable"]["level"] == "ok"
    assert checks["server"]["level"] == "note"
    assert "hunter2" not in json.dumps(checks)


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


def test_what_nobody_expected_is_one_line_too(cli: Calls, monkeypatch: pytest.MonkeyPatch):
    async def fail(*args: Any) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(ContextEngine, "initialize", fail)

    _, err = cli("sessions", "--store", "memory://", code=1)

    (line,) = err.splitlines()[1:]
    assert line.startswith("error: ZeroDivisionError: by zero; this should not happen")
    with pytest.raises(ZeroDivisionError):
        cli("sessions", "--store", "memory://", AIECS_DEBUG="1")


def test_version(processes: Processes):
    assert processes("--version")[0].startswith("aiecs-context-engine ")
    assert processes("sessions", "--help")[0].startswith("Usage: ")


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
