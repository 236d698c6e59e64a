"""Reading a session's messages: the newest ones through the tail cache, the others in pages."""

from __future__ import annotations

from aiecs.core.errors import ConflictError
from aiecs.core.interface.store import Batch, LogSlice, Read
from aiecs.domain.context.messages import Row, decode_items, to_message
from aiecs.domain.context.models import ConversationMessage
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.sessions import place_of
from aiecs.domain.context.tail_cache import Tail, TailCache, extended, tail_of

PAGE = 500
_FIRST_PAGE = 100
_PAGE_BYTES = 4 * 1024 * 1024
_RESTARTS = 8


class History:
    """The messages of sessions, oldest first."""

    def __init__(self, runtime: Runtime, cache: TailCache) -> None:
        self._runtime = runtime
        self._cache = cache

    async def latest(self, session_id: str, limit: int) -> list[ConversationMessage]:
        """The newest `limit` messages (1 to 500); none when the session is unknown."""
        tail = self._cache.get(session_id)
        enough = tail is not None and (len(tail.rows) >= limit or tail.whole())
        if tail is not None and enough:
            read = Read("m", tail.next - 1, None, limit + 1, base=tail.base)
            found = await self._read(session_id, read)
            if tail.continues(found):
                self._cache.hits += 1
                grown = self._grown(session_id, tail, found)
                return list(map(to_message, grown.rows[-limit:]))
        self._cache.misses += 1
        if not enough or len(found.items) <= limit:
            found = await self._read(session_id, Read("m", limit=limit))
        return await self._fresh(session_id, limit, found)

    def _grown(self, session_id: str, tail: Tail, found: LogSlice) -> Tail:
        new: list[Row] = []
        if len(found.items) > 1:
            new = self._decode(session_id, found.first + 1, found.items[1:])
        grown = extended(tail, found, new)
        if grown is not tail:
            self._cache.put(session_id, grown)
        return grown

    async def _fresh(
        self, session_id: str, limit: int, found: LogSlice
    ) -> list[ConversationMessage]:
        if not found.items:
            self._cache.put(session_id, None)
            return []
        rows, first = self._decode(session_id, found.first, found.items), found.first
        while len(rows) < limit and first > found.base:
            # Corrupt or redacted items stood among them: as many older ones take their place.
            older = await self._read(session_id, Read("m", None, first, limit, base=found.base))
            if older.epoch != found.epoch or not older.items:
                break
            rows = self._decode(session_id, older.first, older.items) + rows
            first = older.first
        self._cache.put(session_id, tail_of(found, first, rows))
        return list(map(to_message, rows[-limit:]))

    async def before(
        self, session_id: str, limit: int | None, before: int | None = None, after: int = 0
    ) -> list[ConversationMessage]:
        """The newest `limit` messages (None: all) of those after `after` and before `before`.

        Read backwards in pages, so that what is appended or trimmed meanwhile leaves no gap. A
        rewind or redaction meanwhile starts the reading over.
        """
        for _ in range(_RESTARTS):
            rows = await self._backwards(session_id, limit, before, after + 1)
            if rows is not None:
                return list(map(to_message, rows if limit is None else rows[-limit:]))
        raise ConflictError(f"session {session_id!r} is rewound all the time")

    async def _backwards(
        self, session_id: str, limit: int | None, stop: int | None, start: int
    ) -> list[Row] | None:
        pages: list[list[Row]] = []
        count, size, epoch, base = 0, _FIRST_PAGE, None, None
        while limit is None or count < limit:
            found = await self._read(session_id, Read("m", start, stop, size, base=base))
            if epoch is not None and found.epoch != epoch:
                return None
            epoch, base = found.epoch, found.base
            if not found.items:
                break
            pages.append(self._decode(session_id, found.first, found.items))
            count += len(pages[-1])
            stop, size = found.first, _next_size(found.items)
            if stop <= max(start, base):
                break
        return [row for page in reversed(pages) for row in page]

    async def after(
        self, session_id: str, after: int, limit: int, before: int | None
    ) -> list[ConversationMessage]:
        """The oldest `limit` messages of those after `after` (and before `before`)."""
        rows: list[Row] = []
        size = _FIRST_PAGE
        while len(rows) < limit:
            wanted = min(size, limit - len(rows))
            read = Read("m", after + 1, before, wanted, newest=False)
            found = await self._read(session_id, read)
            if not found.items:
                break
            rows += self._decode(session_id, found.first, found.items)
            after, size = found.first + len(found.items) - 1, _next_size(found.items)
        return list(map(to_message, rows))

    async def _read(self, session_id: str, read: Read) -> LogSlice:
        bucket, group = place_of(session_id)
        results = await self._runtime.apply(Batch(bucket, group, (read,)))
        found: LogSlice = results[0] if results else LogSlice("", 0, 0, 0, [])
        return found

    def _decode(self, session_id: str, first: int, items: list[bytes]) -> list[Row]:
        rows, corrupt = decode_items(first, items)
        for seq in corrupt:
            self._runtime.note_corrupt("message", f"{session_id} #{seq}")
        return rows


def _next_size(items: list[bytes]) -> int:
    """How many items a page of about 4 MiB holds, going by the page before."""
    average = sum(map(len, items)) // len(items) + 1
    return max(1, min(PAGE, _PAGE_BYTES // average))
