"""Background work that comes again and again, on whichever event loop uses the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from aiecs.domain.context.tasks import BackgroundTasks


class Recurring:
    """`work` every so many seconds on the loop that was running at `arm`.

    When that loop is gone, the next `arm` moves it to the one that is running then.
    """

    def __init__(
        self, tasks: BackgroundTasks, every: float, work: Callable[[], Coroutine[Any, Any, Any]]
    ) -> None:
        self._tasks = tasks
        self._every = every
        self._work = work
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False

    def arm(self) -> None:
        """Begin, on the running loop, unless it goes on already."""
        if self._stopped or (self._loop is not None and not self._loop.is_closed()):
            return
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._every, self._fire)

    def _fire(self) -> None:
        if self._stopped or self._loop is None:
            return
        self._tasks.spawn(self._work())
        self._timer = self._loop.call_later(self._every, self._fire)

    def stop(self) -> None:
        """Never again; what is under way goes on."""
        self._stopped = True
        if self._timer is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._timer.cancel)
