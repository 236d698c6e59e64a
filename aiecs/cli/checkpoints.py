"""Checkpoints of LangGraph's own savers into a store."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aiecs.cli.render import Output, plural
from aiecs.cli.running import CommandError, UsageError, open_engine
from aiecs.core.secret import safe_url


async def import_checkpoints(
    output: Output, source: str, allowed: list[str], store: str | None
) -> None:
    """Copy all threads of a saver, and compare what was stored with what is there."""
    types = [_type_of(text) for text in allowed]
    _check_there(source)
    output.remark(f"from: {safe_url(source)}")
    try:
        await _import(output, source, types, store)
    except sqlite3.DatabaseError as error:
        raise CommandError(f"{safe_url(source)} cannot be read: {error}") from None


async def _import(
    output: Output, source: str, types: list[tuple[str, str]], store: str | None
) -> None:
    from aiecs.integrations.langgraph import ContextEngineSaver
    from aiecs.integrations.langgraph.importing import import_threads, opened

    async with (
        open_engine(store, output, bulk=True) as (engine, target),
        opened(source, types) as old,
    ):
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        bar = Progress(
            *columns,
            TimeRemainingColumn(),
            console=output.progress_console,
            transient=True,
            disable=not output.shows_progress,
        )
        with bar:
            task = bar.add_task("checkpoints", total=None)
            saver = ContextEngineSaver(engine, allowed_types=types)
            done = await import_threads(
                old, saver, lambda now, all_: bar.update(task, completed=now, total=all_)
            )
    if output.as_json:
        output.json({"store": target.shown, **done._asdict()})
        return
    counts = (plural(done.threads, "thread"), plural(done.checkpoints, "checkpoint"))
    output.line(
        f"imported {', '.join(counts)} and {plural(done.writes, 'write')}, and compared them"
    )


def _type_of(text: str) -> tuple[str, str]:
    module, _, name = text.partition(":")
    if not module or not name:
        raise UsageError(f"--allow is MODULE:CLASS, got {text!r}")
    return module, name


def _check_there(source: str) -> None:
    """A saver would make the file only to find it empty."""
    scheme, _, rest = source.partition("://")
    if scheme == "sqlite" and not rest.removeprefix("/"):
        raise UsageError("--from sqlite:///FILE names a file")
    if scheme == "sqlite" and not Path(rest.removeprefix("/")).exists():
        raise CommandError(f"{rest.removeprefix('/')} does not exist; check --from")
