"""What the records of a thread refer to, and which records have to stay for the sake of others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from aiecs.domain.context.thread_state import records
from aiecs.domain.context.thread_state.manifests import children_of
from aiecs.domain.context.thread_state.names import parts_of
from aiecs.domain.context.thread_state.thread_records import Found


class Kept(NamedTuple):
    """A checkpoint as far as it matters for others."""

    member: str
    namespace: str
    checkpoint_id: str
    record: records.Checkpoint
    names: frozenset[str]
    size: int


def kept_of(found: Found) -> Kept:
    """What a stored checkpoint refers to itself, its writes included."""
    namespace, checkpoint_id = parts_of(found.member)
    record, manifests = records.unpack(found.record)
    names = set[str]()
    for channel, ref in record.channels.items():
        names.update(records.names_of(ref, manifests.get(channel)))
    names |= names_of_writes(found.writes)
    size = len(found.record) + len(found.writes or b"")
    return Kept(found.member, namespace, checkpoint_id, record, frozenset(names), size)


def names_of_writes(stored: bytes | None) -> set[str]:
    """What the writes for a checkpoint refer to."""
    calls = records.unpack_writes(stored) if stored else []
    return {
        name for call in calls for write in call.writes for name in records.names_of(write.value)
    }


def reached(names: Iterable[str], nodes: Mapping[str, bytes]) -> set[str]:
    """These names and all that they lead to through nodes."""
    found: set[str] = set()
    open_ = list(names)
    while open_:
        name = open_.pop()
        if name not in found:
            found.add(name)
            if name in nodes:
                open_.extend(children_of(nodes[name])[0])
    return found


def ancestors_needed(chosen: Collection[str], every: Mapping[str, Kept]) -> set[str]:
    """Members of ancestors without which channels of the chosen ones could not be rebuilt.

    A channel whose values are told by writes alone needs every ancestor back to the nearest that
    has its value, or to the first.
    """
    needed: set[str] = set()
    by_id = {(one.namespace, one.checkpoint_id): one for one in every.values()}
    for member in chosen:
        one = every[member]
        missing = set(one.record.pending)
        seen = {one.checkpoint_id}
        while missing and one.record.parent is not None and one.record.parent not in seen:
            parent = by_id.get((one.namespace, one.record.parent))
            if parent is None:
                break
            needed.add(parent.member)
            missing -= set(parent.record.channels)
            seen.add(parent.checkpoint_id)
            one = parent
    return needed
