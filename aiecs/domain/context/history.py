"""Reading a session's messages: the newest ones through the tail cache, the others in pages."""

from __future__ import annotations

from aiecs.core.errors import ConflictError
from aiecs.core.interface.store import Arg, Batch, Call, LogSlice, Plan, Read
from aiecs.domain.context.messages import Row, decode_items, to_messages
from aiecs.domain.context.models import ConversationMessage
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.sessions import place_of
from aiecs.domain.context.tail_cache import Tail, TailCache, extended, tail_of

PAGE = 500
_FIRST_PAGE = 100
_PAGE_BYTES = 4 * 1024 * 1024
_RESTARTS = 8
_NEWEST = Plan("history", Read("m", Arg(0), Arg(1), Arg(2), base=Arg(3)))


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
            found = await self._newest(session_id, tail.next - 1, None, limit + 1, tail.base)
            if tail.continues(found):
                self._cache.hits += 1
                grown = self._grown(session_id, tail, found)
                return to_messages(grown.rows[-limit:])
        self._cache.misses += 1
        if not enough or len(found.items) <= limit:
            found = await self._newest(session_id, None, None, limit, None)
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
            older = await self._newest(session_id, None, first, limit, found.base)
            if older.epoch != found.epoch or not older.items:
                break
            rows = self._decode(session_id, older.first, older.items) + rows
            first = older.first
        self._cache.put(session_id, tail_of(found, first, rows))
        return to_messages(rows[-limit:])

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
                return to_messages(rows if limit is None else rows[-limit:])
        raise ConflictError(f"session {session_id!r} is rewound all the time")

    async def _backwards(
        self, session_id: str, limit: int | None, stop: int | None, start: int
    ) -> list[Row] | None:
        pages: list[list[Row]] = []
        count, size, epoch, base = 0, _FIRST_PAGE, None, None
        while limit is None or count < limit:
            found = await self._newest(session_id, start, stop, size, base)
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
            found = await self._oldest(session_id, after + 1, before, wanted)
            if not found.items:
                break
            rows += self._decode(session_id, found.first, found.items)
            after, size = found.first + len(found.items) - 1, _next_size(found.items)
        return to_messages(rows)

    async def _newest(
        self, session_id: str, start: int | None, stop: int | None, limit: int, base: int | None
    ) -> LogSlice:
        call = Call(_NEWEST, *place_of(session_id), (start, stop, limit, base))
        runtime = self._runtime
        # Not by way of the runtime: a coroutine less, on the path of every reader.
        results = await runtime.store.apply(call, timeout=runtime.timeout)
        found: LogSlice = results[0]  # type: ignore[index]  # a read is never "applied before"
        return found

    async def _oldest(self, session_id: str, start: int, stop: int | None, limit: int) -> LogSlice:
        read = Read("m", start, stop, limit, newest=False)
        (found,) = await self._runtime.read(Batch(*place_of(session_id), (read,)))
        page: LogSlice = found
        return page

    def _decode(self, session_id: str, first: int, items: list[bytes]) -> list[Row]:
        rows, corrupt = decode_items(first, items)
        for seq in corrupt:
            self._runtime.note_corrupt("message", f"{session_id} #{seq}")
        return rows


def _next_size(items: list[bytes]) -> int:
    """How many items a page of about 4 MiB holds, going by the page before."""
    average = sum(map(len, items)) // len(items) + 1
    return max(1, min(PAGE, _PAGE_BYTES // average))
