"""The commands under one roof."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aiecs.cli.about import DISTRIBUTION, version
from aiecs.cli.commands.archive import archive
from aiecs.cli.commands.cleanup import cleanup, recount
from aiecs.cli.commands.demo import demo
from aiecs.cli.commands.doctor import doctor
from aiecs.cli.commands.export import export
from aiecs.cli.commands.health import health
from aiecs.cli.commands.history import history
from aiecs.cli.commands.import_ import import_
from aiecs.cli.commands.migrate import migrate_
from aiecs.cli.commands.sessions import sessions
from aiecs.cli.commands.stats import stats
from aiecs.cli.commands.threads import threads
from aiecs.cli.commands.users import erase_user, export_user

app = typer.Typer(
    name="aiecs",
    help="Durable memory for AI applications: look into a store, move sessions in and out.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo", short_help="See it work, in two processes.")(demo)
app.command("import", short_help="Bring chat logs or exports in.")(import_)
app.command("export", short_help="Write sessions as lines of JSON.")(export)
app.command("sessions", short_help="List sessions.")(sessions)
app.command("history", short_help="Show a session's messages.")(history)
app.command("stats", short_help="Show what a store holds, and rates.")(stats)
app.command("health", short_help="Say whether a store is well.")(health)
app.command("cleanup", short_help="Remove what need not be kept.")(cleanup)
app.command("recount", short_help="Put the totals right.")(recount)
app.command("migrate", short_help="Move one store into another.")(migrate_)
app.command("export-user", short_help="Write all that is kept of a user.")(export_user)
app.command("erase-user", short_help="Remove all that is kept of a user.")(erase_user)
app.command("doctor", short_help="Examine store and installation.")(doctor)
app.add_typer(threads, name="threads", short_help="Look into threads of graphs.")
app.add_typer(archive, name="archive", short_help="Look into the archive.")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"{DISTRIBUTION} {version()}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", "-V", is_eager=True, callback=_print_version, help="Version."),
    ] = False,
) -> None:
    pass


def run_app() -> int:
    """Run the command that the arguments name; its exit code."""
    try:
        app()
    except SystemExit as end:
        code = end.code
        return code if isinstance(code, int) else int(code is not None)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
