"""One thing that was looked at, and what to do about it."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["ok", "note", "warn", "fail"]


class Finding(NamedTuple):
    """What an examination says; `advice` is "" where there is nothing to do."""

    check: str
    level: Level
    detail: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.check}: {self.detail}{self.advice and f' ({self.advice})'}"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:  # noqa: PLR2004 - the next unit
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
