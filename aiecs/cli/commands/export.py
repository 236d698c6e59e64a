"""`aiecs export`: sessions as lines of JSON that `aiecs import` reads back without loss."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from aiecs.cli.formats import export as lines
from aiecs.cli.render import Output, plural
from aiecs.cli.running import FAILED, CommandError, JsonOption, StoreOption, open_engine, run
from aiecs.core.clock import utcnow
from aiecs.core.errors import ConflictError
from aiecs.domain.context.transfer import Record, exporter_of

_NOUNS = {
    "SessionRecord": "session",
    "MessageRecord": "message",
    "TaskContextRecord": "task context",
    "ConversationRecord": "agent conversation",
    "AgentMessageRecord": "agent message",
    "CheckpointRecord": "checkpoint",
    "WritesRecord": "write",
}


def export(
    *,
    session: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SESSION]...", help="Only these sessions; all without it."),
    ] = None,
    file: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to; - is standard output.")
    ] = "-",
    user: Annotated[str | None, typer.Option(help="Only sessions of this user.")] = None,
    status: Annotated[str | None, typer.Option(help="Only sessions of this status.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export sessions with everything in them, one JSON object per line.

    A file appears only when it is complete. With --json a summary is printed besides.
    """
    output = Output(as_json=as_json)
    job = _Job(output, session or [], user, status)
    run(job.run(file, store), output)


class _Job:
    def __init__(
        self, output: Output, sessions: list[str], user: str | None, status: str | None
    ) -> None:
        self._output = output
        self._sessions = sessions
        self._user = user
        self._status = status
        self._counts: Counter[str] = Counter()
        self._failed = 0
        self._of_graphs = 0

    async def run(self, file: str, store: str | None) -> int:
        """The whole command; its exit code."""
        async with open_engine(store, self._output, must_exist=True, bulk=True) as (engine, target):
            for session_id in self._sessions:
                if await engine.get_session(session_id) is None:
                    raise CommandError(
                        f"there is no session {session_id!r} in {target.shown}; "
                        "`aiecs sessions` lists them"
                    )
            with _writing(file) as stream:
                stream.write(lines.header_line(utcnow()))
                async for record in self._records(engine):
                    stream.write(lines.record_line(record))
                    self._counts[type(record).__name__] += 1
                stream.write(lines.end_line(self._counts.total()))
            corrupt = exporter_of(engine).corrupt
        self._report(file, target.shown, corrupt)
        return FAILED if self._failed or corrupt else 0

    async def _records(self, engine: Any) -> AsyncIterator[Record]:
        exporter = exporter_of(engine)
        async for session_id in self._session_ids(engine):
            try:
                async for record in exporter.session(session_id):
                    yield record
            except ConflictError as error:
                self._failed += 1
                self._output.error(str(error))
        if not (self._sessions or self._user or self._status):
            async for record in exporter.loose_threads():
                yield record
        self._of_graphs = exporter.passed_over

    async def _session_ids(self, engine: Any) -> AsyncIterator[str]:
        for session_id in dict.fromkeys(self._sessions):
            yield session_id
        if not self._sessions:
            async for session in engine.iter_sessions(self._user, self._status):
                yield session.session_id

    def _report(self, file: str, shown: str, corrupt: int) -> None:
        found = {noun: self._counts[name] for name, noun in _NOUNS.items() if self._counts[name]}
        if corrupt:
            self._output.error(
                f"{plural(corrupt, 'record')} could not be decoded and had to be left out"
            )
        if self._of_graphs:
            left = plural(self._of_graphs, "checkpoint")
            self._output.remark(f"left out {left} of graphs: this format does not hold them")
        if self._output.as_json:
            counts = {noun.replace(" ", "_") + "s": count for noun, count in found.items()}
            summary = {"store": shown, "file": file, **counts, "left_out": corrupt}
            summary["left_out_of_graphs"] = self._of_graphs
            self._output.json(summary, to_stderr=file == "-")
            return
        held = ", ".join(plural(count, noun) for noun, count in found.items()) or "nothing"
        self._output.remark(f"exported {held}" + ("" if file == "-" else f" to {file}"))


@contextmanager
def _writing(file: str) -> Iterator[TextIO]:
    """Standard output as UTF-8, or a file that takes its name when all is written."""
    if file == "-":
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", newline="\n")
        yield sys.stdout
        return
    path = Path(file).resolve()
    if path.exists() and not path.is_file():  # a device or a pipe: nothing to put in its place
        with path.open("w", encoding="utf-8", newline="\n") as stream:
            yield stream
        return
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as stream:
            yield stream
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
