"""A process of its own with an engine, for tests of several processes on one store.

    python worker.py URL PREFIX JOB ARGUMENT...

Prints one line per event, so that a test can wait for it instead of sleeping.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from aiecs.core.interface.store import Batch, Call, Put, Store
from aiecs.domain.context import ContextEngine

DEADLINE = 10.0


def open_store(url: str, prefix: str) -> Store:
    if url.startswith("sqlite"):
        from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore

        return SqliteStore.from_url(f"{url}?timeout={DEADLINE}")
    from aiecs.infrastructure.persistence.stores.redis import RedisStore

    return RedisStore.from_url(url, prefix=prefix, timeout=DEADLINE)


class StopsBeforeCreating:
    """A store that never sends the batch that creates a session: there the process is killed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def apply(self, batch: Batch | Call, *, timeout: float | None = None) -> Any:
        if isinstance(batch, Batch) and any(
            type(op) is Put and "~i" in op.fields for op in batch.ops
        ):
            say("announced")
            await asyncio.Event().wait()
        return await self._store.apply(batch, timeout=timeout)


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - the test reads it


async def increment(engine: ContextEngine, session_id: str, times: str) -> None:
    await asyncio.gather(*(
        engine.update_session(session_id, increment_requests=True) for _ in range(int(times))
    ))  # fmt: skip
    say("done")


async def say_for_ever(engine: ContextEngine, session_id: str) -> None:
    number = 0
    while True:
        await engine.add_conversation_message(session_id, "user", f"m{number}")
        say("kept", number)
        number += 1


async def create(engine: ContextEngine, session_id: str, user_id: str) -> None:
    await engine.create_session(session_id, user_id)


JOBS: dict[str, Any] = {"increment": increment, "say": say_for_ever, "create": create}


async def main(url: str, prefix: str, job: str, *arguments: str) -> None:
    store: Any = open_store(url, prefix)
    if job == "create":
        store = StopsBeforeCreating(store)
    async with ContextEngine(store=store, operation_timeout=DEADLINE) as engine:
        await JOBS[job](engine, *arguments)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
