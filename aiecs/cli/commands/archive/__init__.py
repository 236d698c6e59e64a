"""`aiecs archive`: what can be done with the archive."""

from __future__ import annotations

import typer

from aiecs.cli.commands.archive import dead
from aiecs.cli.commands.archive.report import report
from aiecs.cli.commands.archive.ship import ship
from aiecs.cli.commands.archive.status import status

archive = typer.Typer(
    help="Look into the archive, and bring events there.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
archive.command("ship", short_help="Bring what waits in a store into the archive.")(ship)
archive.command("status", short_help="Say what waits, and how the archive is.")(status)
archive.command("report", short_help="Count, sum and search what is archived.")(report)

_dead = typer.Typer(
    help="Events that the archive does not take.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_dead.command("list", short_help="List them, without what they hold.")(dead.list_)
_dead.command("retry", short_help="Deliver them again.")(dead.retry)
_dead.command("drop", short_help="Remove them for good.")(dead.drop)
archive.add_typer(_dead, name="dead", short_help="Events that the archive does not take.")
