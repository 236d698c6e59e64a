"""Telling the indexes when a group was last written to: beside the calls, once a minute at most."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any

from aiecs.domain.context.tasks import BackgroundTasks

TOUCH_EVERY = 60.0
RENEW_EVERY = 86_400.0
_REMEMBERED = 16_384

Refresh = Callable[[str, bool], Coroutine[Any, Any, None]]


class Activity:
    """Calls `refresh(id, renew)` in the background for groups that are written to.

    At most every 60 s for one id, as far as this process remembers (the last 16,384 to 32,768
    ids); `renew` is True when the last time that it was is 24 h ago or unknown.
    """

    def __init__(self, tasks: BackgroundTasks, refresh: Refresh) -> None:
        self._tasks = tasks
        self._refresh = refresh
        self._recent: dict[str, float] = {}
        self._older: dict[str, float] = {}
        self._renewed: dict[str, float] = {}

    def seen(self, group_id: str) -> None:
        """A group was written to. Cheap when it has been refreshed within the last minute."""
        now = time.monotonic()
        last = self._recent.get(group_id)
        if last is None:
            last = self._older.get(group_id)
        if last is None or now - last > TOUCH_EVERY:
            self._start(group_id, now)

    def created(self, group_id: str) -> None:
        """A group was created just now, its index entries with it."""
        now = time.monotonic()
        self._remember(group_id, now)
        self._renewed[group_id] = now

    def _start(self, group_id: str, now: float) -> None:
        renewed = self._renewed.get(group_id)
        renew = renewed is None or now - renewed > RENEW_EVERY
        if self._tasks.spawn(self._refresh(group_id, renew)):
            self._remember(group_id, now)
            if renew:
                self._renewed[group_id] = now

    def _remember(self, group_id: str, now: float) -> None:
        self._recent[group_id] = now
        if len(self._recent) >= _REMEMBERED:
            self._older, self._recent = self._recent, {}
            self._renewed = {name: self._renewed.get(name, now) for name in self._older}
