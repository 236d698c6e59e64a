"""`aiecs health`: how a store is, for people and for probes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aiecs.cli.render import Output
from aiecs.cli.running import JsonOption, StoreOption, open_engine, run
from aiecs.cli.target import choose_store
from aiecs.core.errors import StoreError

_CODES = {"healthy": 0, "degraded": 1, "unhealthy": 3}
_STYLES = {"healthy": "green", "degraded": "yellow", "unhealthy": "red"}


def health(
    *,
    exit_code: Annotated[
        bool,
        typer.Option("--exit-code", help="End with 0 when healthy, 1 degraded, 3 unhealthy."),
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether a store can be read and written to, and what somebody should look at."""
    output = Output(as_json=as_json)
    run(_health(output, store, exit_code=exit_code), output)


async def _health(output: Output, store: str | None, *, exit_code: bool) -> int:
    found = await _asked(output, store)
    if output.as_json:
        output.json(found)
    else:
        _show(output, found)
    return _CODES[found["status"]] if exit_code else 0


async def _asked(output: Output, store: str | None) -> dict[str, Any]:
    """The engine's answer; one of our own when the store does not even open."""
    try:
        async with open_engine(store, output, must_exist=True, ships=False) as (engine, target):
            return {"store": target.shown, **await engine.health_check()}
    except StoreError as error:
        issue = f"{type(error).__name__}: {error}"
        shown = choose_store(store).shown
        return {"store": shown, "status": "unhealthy", "issues": [issue], "warnings": []}


def _show(output: Output, found: dict[str, Any]) -> None:
    output.line(found["status"], _STYLES[found["status"]])
    for issue in found["issues"]:
        output.line(f"  issue: {issue}")
    for warning in found["warnings"]:
        output.line(f"  warning: {warning}")
    if "storage_backend" not in found:
        return
    server = f", {found['server_version']}" if found["server_version"] else ""
    output.line(f"  store: {found['storage_backend']}{server}")
    if found["active_sessions"] is not None:
        counts = f"{found['active_sessions']:,} active, {found['total_messages']:,} messages ever"
        output.line(f"  sessions: {counts}")
    output.line(f"  room: {found['memory_usage']:.0%} taken")
    if found["archive"]:
        state = found["archive"]
        output.line(f"  archive: {state['waiting']:,} events wait, {state['dead']:,} set aside")
