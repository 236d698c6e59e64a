"""The command line under test: in a process of its own, or called in this one."""

from __future__ import annotations

import abc
import io
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aiecs.cli.entry import main

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "aiecs" / "cli" / "sample"
CHATS, AGENTS = SAMPLE / "chats.jsonl", SAMPLE / "agents.jsonl"
SESSIONS = 8


class Cli(abc.ABC):
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

    @abc.abstractmethod
    def run(self, arguments: list[str], stdin: bytes, env: dict[str, str]) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""

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

    def answered(self, *arguments: str | Path, question: bytes, answer: bytes) -> tuple[int, str]:
        """On a terminal: what is typed at a question. The exit code, and all that was shown."""
        ours, theirs = os.openpty()
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
        shown = b""
        with self.start(*arguments, start_new_session=True, **streams) as process:
            os.close(theirs)
            while question not in shown:
                shown += os.read(ours, 4096)
            if answer:
                os.write(ours, answer)
            else:  # Ctrl-C, from a terminal that is not the suite's
                process.send_signal(signal.SIGINT)
            with suppress(OSError):  # Linux's way to say that nobody writes any more
                while more := os.read(ours, 4096):
                    shown += more
        os.close(ours)
        return process.returncode, shown.decode()

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


def write(path: Path, *lines: Any) -> Path:
    """A file of JSON lines; a text is a line as it is."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(text + "\n" for text in texts))
    return path


def chat(session_id: str, *contents: str) -> dict[str, Any]:
    """A line of a chat log."""
    messages = [{"role": "user", "content": content} for content in contents]
    return {"session_id": session_id, "messages": messages}


def content(export: str) -> list[Any]:
    """An export without its header, which says when it was made, in an order of its own."""
    return sorted(
        map(json.loads, export.splitlines()[1:]), key=lambda one: json.dumps(one, sort_keys=True)
    )
