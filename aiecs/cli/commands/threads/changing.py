"""`aiecs threads fork` and `prune`."""

from __future__ import annotations

from typing import Annotated

import typer

from aiecs.cli.render import Output, plural
from aiecs.cli.running import JsonOption, StoreOption, UsageError, open_engine, run
from aiecs.core.interface.finding import size


def fork(
    *,
    thread: Annotated[str, typer.Argument(help="The thread.")],
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint of its root namespace.")],
    to: Annotated[str, typer.Option(help="The new thread, which must not be there yet.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Begin a thread with a checkpoint of another, and with all that led to it.

    Bytes are copied, nothing is decoded; a graph goes on from there under the new thread's id.
    """
    output = Output(as_json=as_json)
    run(_fork(output, store, thread, checkpoint, to), output)


async def _fork(output: Output, store: str | None, thread: str, checkpoint: str, to: str) -> None:
    from aiecs.domain.context.graph_threads import threads_of

    async with open_engine(store, output, must_exist=True) as (engine, _):
        count = await threads_of(engine).fork(thread, checkpoint, to)
    if output.as_json:
        output.json({"thread": to, "checkpoints": count})
    else:
        output.line(f"{to}: {plural(count, 'checkpoint')}")


def prune(
    *,
    threads: Annotated[list[str] | None, typer.Argument(help="The threads.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All threads of the store.")] = False,
    keep: Annotated[int, typer.Option(min=1, help="So many of each namespace are kept.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep the latest checkpoints of threads, and what they are rebuilt from; say what came free.

    The archive, if there is one, keeps the others.
    """
    output = Output(as_json=as_json)
    run(_prune(output, store, threads or [], every=every, keep=keep, dry=dry_run), output)


async def _prune(
    output: Output, store: str | None, names: list[str], *, every: bool, keep: int, dry: bool
) -> None:
    from aiecs.domain.context.graph_threads import threads_of

    if bool(names) is every:
        raise UsageError("name threads, or give --all")
    rows = []
    async with open_engine(store, output, must_exist=True, bulk=True) as (engine, _):
        threads = threads_of(engine)
        wanted = [one async for one in threads.ids()] if every else names
        for thread in wanted:
            found = await threads.pruning.keep_latest(thread, keep, dry=dry, measure=True)
            rows.append((thread, found.checkpoints, found.bytes))
    checkpoints, freed = sum(row[1] for row in rows), sum(row[2] for row in rows)
    if output.as_json:
        listed = [dict(zip(("thread", "checkpoints", "bytes"), row, strict=True)) for row in rows]
        output.json({"dry_run": dry, "checkpoints": checkpoints, "bytes": freed, "threads": listed})
        return
    touched = [(thread, count, size(room)) for thread, count, room in rows if count]
    if touched:
        output.table(("thread", "checkpoints", "bytes"), touched)
    does = "would go" if dry else "removed"
    output.remark(f"{plural(checkpoints, 'checkpoint')} {does}, {size(freed)} of values with them")
