"""Processes that write with an archive, or ship, until they are killed.

    python archive_child.py STORE ARCHIVE

Each line on standard input names a job: it is done in a fork, which has imported everything before
it begins, and when that has ended, a line says so. Prints one line per event, so that a test can
wait for it instead of sleeping.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from typing import Any

from aiecs.core import registry
from aiecs.core.interface.store import Store
from aiecs.core.settings import load_settings
from aiecs.domain.context import ContextEngine
from aiecs.infrastructure.persistence.archive import gate, manifests, opening, outboxes, shipper
from aiecs.infrastructure.persistence.archive.barrier import wait_until_in
from aiecs.infrastructure.persistence.archive.clickhouse import ClickHouseArchive
from aiecs.infrastructure.persistence.archive.destination import ArchiveDestination

ENDED = "ended"
ROWS = 20
"""Events of a manifest, so that there are many of them."""


def say(*words: object) -> None:
    """One write, so that no kill leaves half a line."""
    os.write(1, f"{' '.join(map(str, words))}\n".encode())


async def produce(store: str, archive: str, name: str, tasks: str) -> None:
    """Write without end; a line for each acknowledged message: its session and its text."""
    opening.archiving_to.__kwdefaults__["linger"] = 0.02
    async with ContextEngine(store=store, archive=archive, operation_timeout=10) as engine:

        async def one(session: str) -> None:
            number = 0
            while True:
                await engine.add_conversation_message(session, "user", f"m{number}")
                say(session, f"m{number}")
                number += 1

        await asyncio.gather(*[one(f"{name}-{task}") for task in range(int(tasks))])


class Telling:
    """A store that says when a batch is about to be applied, and when it has been."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def apply(self, *batch: Any, **options: Any) -> Any:
        say("before")
        result = await self._store.apply(*batch, **options)
        say("after")
        return result


def stop_behind(owner: Any, name: str) -> None:
    """Let a method say when it is done, and never return."""
    method = getattr(owner, name)

    async def stopping(*arguments: Any, **options: Any) -> None:
        await method(*arguments, **options)
        say("there")
        await asyncio.Event().wait()

    setattr(owner, name, stopping)


STOPS = {
    "frozen": (manifests, "freeze"),
    "inserted": (ArchiveDestination, "deliver"),
    "noted": (manifests, "mark_sent"),
    "cut": (outboxes.Outboxes, "cut"),
}


async def ship(store: str, archive: str, until: str) -> None:
    """Ship until killed, saying when a point of `STOPS` is reached ("on": every call of the store).

    "end": until all that waits is in.
    """
    gate._FIRST_PACE = 0.01
    if until != "end":
        shipper.MOST_ROWS = ROWS
    if until in STOPS:
        stop_behind(*STOPS[until])
    opened = registry.open_store(store, load_settings())
    used: Any = Telling(opened) if until == "on" else opened
    destination = await opening.destination_in(ClickHouseArchive.from_url(archive), used)
    shipping = shipper.Shipper(used, destination, linger=0.01)
    running = asyncio.create_task(shipping.run())
    if until == "end":
        await wait_until_in(opened, None, 60.0, lambda _: shipping.hurry())
        shipping.stop()
    await running
    await destination.close()
    await opened.close()


async def warm_up() -> None:
    """Import what the jobs need."""
    importlib.import_module("aiecs.infrastructure.persistence.stores.redis")
    importlib.import_module("aiecs.infrastructure.persistence.stores.sqlite")
    async with ContextEngine(store="memory://", archive=sys.argv[2]) as engine:
        await engine.health_check()


JOBS = {"produce": produce, "ship": ship}


def work(job: str, *arguments: str) -> None:
    pid = os.fork()
    if pid == 0:
        asyncio.run(JOBS[job](*sys.argv[1:3], *arguments))
        os._exit(0)
    say("pid", pid)
    say(ENDED, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    asyncio.run(warm_up())
    for line in sys.stdin:
        work(*line.split())
