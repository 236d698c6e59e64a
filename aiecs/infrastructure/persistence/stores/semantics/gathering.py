"""`Gather`: an index, the maps beside it, and the links between values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiecs.core.interface import store as port

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiecs.infrastructure.persistence.stores.semantics.frame import Frame


def gather(frame: Frame, op: port.Gather, number: int) -> port.Gathered:  # noqa: ARG001 - as all steps
    """`Gather`."""
    if frame.absent(op.key):
        members = list(op.members or ())
        return port.Gathered(members, [[None] * len(members) for _ in op.maps], {})
    members = _members(frame, op) if op.members is None else list(op.members)
    values = [frame.fields(key, members) for key in op.maps]
    linked = {} if op.links is None else _follow(frame, op.links, values[0], op.known)
    return port.Gathered(members, values, linked)


def _members(frame: Frame, op: port.Gather) -> list[str]:
    cursor = None if op.after is None else (op.after, 0)
    walk = port.IndexRange(
        op.key, limit=op.limit, reverse=op.reverse, cursor=cursor, prefix=op.prefix
    )
    return [member for member, _ in frame.state.index_range(frame.key(op.key), walk)]


def _follow(
    frame: Frame, key: str, values: Iterable[bytes | None], known: Iterable[str]
) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    seen = set(known)
    while names := [name for name in dict.fromkeys(_links(values)) if name not in seen]:
        seen.update(names)
        fetched = zip(names, frame.fields(key, names), strict=True)
        new = {name: value for name, value in fetched if value is not None}
        found |= new
        values = new.values()
    return found


def _links(values: Iterable[bytes | None]) -> Iterable[str]:
    for value in values:
        if value is not None and value[:1] == b"&":
            names = value[1:].partition(b"\n")[0].decode(errors="replace").split(" ")
            yield from filter(None, names)
