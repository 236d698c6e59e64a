"""`aiecs cleanup` and `aiecs recount`."""

from __future__ import annotations

from typing import Annotated

import typer

from aiecs.cli.render import Output, plural
from aiecs.cli.running import JsonOption, StoreOption, open_engine, run
from aiecs.domain.context import DeletionReport

_NOUNS = {
    "sessions": "session",
    "messages": "message",
    "task_contexts": "task context",
    "conversations": "agent conversation",
    "threads": "thread",
    "checkpoints": "checkpoint",
    "writes": "write",
    "items": "item",
    "archived_rows": "archived row",
}


def cleanup(
    *,
    max_idle_hours: Annotated[
        float | None,
        typer.Option(help="Remove sessions and threads without a write for so many hours."),
    ] = None,
    max_message_age_hours: Annotated[
        float | None, typer.Option(help="Remove older messages of sessions that stay.")
    ] = None,
    max_messages: Annotated[
        int | None, typer.Option(help="Keep only so many of a session's newest messages.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove what has expired, and what need not be kept.

    It can be interrupted and called again at any time.
    """
    output = Output(as_json=as_json)
    work = _cleanup(
        output,
        store,
        max_idle_hours,
        max_message_age_hours,
        max_messages,
        dry_run=dry_run,
    )
    run(work, output)


async def _cleanup(
    output: Output,
    store: str | None,
    idle: float | None,
    age: float | None,
    messages: int | None,
    *,
    dry_run: bool,
) -> None:
    async with open_engine(store, output, must_exist=True, bulk=True) as (engine, target):
        with output.working("looking through the store" if dry_run else "cleaning up"):
            report = await engine.apply_retention(
                max_idle_hours=idle,
                max_message_age_hours=age,
                max_messages=messages,
                dry_run=dry_run,
            )
    if output.as_json:
        output.json({"store": target.shown, "dry_run": dry_run, **report.to_dict()})
    else:
        output.line(f"{'would remove' if dry_run else 'removed'} {told(report)}")


def told(report: DeletionReport) -> str:
    """What was removed, in words."""
    counts = report.to_dict()
    parts = [plural(counts[name], noun) for name, noun in _NOUNS.items() if counts[name]]
    return ", ".join(parts) or "nothing"


def recount(*, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Count everything anew, put the totals right, and say how far they were off."""
    output = Output(as_json=as_json)
    run(_recount(output, store), output)


async def _recount(output: Output, store: str | None) -> None:
    async with open_engine(store, output, must_exist=True, bulk=True, ships=False) as (
        engine,
        target,
    ):
        with output.working("counting"):
            found = await engine.recount()
    if output.as_json:
        output.json({"store": target.shown, **found.to_dict()})
        return
    names = ("sessions", "ended", "messages", "checkpoints")
    output.line(", ".join(f"{name} {getattr(found, name):,}" for name in names))
    off = ", ".join(f"{name} {count:+,}" for name, count in found.drift.items())
    output.line(f"put right: {off}" if off else "the totals were right")
