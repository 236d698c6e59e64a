"""Copying a thread: bytes are moved, nothing is decoded."""

from __future__ import annotations

from collections.abc import Collection

from aiecs.core.errors import CorruptRecordError, InvalidInputError
from aiecs.core.interface.store import Gather
from aiecs.domain.context.thread_state.names import space_of
from aiecs.domain.context.thread_state.reach import kept_of, names_of_writes, reached
from aiecs.domain.context.thread_state.thread_records import ThreadRecords, slice_of

_PAGE = 50
_ATTEMPTS = 8


class Copying:
    """Copies threads of one store."""

    def __init__(self, threads: ThreadRecords) -> None:
        self._threads = threads

    async def copy(
        self,
        source: str,
        target: str,
        *,
        ttl: int | None,
        only: Collection[str] | None = None,
    ) -> None:
        """Add everything of `source` to `target`, page by page, the oldest checkpoints first.

        `only`: these members alone.

        Each page is whole: a copy that is cut short holds sound checkpoints. Repeating it is
        harmless, but for writes, which would stand there twice and count once.
        """
        if source == target:
            raise InvalidInputError("a thread is copied into another one")
        sent: set[str] = set()
        lost = 0
        page = Gather("p", ("d", "w"), space_of(None), _PAGE, links="e")
        while True:
            (gathered,) = await self._threads.read(source, page)
            every = zip(gathered.members, *gathered.values, strict=True)
            rows = [row for row in every if only is None or row[0] in only]
            names: set[str] = set()
            for found in slice_of(gathered).found:
                if only is None or found.member in only:
                    names |= kept_of(found).names
            for _, _, writes in rows:
                names |= names_of_writes(writes)
            needed = sorted(reached(names, gathered.linked) - sent)
            parts = await self._threads.fetch(source, needed)
            if len(parts) < len(needed):  # somebody has cleaned up meanwhile
                lost += 1
                if lost == _ATTEMPTS:
                    raise CorruptRecordError("a checkpoint has lost a part of its state")
                continue
            await self._threads.add(target, rows, parts, ttl=ttl)
            sent |= parts.keys()
            if len(gathered.members) < _PAGE:
                return
            page = page._replace(after=gathered.members[-1])
