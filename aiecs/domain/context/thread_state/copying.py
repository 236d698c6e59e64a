"""Copying a thread: bytes are moved, nothing is decoded."""

from __future__ import annotations

from collections.abc import Collection

from aiecs.core.errors import ConflictError, CorruptRecordError, InvalidInputError
from aiecs.core.interface.store import Gather, Gathered, GuardFailed
from aiecs.domain.context.thread_state.names import space_of
from aiecs.domain.context.thread_state.reach import kept_of, names_of_writes, reached
from aiecs.domain.context.thread_state.telling import Row
from aiecs.domain.context.thread_state.thread_records import ThreadRecords, slice_of

_PAGE = 50
_ATTEMPTS = 8


class Copying:
    """Copies one thread of a store into another; `only`: these members alone."""

    def __init__(
        self,
        threads: ThreadRecords,
        source: str,
        target: str,
        *,
        ttl: int | None,
        only: Collection[str] | None = None,
    ) -> None:
        if source == target:
            raise InvalidInputError("a thread is copied into another one")
        self._threads = threads
        self._source = source
        self._target = target
        self._ttl = ttl
        self._only = only
        #: What the target has for sure, as long as its contents are in this state.
        self._sent: set[str] = set()
        self._state: bytes | None = None

    async def copy(self) -> None:
        """Add everything of the source to the target, page by page, the oldest checkpoints first.

        Each page is whole: a copy that is cut short holds sound checkpoints. Repeating it is
        harmless, but for writes, which would stand there twice and count once. `ConflictError` when
        the target is cleaned up all the time.
        """
        page = Gather("p", ("d", "w"), space_of(None), _PAGE, links="e")
        tried = 0
        while True:
            (gathered,) = await self._threads.read(self._source, page)
            tried += 1
            if not await self._page(gathered, is_last_try=tried == _ATTEMPTS):
                continue
            if len(gathered.members) < _PAGE:
                return
            page, tried = page._replace(after=gathered.members[-1]), 0

    async def _page(self, gathered: Gathered, *, is_last_try: bool) -> bool:
        """Whether the page is in the target; else somebody has cleaned up on either side."""
        every = zip(gathered.members, *gathered.values, strict=True)
        rows: list[Row] = [row for row in every if self._only is None or row[0] in self._only]
        needed = sorted(self._names(gathered, rows) - self._sent)
        parts = await self._threads.fetch(self._source, needed)
        if len(parts) < len(needed):
            if is_last_try:
                raise CorruptRecordError("a checkpoint has lost a part of its state")
            return False
        self._state = self._state or await self._threads.begin(self._target, self._ttl)
        try:
            await self._threads.add(self._target, self._state, rows, parts, ttl=self._ttl)
        except GuardFailed:
            if is_last_try:
                raise ConflictError(f"thread {self._target!r} is cleaned up all the time") from None
            self._state, self._sent = None, set()
            return False
        self._sent |= parts.keys()
        return True

    def _names(self, gathered: Gathered, rows: list[Row]) -> set[str]:
        chosen = {row[0] for row in rows}
        names: set[str] = set()
        for found in slice_of(gathered).found:
            if found.member in chosen:
                names |= kept_of(found).names
        for _, _, writes in rows:
            names |= names_of_writes(writes)
        return reached(names, gathered.linked)
