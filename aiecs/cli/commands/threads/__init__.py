"""`aiecs threads`: what graphs have stored."""

from __future__ import annotations

import typer

from aiecs.cli.commands.threads.changing import fork, prune
from aiecs.cli.commands.threads.looking import diff, history, list_

threads = typer.Typer(
    help="Look into the threads of graphs, branch off from them, and make room.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
threads.command("list", short_help="List threads.")(list_)
threads.command("history", short_help="Show a thread's checkpoints as a tree.")(history)
threads.command("diff", short_help="Compare the state of two checkpoints.")(diff)
threads.command("fork", short_help="Begin a thread from a checkpoint of another.")(fork)
threads.command("prune", short_help="Remove old checkpoints.")(prune)
