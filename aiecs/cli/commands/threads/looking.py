"""`aiecs threads list`, `history` and `diff`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from aiecs.cli.render import Output, ago, one_line, stamp
from aiecs.cli.running import CommandError, JsonOption, StoreOption, open_engine, run
from aiecs.cli.tree import branches
from aiecs.core.clock import from_micros
from aiecs.core.interface.finding import size

_WIDEST = 160

Thread = Annotated[str, typer.Argument(help="The thread.")]


def list_(
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 20,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the threads in which graphs have stored checkpoints, the latest activity first."""
    output = Output(as_json=as_json)
    run(_list(output, store, limit), output)


async def _list(output: Output, store: str | None, limit: int) -> None:
    from aiecs.domain.context.graph_threads import threads_of

    async with open_engine(store, output, must_exist=True) as (engine, _):
        found = await threads_of(engine).listed(limit)
    if output.as_json:
        rows = [{**one._asdict(), "last": from_micros(one.last).isoformat()} for one in found]
        output.json({"threads": rows})
    elif found:
        rows_ = [
            (one.thread_id, one.checkpoints, one.session_id or "-", ago(from_micros(one.last)))
            for one in found
        ]
        output.table(("thread", "checkpoints", "session", "last activity"), rows_)
    else:
        output.remark("no graph has stored anything")


def history(
    *,
    thread: Thread,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a thread's checkpoints, the oldest first: forks branch off, namespaces stand apart."""
    output = Output(as_json=as_json)
    run(_history(output, store, thread), output)


async def _history(output: Output, store: str | None, thread: str) -> None:
    from aiecs.domain.context.graph_threads import threads_of
    from aiecs.domain.context.thread_state.overview import notes_of

    async with open_engine(store, output, must_exist=True) as (engine, _):
        notes = await notes_of(threads_of(engine).records, thread)
    if not notes:
        raise CommandError(f"no graph has stored anything in thread {thread!r}")
    if output.as_json:
        rows = [{**one._asdict(), "created": from_micros(one.created).isoformat()} for one in notes]
        output.json({"thread": thread, "checkpoints": rows})
        return
    for namespace in dict.fromkeys(one.namespace for one in notes):
        if namespace:
            output.line(f"\n{namespace}", "bold")
        here = {one.checkpoint_id: one for one in notes if one.namespace == namespace}
        parents = {name: one.parent for name, one in here.items()}
        for drawn, name in branches(parents):
            one = here[name]
            step = "" if one.step is None else f"step {one.step}"
            waiting = f", {one.writes} writes" if one.writes else ""
            told = f"{stamp(from_micros(one.created))}  {one.source} {step}, {size(one.size)}"
            output.line(f"{drawn}{name}  {told}{waiting}")


def diff(
    *,
    thread: Thread,
    before: Annotated[str, typer.Argument(help="A checkpoint.")],
    after: Annotated[str, typer.Argument(help="Another one.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how the state of one checkpoint differs from that of another, channel by channel.

    Objects are shown as the values that they consist of. State that was sealed is not shown.
    """
    output = Output(as_json=as_json)
    run(_diff(output, store, thread, (before, after)), output)


async def _diff(output: Output, store: str | None, thread: str, ids: tuple[str, str]) -> None:
    states = []
    async with open_engine(store, output, must_exist=True) as (engine, _):
        for name in ids:
            found = await engine.get_checkpoint(thread, name)
            if found is None:
                raise CommandError(f"thread {thread!r} has no checkpoint {name!r}")
            states.append(found["data"])
    changes = list(_changes(*states))
    if output.as_json:
        output.json({"thread": thread, "changes": changes})
        return
    for one in changes:
        output.line(f"{one['what']} {one['channel']}", "bold")
        for sign, values in (("-", one["before"]), ("+", one["after"])):
            for value in values:
                output.line(f"  {sign} {one_line(json.dumps(value, ensure_ascii=False))[:_WIDEST]}")
    if not changes:
        output.remark("the states are equal")


def _changes(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, Any]]:
    """Of lists only what is new at the end, or gone from there."""
    found = []
    for channel in sorted({*before, *after}):
        old, new = ([_shown(side[channel])] if channel in side else [] for side in (before, after))
        if old == new:
            continue
        what = "changed" if old and new else "removed" if old else "added"
        if old and new and isinstance(old[0], list) and isinstance(new[0], list):
            pairs = zip(old[0], new[0], strict=False)
            same = next(
                (n for n, (a, b) in enumerate(pairs) if a != b), min(len(old[0]), len(new[0]))
            )
            old, new = old[0][same:], new[0][same:]
        found.append({"channel": channel, "what": what, "before": old, "after": new})
    return found


def _shown(value: Any) -> Any:
    """A value as JSON can show it."""
    try:
        return json.loads(json.dumps(value, default=repr))
    except (TypeError, ValueError):  # keys that are no text
        return repr(value)
