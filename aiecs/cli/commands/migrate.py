"""`aiecs migrate`: everything of one store into another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from aiecs.cli.backlog import backlog_of
from aiecs.cli.opened import Looking, Unarchived, Working
from aiecs.cli.render import Output, plural
from aiecs.cli.running import FAILED, CommandError, JsonOption, check_there, run
from aiecs.cli.target import Target
from aiecs.core.settings import load_settings
from aiecs.domain.context import ContextEngine
from aiecs.domain.context.migration import MigrationReport, migrate

_PATIENCE = 30.0
_SHOWN = 20


class _Kind(StrEnum):
    context_engine = "context-engine"
    aiecs_2 = "aiecs-2"


def migrate_(
    *,
    source: Annotated[str, typer.Option("--from", metavar="URL", help="The store to read.")],
    to: Annotated[str, typer.Option("--to", metavar="URL", help="The store to write to.")],
    verify: Annotated[
        bool, typer.Option(help="Read everything again from both, and compare.")
    ] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Even while events of the source wait for the archive.")
    ] = False,
    kind: Annotated[
        _Kind, typer.Option("--kind", help="Who wrote the source: us, or PyPI's aiecs 2.2.0.")
    ] = _Kind.context_engine,
    as_json: JsonOption = False,
) -> None:
    """Move everything of one store into another: copied as bytes, and compared.

    It can be interrupted, or killed, at any time: the same command goes on with what is missing.
    Nothing is removed from the source. What cannot be moved is listed, and the exit code is 1 then.
    """
    output = Output(as_json=as_json)
    from_, target = Target(source, "--from"), Target(to, "--to")
    if source == to:
        raise typer.BadParameter("--from and --to name the same store")
    if "memory" in (from_.scheme, target.scheme):
        raise typer.BadParameter("a store in memory can be seen by its own process only")
    if kind is _Kind.aiecs_2:
        run(_from_aiecs_2(output, from_, target), output)
    run(_migrate(output, from_, target, verify=verify, force=force), output)


async def _from_aiecs_2(output: Output, from_: Target, to: Target) -> int:
    from aiecs.cli.commands.old_aiecs import OldData

    with _bars(output, "sessions") as tell:
        return await OldData(output).bring(
            from_, to, lambda done, all_: tell("sessions", done, all_)
        )


async def _migrate(
    output: Output, from_: Target, target: Target, *, verify: bool, force: bool
) -> int:
    source, to = from_.url, target.url
    check_there(from_)
    async with (await _source_kind(source))(store=source, operation_timeout=_PATIENCE) as old:
        if not force:
            await _check_backlog(old)
        async with Working(store=to, operation_timeout=_PATIENCE) as new:
            with _bars(output, *_PHASES) as tell:
                report = await migrate(old, new, verify=verify, on_progress=lambda one: tell(*one))
    if not (report.sessions or report.threads or report.namespaces):
        await _hint(output, from_)
    if output.as_json:
        output.json({"from": from_.shown, "to": target.shown, **report.to_dict()})
    else:
        _show(output, report)
    return 0 if report.complete else FAILED


async def _source_kind(source: str) -> type[ContextEngine]:
    """Who reads the source: somebody who knows the archive if the store was ever shipped there.

    Then the target, which has the same archive, need not tell it everything again.
    """
    from aiecs.infrastructure.persistence.archive.service import was_archived

    async with Unarchived(store=source, operation_timeout=_PATIENCE) as engine:
        return Looking if await was_archived(engine._on.runtime.store) else Unarchived


async def _check_backlog(old: ContextEngine) -> None:
    """What waits for the archive would stay behind."""
    settings = load_settings()
    if settings.archive_url is None or not isinstance(old, Looking):
        return
    state, _ = await backlog_of(old._on.runtime.store, settings.archive_url, settings)
    if state.waiting:
        raise CommandError(
            f"{plural(state.waiting, 'event')} of the source wait for the archive: bring them "
            "there first (`aiecs archive ship --once`), or say --force"
        )


async def _hint(output: Output, from_: Target) -> None:
    """Nothing was found: perhaps because somebody else wrote it."""
    if not from_.url.startswith(("redis://", "rediss://", "unix://")):
        return
    from aiecs.integrations.aiecs_2 import is_aiecs_2

    if await is_aiecs_2(from_.url):
        output.remark("aiecs 2.2.0 has written there: --kind aiecs-2 brings that")


@contextmanager
def _bars(output: Output, *phases: str) -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars, where somebody watches; what is called with phase, done and total."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console, disabled = output.progress_console, not output.shows_progress
    with Progress(*columns, console=console, transient=True, disable=disabled) as bar:
        tasks = {phase: bar.add_task(phase, total=None, visible=False) for phase in phases}

        def tell(phase: str, done: int, total: int) -> None:
            bar.update(tasks[phase], completed=done, total=total, visible=True)

        yield tell


_PHASES = ("moving", "comparing")


def _show(output: Output, report: MigrationReport) -> None:
    told = report.to_dict()
    for kind in ("sessions", "threads", "namespaces"):
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in told[kind].items())
        if counts:
            output.line(f"{kind}: {counts}")
    contents = ", ".join(
        plural(told[f"{noun}s"], noun) for noun in ("message", "checkpoint", "item")
    )
    output.line(f"with {contents}")
    if report.compared:
        output.line(f"compared: {plural(report.compared, 'group')}, the same in both")
    for trouble in report.troubles[:_SHOWN]:
        output.error(f"{trouble.kind} {trouble.name}: {trouble.reason}")
    if report.troubled > _SHOWN:
        output.error(f"and {report.troubled - _SHOWN:,} more: --json lists a thousand of them")
