"""Writers beside a fault, and what has to be in the archive afterwards."""

from __future__ import annotations

import asyncio
import time

from aiecs import ContextEngine
from aiecs.core.errors import StoreError

TASKS, EACH = 8, 50
COUNTS = "SELECT count(), uniqExact(event_id) FROM context_conversations"
PATIENT = 40


class Storm:
    """Tasks that write, and how long the slowest writes took.

    `said` was acknowledged; `unknown` may have been written, or not.
    """

    def __init__(self, engine: ContextEngine) -> None:
        self._engine = engine
        self.said: list[str] = []
        self.unknown: list[str] = []
        self._took: list[float] = []

    async def blow(self, mark: str = "", each: int = EACH) -> Storm:
        """Each task writes so many messages into a session of its own."""
        await asyncio.gather(*(self._write(mark, task, each) for task in range(TASKS)))
        return self

    async def _write(self, mark: str, task: int, each: int) -> None:
        for number in range(each):
            text = f"{mark}{task}.{number}"
            begun = time.perf_counter()
            try:
                await self._engine.add_conversation_message(f"session {task}", "user", text)
                self.said.append(text)
            except StoreError as error:
                if error.outcome == "unknown":
                    self.unknown.append(text)
                await asyncio.sleep(0.01)
            self._took.append(time.perf_counter() - begun)

    def figures(self) -> str:
        """What it cost the writers."""
        took = sorted(self._took)
        p99, most = took[len(took) * 99 // 100] * 1e3, took[-1] * 1e3
        return f"{len(took)} writes beside it, p99 {p99:.1f} ms, longest {most:.0f} ms"


async def check(engine: ContextEngine, said: list[str], unknown: list[str] | None = None) -> None:
    """What was acknowledged is in the archive once, what is unknown at most once."""
    await engine.archive_barrier(timeout=PATIENT)
    ((rows, unique),) = await engine.archive.query(COUNTS)
    found = await engine.archive.query("SELECT content FROM context_conversations")
    contents = [content for (content,) in found]
    assert len(contents) == len({*contents}) == rows == unique
    assert {*said} <= {*contents} <= {*said, *(unknown or ())}
