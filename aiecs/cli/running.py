"""What every command has in common: options, the store, and how it ends when something fails."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from aiecs.cli.render import Output
from aiecs.cli.target import Target, choose_store
from aiecs.core.errors import (
    ArchiveAuthError,
    ArchiveInUseError,
    ArchiveUnavailableError,
    ContextEngineError,
    InvalidInputError,
    StoreAuthError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreTimeoutError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from aiecs.domain.context import ContextEngine

DEBUG = "AIECS_DEBUG"
FAILED = 1
WRONG_USE = 2
INTERRUPTED = 130
BROKEN_PIPE = 141
_SOMEBODY_WAITS = 5.0
_BULK_TRANSFER = 30.0
_ANY_ANSWER = 2.0

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="The store: sqlite:///file.db, redis://host:6379/1, ... Without it: "
        "AIECS_STORE_URL, the REDIS_* settings, or a file of your own.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


class CommandError(Exception):
    """A command cannot do what was asked for; the text says what to do."""


class UsageError(CommandError):
    """What was asked for makes no sense; the text says what would."""


def run(work: Coroutine[Any, Any, int | None], output: Output) -> NoReturn:
    """Run a command to its end and leave with its exit code; failures become one line."""
    try:
        with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
            code = runner.run(work) or 0
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        output.remark("interrupted")
        code = INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone: nothing to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = BROKEN_PIPE
    except (CommandError, ContextEngineError) as error:
        output.error(explain(error))
        code = WRONG_USE if isinstance(error, (UsageError, InvalidInputError)) else FAILED
    except OSError as error:
        output.error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        code = FAILED
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        name = type(error).__name__
        output.error(f"{name}: {error}; this should not happen, {DEBUG}=1 shows where it does")
        code = FAILED
    raise typer.Exit(code)


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """That of uvloop where the extra is installed, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def explain(error: Exception) -> str:
    """An error, and what to do about it."""
    for kind, advice in _ADVICE.items():
        if isinstance(error, kind):
            return f"{error}; {advice}" if advice else str(error)
    return str(error) or type(error).__name__


_ADVICE: dict[type[Exception], str] = {
    ArchiveAuthError: "check the user and the password in the archive's URL or in the settings",
    ArchiveInUseError: "",
    ArchiveUnavailableError: "is it running, and is the address right?",
    StoreAuthError: "check the user and the password in the store's URL or in the settings",
    StoreUnavailableError: "is it running, and is the address right? `aiecs doctor` looks closer",
    StoreTimeoutError: "`aiecs doctor` measures how fast it answers",
    StoreReadOnlyError: "name the primary server, or a file that you may write",
    StoreFullError: "make room, or raise the store's memory limit",
    StoreError: "`aiecs doctor` looks closer",
}


def is_asked() -> bool:
    """Whether somebody can answer a question."""
    return sys.stdin.isatty()


def agreed(question: str, warning: str) -> bool:
    """Whether the user says yes; `CommandError` with the warning when nobody can be asked."""
    if not is_asked():
        raise CommandError(f"{warning}: --yes says that this is meant")
    heeded = signal.signal(signal.SIGINT, signal.default_int_handler)  # the loop's would wait
    try:
        return typer.confirm(question, err=True)
    finally:
        signal.signal(signal.SIGINT, heeded)


def quieten_the_driver() -> None:
    """The archive's one remarks on every failure that a command is about to explain."""
    logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())


@asynccontextmanager
async def open_engine(
    store: str | None,
    output: Output,
    *,
    must_exist: bool = False,
    quiet: bool = False,
    bulk: bool = False,
    ships: bool = True,
) -> AsyncIterator[tuple[ContextEngine, Target]]:
    """The engine on the store that the user means; says on standard error which one that is.

    `must_exist`: do not make a database file only to find it empty. `quiet`: say nothing.
    `bulk`: be patient with each call, but only after the server has answered at all. `ships`:
    bring events into the archive, where one is configured; whoever only looks does not.
    """
    from aiecs.cli.opened import Looking, Working

    target = choose_store(store)
    if not quiet:
        output.remark(f"store: {target.shown} ({target.source})")
    if must_exist:
        check_there(target)
    if bulk and target.on_a_server:
        async with Looking(store=target.url, operation_timeout=_ANY_ANSWER):
            pass
    patience = _BULK_TRANSFER if bulk else _SOMEBODY_WAITS
    kind = Working if ships else Looking
    async with kind(store=target.url, operation_timeout=patience) as engine:
        yield engine, target


def check_there(target: Target) -> None:
    """`CommandError` for a database file that does not exist."""
    if target.file is not None and not target.file.exists():
        raise CommandError(_absent(target))


def _absent(target: Target) -> str:
    if target.source == "default":
        return (
            f"nothing is stored yet ({target.file} does not exist): `aiecs import FILE` begins "
            "it, `aiecs demo --keep` shows how it looks, --store names another store"
        )
    return f"{target.file} does not exist; check {target.source}"
