"""Clocks for stores in this process."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta

import pytest

from aiecs.core import clock


class HandClock:
    """Microseconds since 1970 that pass only when told to."""

    def __init__(self, now: int = 1_700_000_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, microseconds: int) -> None:
        """Let this much time pass."""
        self.now += microseconds


class WallClock:
    """The wall clock of this process, set forward and back as an administrator or NTP does.

    It moves everything that the package asks for the time of day; servers keep their own clocks,
    and time that is measured (`time.monotonic`) goes on undisturbed.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ahead = timedelta(0)
        now_ns, now = time.time_ns, clock.utcnow

        def time_ns() -> int:
            return now_ns() + self.ahead // timedelta(microseconds=1) * 1_000

        def utcnow() -> datetime:
            return now() + self.ahead

        patch.setattr(time, "time_ns", time_ns)
        for name, module in list(sys.modules.items()):
            if name.startswith("aiecs.") and getattr(module, "utcnow", None) is now:
                patch.setattr(module, "utcnow", utcnow)

    def jump(self, hours: float) -> None:
        """Set the clock forward, or back."""
        self.ahead += timedelta(hours=hours)
