"""`aiecs archive ship`: a process of its own that brings what waits into the archive."""

from __future__ import annotations

import asyncio
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Annotated

import typer
from rich.text import Text

from aiecs.cli.commands.archive.opening import (
    ArchiveOption,
    choose_archive,
    open_store,
)
from aiecs.cli.render import Output, one_line, plural
from aiecs.cli.running import FAILED, JsonOption, StoreOption, quieten_the_driver, run
from aiecs.core.archiving import ArchiveState
from aiecs.core.errors import ArchiveRowError, StoreError
from aiecs.core.events import Events
from aiecs.core.interface.finding import size
from aiecs.core.settings import load_settings
from aiecs.infrastructure.persistence.archive.opening import archiving_to
from aiecs.infrastructure.persistence.archive.service import LINGER, ArchiveService

_ENDING_SECONDS = 20.0
_LOOK_EVERY, _TELL_EVERY = 0.25, 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Tell = Callable[[str], None]


def ship(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="End when all that waits now is in; 1 if it is not.")
    ] = False,
    linger: Annotated[
        float, typer.Option(min=0.01, max=60.0, help="Seconds in which events gather.")
    ] = LINGER,
    store: StoreOption = None,
    archive: ArchiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring what waits in a store into the archive, until SIGINT or SIGTERM.

    Then what is under way is finished; a second signal ends it at once. Any number of these
    processes, and of engines that ship, share the work.
    """
    output = Output(as_json=as_json)
    run(_ship(output, store, archive, once=once, linger=linger), output)


async def _ship(
    output: Output, store: str | None, option: str | None, *, once: bool, linger: float
) -> int:
    url, source = choose_archive(option)
    settings = replace(load_settings(), archive_ship=True)
    quieten_the_driver()
    async with open_store(store, output) as opened:
        service = archiving_to(url, opened, settings, linger=linger)
        output.remark(f"archive: {service.name} ({source})")
        with _signalled() as told:
            service.start(Events())
            try:
                missing = await _bring(service, told, output, once=once)
            finally:
                await service.close(_ENDING_SECONDS, drain=once and not told.is_set())
        return _report(output, await service.state(), missing, once=once)


async def _bring(
    service: ArchiveService, told: asyncio.Event, output: Output, *, once: bool
) -> str:
    """Until it is told to end, or with `once` all is in; why not all is, "" when all is."""
    ended = asyncio.create_task(told.wait())
    works = [ended, asyncio.create_task(_watch(service, output, until_stuck=once))]
    if once:
        works.append(asyncio.create_task(_all_in(service)))
    try:
        done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
        return "it was told to end" if ended in done else str(done.pop().result())
    finally:
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)


async def _all_in(service: ArchiveService) -> str:
    try:
        await service.barrier(None, math.inf)
    except ArchiveRowError as error:
        return str(error)
    return ""


async def _watch(service: ArchiveService, output: Output, *, until_stuck: bool) -> str:
    """Tell how it goes; with `until_stuck`, why it does not, once the archive takes nothing."""
    with _telling(output) as tell:
        while True:
            try:
                state = await service.state()
            except StoreError as error:
                tell(f"{type(error).__name__}: {error}")
            else:
                tell(_said(state))
                if until_stuck and (state.alarm or state.breaker == "open"):
                    return state.alarm or state.trouble
            await asyncio.sleep(_LOOK_EVERY)


def _said(state: ArchiveState) -> str:
    wrong = state.alarm or state.trouble
    return (
        f"shipped {state.shipped:,}, waiting {state.waiting:,} ({size(state.size)}), "
        f"dead {state.dead:,}, breaker {state.breaker}"
        f"{', ALARM' if state.alarm else ''}{wrong and f': {wrong}'}"
    )


@contextmanager
def _telling(output: Output) -> Iterator[Tell]:
    """A line that changes on a terminal; else a line now and then, when it has changed."""
    if output.shows_progress:
        with output.progress_console.status("") as line:
            yield lambda text: line.update(Text(one_line(text)))
        return
    said, due = "", 0.0

    def tell(text: str) -> None:
        nonlocal said, due
        if text != said and time.monotonic() >= due:
            output.remark(text)
            said, due = text, time.monotonic() + _TELL_EVERY

    yield tell


@contextmanager
def _signalled() -> Iterator[asyncio.Event]:
    """An event that the first signal sets; the second one has its usual effect."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()

    def heed() -> None:
        told.set()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    with suppress(NotImplementedError):  # Windows: Ctrl-C interrupts, what is left is found again
        for number in _SIGNALS:
            loop.add_signal_handler(number, heed)
    try:
        yield told
    finally:
        if not told.is_set():
            with suppress(NotImplementedError):
                for number in _SIGNALS:
                    loop.remove_signal_handler(number)


def _report(output: Output, state: ArchiveState, missing: str, *, once: bool) -> int:
    if output.as_json:
        counts = {name: getattr(state, name) for name in ("shipped", "waiting", "dead")}
        output.json({**counts, **({"all_in": not missing} if once else {})})
    else:
        output.line(
            f"shipped {plural(state.shipped, 'event')}; {state.waiting:,} waiting, "
            f"{state.dead:,} dead"
        )
    if once and missing:
        known = state.waiting or state.dead
        said = "not all is in" if known else "whether all is in cannot be told"
        output.error(f"{said}: {missing}")
        return FAILED
    if state.waiting and (wrong := state.alarm or state.trouble):
        output.remark(f"what waits is not in because: {wrong}")
    return 0
