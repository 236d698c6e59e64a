"""`aiecs stats`: what a store holds, once or again and again with rates."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, NamedTuple

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aiecs.cli.render import Output, one_line
from aiecs.cli.running import JsonOption, StoreOption, open_engine, run
from aiecs.core.errors import StoreError
from aiecs.domain.context import ContextEngine

_RATED = ("total_messages", "total_sessions", "total_checkpoints")
_LEAST = 0.1
_WARM = 5


class _Look(NamedTuple):
    at: float
    metrics: dict[str, Any]


def stats(
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look again and again, until it is interrupted.")
    ] = False,
    every: Annotated[float, typer.Option(min=_LEAST, max=3600.0, help="Seconds between.")] = 2.0,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show sessions, messages, checkpoints, memory and how fast the store answers.

    With --watch also how many come in each second, from all processes together; in a pipe, and with
    --json, each look is one line.
    """
    output = Output(as_json=as_json)
    run(_stats(output, store, every if watch else None), output)


async def _stats(output: Output, store: str | None, every: float | None) -> None:
    async with open_engine(store, output, must_exist=True, ships=False) as (engine, target):
        for _ in range(_WARM):  # so that there is something to tell of how fast it answers
            await engine.get_metrics()
        looks = [await _look(engine)]
        if every is None:
            if output.as_json:
                output.json({"store": target.shown, **looks[0].metrics})
            else:
                output.table(("what", "value"), _rows(looks))
        elif output.interactive and not output.as_json:
            await _live(output, engine, looks, every, target.shown)
        else:
            await _lines(output, engine, looks, every)


async def _look(engine: ContextEngine) -> _Look:
    return _Look(time.monotonic(), await engine.get_metrics())


async def _live(
    output: Output, engine: ContextEngine, looks: list[_Look], every: float, shown: str
) -> None:
    with Live(_table(shown, looks), console=output.console, auto_refresh=False) as live:
        while True:
            await _look_again(output, engine, looks, every)
            live.update(_table(shown, looks), refresh=True)


async def _lines(output: Output, engine: ContextEngine, looks: list[_Look], every: float) -> None:
    while True:
        rates = _rates(looks)
        if output.as_json:
            output.json({**looks[-1].metrics, "rates": rates})
        else:
            output.line("\t".join(f"{what}={value}" for what, value in _rows(looks)))
        output.flush()
        await _look_again(output, engine, looks, every)


async def _look_again(
    output: Output, engine: ContextEngine, looks: list[_Look], every: float
) -> None:
    """The next look; while the store does not answer, that is said, and it is tried again."""
    while True:
        await asyncio.sleep(every)
        try:
            looks[:] = [looks[-1], await _look(engine)]
        except StoreError as error:
            output.remark(f"no answer: {error}", "red")
        else:
            return


def _rates(looks: list[_Look]) -> dict[str, float]:
    """How many came in each second between two looks; zeros before the second one."""
    first, last = looks[0], looks[-1]
    seconds = last.at - first.at
    if not seconds:
        return dict.fromkeys(_RATED, 0.0)
    return {name: round((last.metrics[name] - first.metrics[name]) / seconds, 1) for name in _RATED}


def _table(shown: str, looks: list[_Look]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, title=Text(one_line(shown)))
    for what, value in _rows(looks):
        table.add_row(Text(what), Text(value))
    return table


def _rows(looks: list[_Look]) -> list[tuple[str, str]]:
    found, rates = looks[-1].metrics, _rates(looks)
    speed = found["storage_performance"]
    rows = [("active sessions", f"{found['active_sessions']:,}")]
    for name in ("sessions", "messages", "checkpoints"):
        each = f", {rates[f'total_{name}']:,.1f}/s" if len(looks) > 1 else ""
        ever = f"{found[f'stored_{name}']:,} ({found[f'total_{name}']:,} ever{each})"
        rows.append((name, ever))
    rows += [
        ("room taken", f"{found['memory_usage']:.1%}"),
        ("answers in", f"p50 {speed['p50'] * 1000:.2f} ms, p99 {speed['p99'] * 1000:.2f} ms"),
        ("breaker", found["breaker"]),
    ]
    if found["archive"]:
        state = found["archive"]
        waits = f"{state['waiting']:,} events wait, the oldest for {state['oldest']:.0f} s"
        rows.append(("archive", f"{waits}; {state['dead']:,} set aside"))
    return rows
