"""`aiecs archive status`: what waits for the archive, and how the archive is."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from aiecs.cli.backlog import backlog_of, issues_with
from aiecs.cli.commands.archive.opening import (
    ArchiveOption,
    choose_archive,
    open_store,
)
from aiecs.cli.render import Output
from aiecs.cli.running import FAILED, JsonOption, StoreOption, quieten_the_driver, run
from aiecs.core.archiving import ArchiveState
from aiecs.core.errors import ArchiveError, ArchiveInUseError, ArchiveUnavailableError
from aiecs.core.interface.finding import size
from aiecs.core.settings import load_settings
from aiecs.infrastructure.persistence.archive import leases
from aiecs.infrastructure.persistence.archive.looking import look_at
from aiecs.infrastructure.persistence.archive.url import Address, address_of

_OWN = ("shipped", "failures", "breaker", "trouble", "alarm")
"""What is of one process, and says nothing in this one, which ships nothing."""


def status(
    *, store: StoreOption = None, archive: ArchiveOption = None, as_json: JsonOption = False
) -> None:
    """Say what waits for the archive and whether it can be reached; changes nothing.

    The exit code is 1 when somebody should look at it.
    """
    output = Output(as_json=as_json)
    run(_status(output, store, archive), output)


async def _status(output: Output, store: str | None, option: str | None) -> int:
    url, source = choose_archive(option)
    address = address_of(url)
    quieten_the_driver()
    settings = replace(load_settings(), archive_ship=False)
    async with open_store(store, output) as opened:
        output.remark(f"archive: {address.name} ({source})")
        state, shipped = await backlog_of(opened, url, settings)
    state, note = await asyncio.to_thread(_with_what_is_there, address, state)
    issues = issues_with(state, shipped)
    _show(output, address.name, state, shipped, issues, note)
    return FAILED if issues else 0


def _with_what_is_there(address: Address, state: ArchiveState) -> tuple[ArchiveState, str]:
    """The state with what a look at the archive adds to it, and what is no trouble but unknown."""
    try:
        sight = look_at(address)
    except ArchiveInUseError:
        return state, "another process has this embedded archive open, so it was not looked into"
    except ArchiveUnavailableError as error:
        return state._replace(breaker="open", trouble=str(error)), ""
    except ArchiveError as error:
        return state._replace(alarm=str(error)), ""
    return state, "" if sight else f"{address.name} is not there yet; it will be made"


def _show(  # noqa: PLR0917 - what is shown
    output: Output, name: str, state: ArchiveState, shipped: int, issues: list[str], note: str
) -> None:
    told = {key: value for key, value in state._asdict().items() if key not in _OWN}
    if output.as_json:
        head = {"archive": name, "degraded": bool(issues), "issues": issues, "note": note}
        output.json({**head, **told, "groups_shipped": shipped, "groups": leases.GROUPS})
        return
    rows = [
        ("waiting", f"{state.waiting:,} ({size(state.size)}, {state.filling:.0%} of the room)"),
        ("oldest under way", f"{state.oldest:.0f} s"),
        ("dead", f"{state.dead:,}"),
        ("dropped", f"{state.dropped:,}"),
        ("shipped by somebody", f"{shipped} of {leases.GROUPS} groups"),
    ]
    for label, text in rows:
        output.line(f"{label:<21}{text}")
    for issue in issues:
        output.line(f"-> {issue}", "yellow")
    if note:
        output.line(f"note: {note}")
    elif not issues:
        output.line("all is well", "bold")
