"""Reading a session's messages: the newest ones through the tail cache, the others in pages."""

from __future__ import annotations

from aiecs.core.errors import ConflictError
from aiecs.core.interface.store import MAX_INTEGER, Arg, Batch, Call, LogSlice, Plan, Read
from aiecs.domain.context.earlier import Earlier, Hot, Span
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

    def __init__(self, runtime: Runtime, cache: TailCache, earlier: Earlier | None) -> None:
        self._runtime = runtime
        self._cache = cache
        self._earlier = earlier

    async def latest(
        self, session_id: str, limit: int, archived: bool | None
    ) -> list[ConversationMessage]:
        """The newest `limit` messages (1 to 500); none when the session is unknown.

        `archived`: whether what the archive holds is joined to what is hot; None: if it answers.
        """
        tail = self._cache.get(session_id)
        enough = tail is not None and (len(tail.rows) >= limit or tail.whole())
        if tail is not None and enough:
            found = await self._newest(session_id, tail.next - 1, None, limit + 1, tail.base)
            if tail.continues(found):
                self._cache.hits += 1
                rows = self._grown(session_id, tail, found).rows[-limit:]
                if len(rows) < limit and self._earlier is not None:
                    span = Span(limit - len(rows))
                    rows = await self._before(session_id, found, span, archived) + rows
                return to_messages(rows)
        self._cache.misses += 1
        if not enough or len(found.items) <= limit:
            found = await self._newest(session_id, None, None, limit, None)
        rows = await self._fresh(session_id, limit, found)
        if len(rows) < limit and self._earlier is not None:
            span = Span(limit - len(rows))
            rows = await self._before(session_id, found, span, archived) + rows
        return to_messages(rows)

    async def _before(
        self, session_id: str, found: LogSlice, span: Span, archived: bool | None
    ) -> list[Row]:
        """What the archive holds of it before what is hot."""
        if self._earlier is None or archived is False:
            return []
        hot = Hot(found.epoch, found.base)
        return await self._earlier.rows(session_id, hot, span, insist=archived is True)

    def _grown(self, session_id: str, tail: Tail, found: LogSlice) -> Tail:
        new: list[Row] = []
        if len(found.items) > 1:
            new = self._decode(session_id, found.first + 1, found.items[1:])
        grown = extended(tail, found, new)
        if grown is not tail:
            self._cache.put(session_id, grown)
        return grown

    async def _fresh(self, session_id: str, limit: int, found: LogSlice) -> list[Row]:
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
        return rows[-limit:]

    async def before(
        self,
        session_id: str,
        limit: int | None,
        before: int | None = None,
        after: int = -1,
        archived: bool | None = None,
    ) -> list[ConversationMessage]:
        """The newest `limit` messages (None: all) of those after `after` and before `before`.

        Read backwards in pages, so that what is appended or trimmed meanwhile leaves no gap. A
        rewind or redaction meanwhile starts the reading over.
        """
        for _ in range(_RESTARTS):
            found = await self._backwards(session_id, limit, before, after + 1)
            if found is None:
                continue
            end, rows = found
            rows = rows if limit is None else rows[-limit:]
            if limit is None or len(rows) < limit:
                missing = None if limit is None else limit - len(rows)
                span = Span(missing, after + 1, MAX_INTEGER if before is None else before)
                rows = await self._before(session_id, end, span, archived) + rows
            return to_messages(rows)
        raise ConflictError(f"session {session_id!r} is rewound all the time")

    async def _backwards(
        self, session_id: str, limit: int | None, stop: int | None, start: int
    ) -> tuple[LogSlice, list[Row]] | None:
        """The rows, and the log as the last page of them shows it."""
        pages: list[list[Row]] = []
        count, size, epoch, base = 0, _FIRST_PAGE, None, None
        while True:
            found = await self._newest(session_id, start, stop, size, base)
            if epoch is not None and found.epoch != epoch:
                return None
            epoch, base = found.epoch, found.base
            if not found.items:
                break
            pages.append(self._decode(session_id, found.first, found.items))
            count += len(pages[-1])
            stop, size = found.first, _next_size(found.items)
            if stop <= max(start, base) or (limit is not None and count >= limit):
                break
        return found, [row for page in reversed(pages) for row in page]

    async def after(
        self,
        session_id: str,
        after: int,
        limit: int,
        before: int | None,
        archived: bool | None,
    ) -> list[ConversationMessage]:
        """The oldest `limit` messages of those after `after` (and before `before`)."""
        rows: list[Row] = []
        size = _FIRST_PAGE
        end = await self._oldest(session_id, after + 1, before, min(size, limit))
        if self._earlier is not None and (not end.epoch or after + 1 < end.base):
            span = Span(limit, after + 1, MAX_INTEGER if before is None else before, newest=False)
            rows = await self._before(session_id, end, span, archived)
        while end.items and len(rows) < limit:
            rows += self._decode(session_id, end.first, end.items)
            after, size = end.first + len(end.items) - 1, _next_size(end.items)
            if len(rows) < limit:
                wanted = min(size, limit - len(rows))
                end = await self._oldest(session_id, after + 1, before, wanted)
        return to_messages(rows[:limit])

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
