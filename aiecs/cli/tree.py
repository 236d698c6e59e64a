"""Histories drawn as trees, one line for each entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


def branches(parents: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """What stands before each entry, and the entry; the oldest first, as `parents` has them.

    An only child stands below its parent; of several all but the last branch off to the right.
    """
    children: dict[str | None, list[str]] = {}
    for name, parent in parents.items():
        children.setdefault(parent if parent in parents else None, []).append(name)
    waiting = [(name, "", "") for name in reversed(children.get(None, []))]
    while waiting:
        name, margin, joint = waiting.pop()
        yield f"{margin}{joint}* ", name
        inner = margin + ("| " if joint else "")
        following = children.get(name, [])
        if following:
            *forks, last = following
            waiting.append((last, inner if joint else margin, ""))
            waiting += [(fork, inner if joint else margin, "|-") for fork in reversed(forks)]
