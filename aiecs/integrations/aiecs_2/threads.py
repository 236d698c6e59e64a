"""Checkpoint threads: their checkpoints in the order of their times, and the writes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from aiecs.domain.context.transfer import Record
from aiecs.integrations.aiecs_2.client import Pages, Problem
from aiecs.integrations.aiecs_2.rows import (
    Corrupt,
    checkpoint_of,
    name_of,
    row_of,
    time_of,
    writes_of,
)

_CHECKPOINTS, _WRITES = "checkpoints:", "checkpoint_writes:"


def thread_of(key: bytes) -> bytes | None:
    """The thread that a key belongs to, None for other keys."""
    for prefix in (_CHECKPOINTS.encode(), _WRITES.encode()):
        if key.startswith(prefix):
            return key[len(prefix) :]
    return None


async def thread_records(
    pages: Pages, thread_id: str, on_problem: Problem
) -> AsyncIterator[Record]:
    """A thread's checkpoints, oldest first (of the same time, by id), and then its writes."""
    key = _CHECKPOINTS + thread_id
    names = [name for _, name in sorted(await _times(pages, key, on_problem))]
    async for name, raw in pages.chosen(key, names):
        try:
            if raw is not None:  # removed meanwhile
                yield checkpoint_of(thread_id, name, row_of(raw))
        except Corrupt as error:
            on_problem(f"{key} {name!r}", str(error))
    key = _WRITES + thread_id
    async for page in pages.fields(key):
        for field, raw in page:
            try:
                yield writes_of(thread_id, row_of(raw))
            except Corrupt as error:
                on_problem(f"{key} {field!r}", str(error))


async def _times(pages: Pages, key: str, on_problem: Problem) -> set[tuple[datetime, str]]:
    """When each checkpoint was made; one that cannot tell is left out."""
    found: set[tuple[datetime, str]] = set()
    async for page in pages.fields(key):
        for field, raw in page:
            try:
                found.add((time_of(row_of(raw), "created_at"), name_of(field)))
            except Corrupt as error:
                on_problem(f"{key} {field!r}", str(error))
    return found
