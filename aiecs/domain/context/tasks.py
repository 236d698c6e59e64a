"""Work beside the calls: bounded, tied to the event loop that started it, silent to the callers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger("aiecs")


class BackgroundTasks:
    """The tasks that one engine runs in the background, on whichever loops it is used from."""

    def __init__(self, limit: int = 256) -> None:
        self._limit = limit
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> bool:
        """Run `work` on the running loop; False (and not started) when too much is under way.

        What it raises is logged, never delivered.
        """
        if len(self._tasks) >= self._limit and not self._forget_dead_loops():
            work.close()
            return False
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return True

    async def drain(self, seconds: float) -> int:
        """Wait for the tasks of the running loop, then cancel what is left; how many that was.

        Tasks of other loops are cancelled at once: only their own loop could wait for them.
        """
        here = asyncio.get_running_loop()
        for task in self._alive():
            if task.get_loop() is not here:
                task.get_loop().call_soon_threadsafe(task.cancel)
        mine = [task for task in self._alive() if task.get_loop() is here]
        late = (await asyncio.wait(mine, timeout=seconds))[1] if mine else set()
        for task in late:
            task.cancel()
        return len(late)

    def _alive(self) -> list[asyncio.Task[Any]]:
        current = asyncio.current_task()
        return [t for t in list(self._tasks) if t is not current and not t.get_loop().is_closed()]

    def _forget_dead_loops(self) -> bool:
        self._tasks = {task for task in list(self._tasks) if not task.get_loop().is_closed()}
        return len(self._tasks) < self._limit

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("background work failed: %s", error, extra={"task": task.get_name()})
