"""`aiecs import`: chat logs and exports into a store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from aiecs.cli.checkpoints import import_checkpoints
from aiecs.cli.formats.errors import FormatError
from aiecs.cli.formats.source import Source
from aiecs.cli.formats.values import Defaults
from aiecs.cli.importing import Advance, Imported, ignore_progress, import_file, open_source, total
from aiecs.cli.render import Output, one_line, plural
from aiecs.cli.running import FAILED, JsonOption, StoreOption, open_engine, run
from aiecs.cli.target import Target
from aiecs.core.clock import utcnow
from aiecs.domain.context.transfer import Counts

_LISTED = 1000


class _Format(StrEnum):
    auto = "auto"
    openai = "openai"
    sharegpt = "sharegpt"
    aiecs = "aiecs"


class _Kind(StrEnum):
    langgraph = "langgraph"


def import_(
    *,
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILE...", help="The files; - is standard input.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="URL", help="Instead of files: where checkpoints are kept."),
    ] = None,
    kind: Annotated[
        _Kind | None, typer.Option("--kind", help="Who keeps them there: LangGraph's own savers.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE:CLASS", help="A type that checkpoints may hold; repeatable."),
    ] = None,
    user: Annotated[str, typer.Option(help="Whose the conversations are that do not say so.")] = "",
    format_name: Annotated[
        _Format, typer.Option("--format", help="What the files hold, if it is not recognised.")
    ] = _Format.auto,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first mistake.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import chat logs (OpenAI, ShareGPT) or exports, or the checkpoints of another saver.

    A mistake in a file is reported with its line and the rest goes on; the exit code is 1 then.
    Importing the same again changes nothing. With --from sqlite:///file.db --kind langgraph all
    threads there are copied and compared with what was stored; a type that is not allowed ends it.
    """
    output = Output(as_json=as_json)
    if source is not None or kind is not None or allow:
        if files or source is None or kind is None:
            message = "--from URL and --kind langgraph belong together, without files"
            raise typer.BadParameter(message)
        run(import_checkpoints(output, source, allow or [], store), output)
    if not files:
        raise typer.BadParameter("name files, or --from URL --kind langgraph")
    job = _Job(output, user, format_name, strict=strict)
    run(job.run(files, store), output)


class _Stop(Exception):  # noqa: N818 - ends a strict import
    pass


class _Job:
    """Imports files one after the other and remembers what went wrong."""

    def __init__(self, output: Output, user: str, format_name: _Format, *, strict: bool) -> None:
        self._output = output
        self._defaults = Defaults(utcnow(), user)
        self._format: Any = None if format_name is _Format.auto else format_name.value
        self._strict = strict
        self._mistakes = 0
        self._listed: list[dict[str, Any]] = []
        self._done: list[Imported] = []

    async def run(self, files: list[str], store: str | None) -> int:
        """The whole command; its exit code."""
        async with open_engine(store, self._output, bulk=True) as (engine, target):
            try:
                for file in files:
                    await self._file(engine, file)
            except _Stop:
                self._output.remark("stopped at the first mistake (--strict)")
        self._report(target)
        return FAILED if self._mistakes else 0

    async def _file(self, engine: Any, path: str) -> None:
        with open_source(path) as source, self._progress(source) as advance:
            self._done.append(
                await import_file(
                    engine,
                    source,
                    self._defaults,
                    self._tell,
                    format_name=self._format,
                    advance=advance,
                )
            )

    def _tell(self, error: FormatError) -> None:
        self._mistakes += 1
        if len(self._listed) < _LISTED:
            found = {"file": error.file, "line": error.line, "reason": error.reason}
            self._listed.append(found)
        self._output.error(str(error))
        if self._strict:
            raise _Stop

    @contextmanager
    def _progress(self, source: Source) -> Iterator[Advance]:
        if not self._output.shows_progress:
            yield ignore_progress
            return
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        console = self._output.progress_console
        with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
            task = bar.add_task(one_line(source.name), total=source.size)
            yield lambda position: bar.update(task, completed=position)

    # --- the report -----------------------------------------------------------------------------

    def _report(self, target: Target) -> None:
        counts = total(self._done)
        if self._output.as_json:
            self._output.json(self._json(target, counts))
            return
        self._output.line(_summary(counts, self._mistakes))
        something = counts.sessions or counts.extended or counts.known
        if something and target.scheme != "memory":  # which serves to check files
            self._output.line(f"open it: async with {target.python} as engine: ...")

    def _json(self, target: Target, counts: Counts) -> dict[str, Any]:
        return {
            "store": target.shown,
            "python": target.python,
            "files": [
                {"file": one.file, "format": one.format, **one.counts.to_dict()}
                for one in self._done
            ],
            "total": counts.to_dict(),
            "mistakes": self._mistakes,
            "errors": self._listed,
        }


def _summary(counts: Counts, mistakes: int) -> str:
    parts = [f"imported {plural(counts.sessions, 'session')}"]
    if counts.extended:
        parts.append(f"continued {counts.extended:,}")
    if counts.known:
        parts.append(f"{counts.known:,} were there already")
    held = [
        plural(count, noun)
        for count, noun in (
            (counts.messages, "message"),
            (counts.task_contexts, "task context"),
            (counts.conversations, "agent conversation"),
            (counts.agent_messages, "agent message"),
            (counts.checkpoints, "checkpoint"),
            (counts.writes, "write"),
        )
        if count
    ]
    text = ", ".join(parts) + (f"; with {', '.join(held)}" if held else "")
    if counts.skipped:
        text += f"; {plural(counts.skipped, 'record')} left out with their sessions"
    return text + (f"; {plural(mistakes, 'mistake')}" if mistakes else "")
