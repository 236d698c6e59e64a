"""How long an event loop was held: what beats on it comes late then."""

from __future__ import annotations

import asyncio

_EVERY = 0.005


class Heartbeat:
    """Beats on the running loop from `start` to `stop`; `longest` is its worst delay in seconds."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to beat."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_EVERY, self._beat, loop, loop.time() + _EVERY)

    def stop(self) -> None:
        """Beat no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self.longest = max(self.longest, loop.time() - due)
        self.start()
