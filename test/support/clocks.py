"""Clocks for stores in this process."""

from __future__ import annotations


class HandClock:
    """Microseconds since 1970 that pass only when told to."""

    def __init__(self, now: int = 1_700_000_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, microseconds: int) -> None:
        """Let this much time pass."""
        self.now += microseconds
