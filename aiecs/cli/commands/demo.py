"""`aiecs demo`: what ContextEngine does, on real input, across two processes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast
from urllib.parse import quote

import typer

from aiecs.cli.commands.history import show_messages
from aiecs.cli.demo_worker import STORE
from aiecs.cli.render import Output, plural
from aiecs.cli.running import FAILED, CommandError, JsonOption, open_engine, run
from aiecs.cli.target import OPTION, Target
from aiecs.domain.context.models import ConversationMessage

Step = dict[str, Any]

_WORKER = "aiecs.cli.demo_worker"
_LINE = 1024 * 1024
_NAMES = {
    "import": "import a chat log",
    "session": "a session and its metrics",
    "history": "its latest messages",
    "window": "a context window for a token budget",
    "store": "store a task context and a checkpoint",
    "again": "is all of it still there?",
}


def demo(
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="URL", help="Where; a new SQLite file without it."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the data in place.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Import a chat log, look at it, kill the process, and find everything again."""
    output = Output(as_json=as_json)
    run(_Stage(output, keep=keep).play(store), output)


class _Process(NamedTuple):
    """What one of the two told before it ended."""

    pid: int
    steps: dict[str, Step]


class _Stage:
    """Starts the two processes and shows what they tell."""

    def __init__(self, output: Output, *, keep: bool) -> None:
        self._output = output
        self._keep = keep
        self._steps: list[Step] = []
        self._new: list[str] = []

    async def play(self, store: str | None) -> int:
        """The whole demo; its exit code."""
        start = time.perf_counter()
        directory = None if store else Path(tempfile.mkdtemp(prefix="aiecs-demo-"))
        target = _target(store, directory)
        if store:
            async with open_engine(store, self._output, quiet=True):
                pass  # a store that does not answer is told before anything begins
        self._output.line(f"ContextEngine on {target.shown}", "bold")
        try:
            first = await self._run("write", target, last="digest")
            self._note(f"process {first.pid} was killed: nothing flushed, nothing closed")
            second = await self._run("read", target, last="again")
            same = first.steps["digest"]["digest"] == second.steps["again"]["digest"]
        finally:
            await self._clear(target, directory)
        self._end(target, time.perf_counter() - start, same=same)
        return 0 if same else FAILED

    async def _run(self, part: str, target: Target, *, last: str) -> _Process:
        """Run one part in a process of its own."""
        command = [sys.executable, "-m", _WORKER, part]
        environment = {**os.environ, STORE: target.url}
        steps: dict[str, Step] = {}
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=asyncio.subprocess.PIPE, limit=_LINE
        )
        output = cast("asyncio.StreamReader", process.stdout)
        self._note(f"process {process.pid} opens the store")
        try:
            while line := await output.readline():
                step = json.loads(line)
                steps[step["step"]] = step
                self._show(step)
        except BaseException:
            with suppress(ProcessLookupError):
                process.kill()
            raise
        finally:
            code = await process.wait()
        if last not in steps:
            raise CommandError(f"the demo's process {process.pid} failed with {code}")
        return _Process(process.pid, steps)

    # --- what is seen ---------------------------------------------------------------------------

    def _note(self, text: str) -> None:
        self._output.line()
        self._output.line(f"-- {text}", "magenta")

    def _show(self, step: Step) -> None:
        if step["step"] == "import":
            self._new = step["new"]
        name = _NAMES.get(step["step"])
        if name is None:
            return
        self._steps.append(step)
        self._output.line()
        self._output.line(f"{len(self._steps)}. {name} ({step['seconds'] * 1000:.1f} ms)", "bold")
        _SHOW[step["step"]](self._output, step)

    async def _clear(self, target: Target, directory: Path | None) -> None:
        """Leave nothing behind that was not there before."""
        if self._keep:
            return
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)
        elif self._new:
            async with open_engine(target.url, self._output, quiet=True) as (engine, _):
                for session_id in self._new:
                    await engine.delete_session(session_id)

    def _end(self, target: Target, seconds: float, *, same: bool) -> None:
        verdict = "identical before and after" if same else "NOT the same before and after"
        if self._output.as_json:
            result = {"store": target.shown, "same": same, "kept": self._keep}
            self._output.json({**result, "seconds": round(seconds, 3), "steps": self._steps})
            return
        self._output.line()
        self._output.line(
            f"{verdict}; {seconds:.1f} s in all, most of it to start Python",
            "bold green" if same else "bold red",
        )
        if self._keep:
            self._output.line(f"kept: async with {target.python} as engine: ...")
        else:
            self._output.line("everything was removed again; --keep leaves it in place")


def _target(store: str | None, directory: Path | None) -> Target:
    if directory is not None:
        return Target(f"sqlite:///{quote(str(directory / 'demo.db'))}", OPTION)
    target = Target(str(store), OPTION)
    if target.scheme == "memory":
        raise CommandError("the demo ends a process, and memory:// with it; name another store")
    return target


# --- the steps ------------------------------------------------------------------------------------


def _show_import(output: Output, step: Step) -> None:
    counts = step["counts"]
    sessions = counts["sessions"] + counts["extended"] + counts["known"]
    there = ", all there already" if not counts["sessions"] else ""
    output.line(
        f"   {plural(sessions, 'session')}{there}; {plural(counts['messages'], 'message')}, "
        f"{plural(counts['agent_messages'], 'message')} between agents"
    )
    for error in step["errors"]:
        output.error(error)


def _show_session(output: Output, step: Step) -> None:
    session = step["session"]
    for name in ("session_id", "user_id", "status", "created_at", "last_activity"):
        output.line(f"   {name:<14}{session[name]}")
    work = f"{session['request_count']}, {session['total_processing_time']} s of processing"
    output.line(f"   {'requests':<14}{work}")
    tokens = f"{session.get('input_tokens', 0):,} in, {session.get('output_tokens', 0):,} out"
    output.line(f"   {'tokens':<14}{tokens}")
    output.line(f"   {'metadata':<14}{json.dumps(session.get('metadata', {}))}")


def _show_history(output: Output, step: Step) -> None:
    show_messages(output, [ConversationMessage.from_dict(one) for one in step["messages"]], 3)


def _show_window(output: Output, step: Step) -> None:
    output.line(
        f"   budget {step['budget']} tokens: the latest {plural(step['included'], 'message')} "
        f"({step['tokens']} tokens) fit, {step['dropped']} older ones stay in the store"
    )


def _show_store(output: Output, step: Step) -> None:
    output.line(f"   task context: {json.dumps(step['task_context'])}")
    output.line(f"   checkpoint plan-1: {json.dumps(step['checkpoint'])}")


def _show_again(output: Output, step: Step) -> None:
    output.line(
        f"   {plural(step['sessions'], 'session')}, {plural(step['messages'], 'message')}, "
        f"{plural(step['agent_messages'], 'message')} between agents"
    )
    output.line(f"   task context: {json.dumps(step['task_context'].get('metadata'))}")
    output.line(f"   checkpoint plan-1: {json.dumps(step['checkpoint']['data'])}")


_SHOW = {
    "import": _show_import,
    "session": _show_session,
    "history": _show_history,
    "window": _show_window,
    "store": _show_store,
    "again": _show_again,
}
