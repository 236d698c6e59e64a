"""One session's way into a store: created as it was, its logs compared and continued."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from aiecs.core.codec import dump_json
from aiecs.core.errors import ConflictError, InvalidInputError, SessionExistsError
from aiecs.core.events import About
from aiecs.core.interface.store import (
    MAX_INTEGER,
    NEW_INCARNATION,
    NOW,
    Append,
    Batch,
    Expire,
    Get,
    GroupExpired,
    GroupMissing,
    GuardFailed,
    Incr,
    LogSlice,
    Op,
    Put,
    Read,
    RequireBefore,
    RequireEquals,
    Result,
)
from aiecs.core.keys import session_place
from aiecs.domain.context.groups import make_room
from aiecs.domain.context.indexes import announce_session
from aiecs.domain.context.models import SessionMetrics
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.session_record import MAX_METADATA_KEYS
from aiecs.domain.context.sessions import Sessions
from aiecs.domain.context.transfer.heads import (
    Incoming,
    same_item,
    session_head,
    told_session,
)

CHUNK_ITEMS = 500
CHUNK_BYTES = 4 * 1024 * 1024
"""How much of a log goes into one batch."""

_ATTEMPTS = 8
_UNKNOWN = b"{}"


class DifferentLogError(ConflictError):
    """A log holds something else than what comes in.

    `number` is the first such item among those that were given.
    """

    def __init__(self, session_id: str, position: int, number: int) -> None:
        super().__init__(
            f"session {session_id!r} is there with other messages, from the "
            f"{_ordinal(position + number + 1)} on; it stays as it is"
        )
        self.number = number


def _ordinal(number: int) -> str:
    endings = {1: "st", 2: "nd", 3: "rd"}
    teen = 10 < number % 100 < 14  # noqa: PLR2004 - eleventh to thirteenth
    return f"{number}{'th' if teen else endings.get(number % 10, 'th')}"


class SessionWriter:
    """Brings one session into a store, from wherever an earlier attempt ended.

    `created`: it was not there before this import, or an earlier one was interrupted. Every batch
    of an import that needs several requires the head's field `im` to be as it was read, and counts
    it up: of two imports of the same session only one goes on. While `im` ends in "+", parts are
    missing that the head's counters and times speak of already.
    """

    def __init__(self, runtime: Runtime, sessions: Sessions, session: SessionMetrics) -> None:
        self._head = session_head(session)
        self._runtime = runtime
        self._events = runtime.events
        self._sessions = sessions
        self._session = session
        self._place = session_place(session.session_id)
        self._expire = () if runtime.session_ttl is None else (Expire(runtime.session_ttl),)
        self._mark: bytes | None = None
        self._unfinished = False
        self.created = False

    # --- the session itself ---------------------------------------------------------------------

    async def open(self, first: Sequence[Incoming], *, complete: bool) -> int:
        """Create the session with its first messages, unless it is there; how many went in.

        `complete`: nothing else follows. `SessionExistsError` if it belongs to another user.
        """
        for _ in range(_ATTEMPTS):
            head = await self._look()
            if head:
                await self._own(head)
                self.created = self._unfinished
                return 0
            if await self._create(first, complete=complete):
                return len(first)
        raise self._restless()

    async def _look(self) -> dict[str, bytes]:
        (head,) = await self._runtime.read(Batch(*self._place, (Get(""),)))
        self._mark = head.get("im")
        self._unfinished = self._mark is not None and self._mark.endswith(b"+")
        return dict(head)

    async def _own(self, head: dict[str, bytes]) -> None:
        owner, wanted = head.get("u", b"").decode(), self._session.user_id
        if not wanted or owner == wanted:
            return
        if owner:
            raise SessionExistsError(
                f"session {self._session.session_id!r} belongs to another user"
            )
        await self._sessions.create(self._session.session_id, wanted)

    async def _create(self, first: Sequence[Incoming], *, complete: bool) -> bool:
        before = await announce_session(
            self._runtime, self._session.session_id, self._session.user_id
        )
        mark = {} if complete else {"im": b"0+"}
        fields = list({"~i": NEW_INCARNATION, **self._head, **mark}.items())
        first_fields, *rest = (
            dict(fields[at : at + MAX_METADATA_KEYS])
            for at in range(0, len(fields), MAX_METADATA_KEYS)
        )
        ops: list[Op] = [Put("", first_fields, if_absent="abort"), RequireBefore(before)]
        ops += (*(Put("", more) for more in rest), *self._expire)
        ops += self._events.change(self._session.session_id, "created", told_session(self._session))
        if first:
            ops += self._appending("m", first, len(ops), None, fresh=True)
        try:
            await self._runtime.apply(Batch(*self._place, tuple(ops)))
        except GroupExpired:
            await make_room(self._runtime, self._session.session_id)
            return False
        except GuardFailed:
            return False
        self.created = True
        self._mark, self._unfinished = mark.get("im"), not complete
        self._runtime.counters.add("sessions", 1)
        self._runtime.counters.add("messages", len(first))
        if "st" in self._head:
            self._runtime.counters.add("ended", 1)
        return True

    async def finish(self) -> None:
        """All has been written: the last activity is what it was, whatever has moved it."""
        while self._unfinished:
            last = Put("", {"l": self._head["l"]})
            if not await self._write((last,), unfinished=False):
                await self._look()

    # --- logs -----------------------------------------------------------------------------------

    async def append(
        self, key: str, items: Sequence[Incoming], position: int, conversation: str | None = None
    ) -> int:
        """Continue a log with what it does not hold yet; how many items that were.

        `position` counts the items of the same import before these; `conversation` is the key of
        the one between agents whose log it is. `DifferentLogError` when the log holds other ones in
        their place.
        """
        appended = done = 0
        for chunk in chunks(items):
            try:
                appended += await self._append(key, chunk, position + done, conversation)
            except DifferentLogError as error:
                error.number += done
                raise
            done += len(chunk)
        return appended

    async def _append(
        self, key: str, chunk: Sequence[Incoming], position: int, conversation: str | None
    ) -> int:
        for _ in range(_ATTEMPTS):
            log = await self._length(key)
            new = await self._missing(key, chunk, position, log) if log.epoch else chunk
            if not new:
                return 0
            ops = self._appending(key, new, 0, conversation, fresh=not log.epoch)
            counts = [sum(column) for column in zip(*(one.tokens for one in new), strict=True)]
            if any(counts) and not self._unfinished:
                ops.append(Incr("", {"ti": counts[0], "to": counts[1]}))
            if await self._write(tuple(ops), unfinished=self._unfinished):
                self._runtime.counters.add("messages", len(new))
                return len(new)
            await self._look()
        raise self._restless()

    def _appending(
        self,
        key: str,
        items: Sequence[Incoming],
        number: int,
        conversation: str | None,
        *,
        fresh: bool,
    ) -> list[Op]:
        """The append as operation `number` of a batch, and its events."""
        append = _append(key, items, fresh=fresh)
        ids = (self._session.session_id, *([] if conversation is None else [conversation]))
        return [append, *self._events.several(append.items, Result(number), *ids)]

    async def _length(self, key: str) -> LogSlice:
        read = Read(key, start=MAX_INTEGER, limit=1)
        (found,) = await self._runtime.read(Batch(*self._place, (read,)))
        slice_: LogSlice = found
        return slice_

    async def _missing(
        self, key: str, chunk: Sequence[Incoming], position: int, log: LogSlice
    ) -> Sequence[Incoming]:
        """The part of `chunk` behind the end of the log; the rest must be in it."""
        start = log.base + position if chunk[0].seq is None else chunk[0].seq
        if not log.base <= start <= log.next:
            raise DifferentLogError(self._session.session_id, position, 0)
        known = min(log.next - start, len(chunk))
        if known:
            read = Read(key, start, start + known)
            (found,) = await self._runtime.read(Batch(*self._place, (read,)))
            for number, stored in enumerate(found.items):
                if not same_item(stored, chunk[number]):
                    raise DifferentLogError(self._session.session_id, position, number)
        return chunk[known:]

    async def _write(self, ops: tuple[Op, ...], *, unfinished: bool) -> bool:
        """Apply `ops` unless another import came first; False then."""
        number = int((self._mark or b"0").rstrip(b"+")) + 1
        mark = b"%d%s" % (number, b"+" if unfinished else b"")
        fields: dict[str, Any] = {"im": mark}
        if not self.created:
            fields["l"] = NOW
        guarded = (RequireEquals("", "im", self._mark), Put("", fields), *self._expire)
        try:
            await self._runtime.apply(Batch(*self._place, (*ops, *guarded)))
        except GroupMissing:
            raise ConflictError(f"session {self._session.session_id!r} was deleted") from None
        except GuardFailed:
            return False
        self._mark, self._unfinished = mark, unfinished
        return True

    # --- maps -----------------------------------------------------------------------------------

    async def task_context(self, stored: Any) -> bool:
        """Store the task context; False if it is there, `ConflictError` if another one is."""
        told = self._told(record := dump_json(stored)[0], About.CONTEXT)
        return await self._put("t", "d", record, told, what="task context")

    async def conversation(self, session_key: str, digest: str, stored: Any) -> bool:
        """Begin a conversation between agents, or say who takes part; as `task_context`."""
        begin, record = Incr("", {"cn": 1}), dump_json(stored)[0]
        told = self._told(record, About.CONVERSATION, session_key)
        return await self._put("a", digest, record, told, begin, what="agent conversation")

    def _told(self, record: bytes, kind: About, *ids: str) -> tuple[Op, ...]:
        return self._events.event(record, kind, self._session.session_id, *ids)

    async def _put(
        self, key: str, name: str, value: bytes, told: tuple[Op, ...], *more: Op, what: str
    ) -> bool:
        """Set a field that is absent, with `more` in the same batch."""
        for _ in range(_ATTEMPTS):
            ((found,),) = await self._runtime.read(Batch(*self._place, (Get(key, (name,)),)))
            if found == value or (found is not None and value == _UNKNOWN):
                return False
            ops: tuple[Op, ...] = (Put(key, {name: value}, if_absent="abort"), *more, *told)
            if found == _UNKNOWN:
                ops = (RequireEquals(key, name, found), Put(key, {name: value}), *told)
            elif found is not None:
                raise ConflictError(
                    f"session {self._session.session_id!r} has another {what}; it stays"
                )
            if await self._write(ops, unfinished=self._unfinished):
                return True
            await self._look()
        raise self._restless()

    def _restless(self) -> ConflictError:
        return ConflictError(f"session {self._session.session_id!r} changes all the time")


def chunks(items: Sequence[Incoming]) -> Iterator[Sequence[Incoming]]:
    """Parts that fit into one batch each."""
    start = size = 0
    for number, one in enumerate(items):
        full = number - start >= CHUNK_ITEMS or size + len(one.item) > CHUNK_BYTES
        if full and number > start:
            yield items[start:number]
            start, size = number, 0
        size += len(one.item)
    if start < len(items):
        yield items[start:]


def _append(key: str, items: Sequence[Incoming], *, fresh: bool) -> Append:
    first = items[0].seq if fresh else None
    if first is not None and first + len(items) > MAX_INTEGER:
        raise InvalidInputError(f"seq is {first}")
    return Append(key, tuple(one.item for one in items), first=first)
