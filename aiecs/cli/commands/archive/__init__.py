"""`aiecs archive`: what can be done with the archive."""

from __future__ import annotations

import typer

from aiecs.cli.commands.archive.report import report

archive = typer.Typer(
    help="Look into the archive.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
archive.command("report", short_help="Count, sum and search what is archived.")(report)
