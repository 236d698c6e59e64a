"""What health and metrics tell of the archive."""

from __future__ import annotations

from typing import Any, NamedTuple

from aiecs.core.archiving import ArchiveState

WARN_AT = 0.8
LATE = 300.0


class ArchiveHealth(NamedTuple):
    """`state` is empty without an archive; `issues` are reasons to be degraded."""

    state: dict[str, Any]
    issues: list[str]


def issues_of(state: ArchiveState) -> list[str]:
    """What somebody should look at."""
    found = []
    if state.alarm:
        found.append(f"the archive needs help: {state.alarm}")
    elif state.breaker == "open":
        found.append(f"the archive does not answer: {state.trouble}")
    if state.filling >= WARN_AT:
        found.append(f"{state.filling:.0%} of what may wait for the archive does")
    if state.oldest >= LATE:
        found.append(f"the archive is {state.oldest:.0f} s behind")
    if state.dead:
        found.append(f"{state.dead} events are set aside: the archive does not take them")
    if state.dropped:
        found.append(f"{state.dropped} events were given up before they reached the archive")
    return found
