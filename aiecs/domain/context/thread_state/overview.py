"""What a thread's checkpoints say of themselves, without their values."""

from __future__ import annotations

from typing import NamedTuple

from aiecs.core.errors import ConflictError, InvalidInputError
from aiecs.core.interface.store import Gather
from aiecs.domain.context.thread_state import records
from aiecs.domain.context.thread_state.names import parts_of, space_of
from aiecs.domain.context.thread_state.thread_records import ThreadRecords, slice_of

_PAGE = 500


class Noted(NamedTuple):
    """A checkpoint of a graph. `created` in microseconds; `size` in bytes, without its parts."""

    member: str
    namespace: str
    checkpoint_id: str
    parent: str | None
    created: int
    source: str
    step: int | None
    run_id: str
    writes: int
    size: int


async def notes_of(threads: ThreadRecords, thread_id: str) -> list[Noted]:
    """All checkpoints of a thread, by namespace, the oldest first."""
    found: list[Noted] = []
    page = Gather("p", ("d", "w"), space_of(None), _PAGE)
    while True:
        (gathered,) = await threads.read(thread_id, page)
        found += [_noted(*one) for one in slice_of(gathered).found]
        if len(gathered.members) < _PAGE:
            return found
        page = page._replace(after=gathered.members[-1])


def _noted(member: str, stored: bytes, waiting: bytes | None) -> Noted:
    namespace, checkpoint_id = parts_of(member)
    record, _ = records.unpack(stored)
    writes = records.effective(records.unpack_writes(waiting)) if waiting else []
    return Noted(
        member,
        namespace,
        checkpoint_id,
        record.parent,
        record.created,
        record.source,
        record.step,
        record.run_id,
        len(writes),
        len(stored) + len(waiting or b""),
    )


def history_of(every: list[Noted], checkpoint_id: str) -> set[str]:
    """Members of a root checkpoint, of all that it came from, and of what ran within them.

    `InvalidInputError` when there is no such checkpoint.
    """
    roots = {one.checkpoint_id: one for one in every if not one.namespace}
    if checkpoint_id not in roots:
        raise InvalidInputError(f"there is no checkpoint {checkpoint_id!r}")
    chosen: set[str] = set()
    at: str | None = checkpoint_id
    while at is not None and at in roots and roots[at].member not in chosen:
        chosen.add(roots[at].member)
        at = roots[at].parent
    later = min((name for name in roots if name > checkpoint_id), default="")
    inner = (one for one in every if one.namespace)
    return chosen | {one.member for one in inner if not later or one.checkpoint_id < later}


def check_free(members: list[str], thread_id: str) -> None:
    """`ConflictError` for a thread that holds something."""
    if members:
        raise ConflictError(f"thread {thread_id!r} is there already: name one that is not")
