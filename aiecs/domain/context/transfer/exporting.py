"""From a store to records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import unquote

from aiecs.core.codec import load_json
from aiecs.core.errors import ConflictError, CorruptRecordError
from aiecs.core.interface.store import Batch, Get, IndexRange, LogSlice, Read
from aiecs.core.keys import session_place, thread_place
from aiecs.domain.context import indexes
from aiecs.domain.context.groups import (
    conversation_log,
    field_of,
    id_of,
    linked_threads,
    read_thread,
)
from aiecs.domain.context.messages import decode_items, to_messages
from aiecs.domain.context.models import ConversationMessage
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.session_record import read_session
from aiecs.domain.context.transfer_records import (
    AgentMessageRecord,
    CheckpointRecord,
    ConversationRecord,
    MessageRecord,
    Record,
    SessionRecord,
    TaskContextRecord,
    WritesRecord,
    key_of,
)

_PAGE = 500
_FIRST_PAGE = 100
_PAGE_BYTES = 4 * 1024 * 1024
_RECORDS_AT_ONCE = 50


class Exporter:
    """Reads sessions and threads of one store. Every call raises `StoreError` when it is down.

    Records that cannot be decoded are left out and counted in the runtime.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        #: Checkpoints of graphs that were met: the format of exports does not hold them.
        self.passed_over = 0

    @property
    def corrupt(self) -> int:
        """How many records could not be decoded so far."""
        return self._runtime.corrupt

    async def session(self, session_id: str) -> AsyncIterator[Record]:
        """Everything that a session holds, its checkpoint threads included; nothing if unknown.

        Messages that arrive meanwhile are taken along. `ConflictError` when the session is rewound
        or deleted under way.
        """
        ops = (Get(""), Get("t", ("d",)), Get("a"), Get("h"))
        batch = Batch(*session_place(session_id), ops)
        head, (context,), agents, links = await self._runtime.read(batch)
        if "~i" not in head:
            return
        yield SessionRecord(read_session(self._runtime, session_id, head))
        async for slice_ in self._log(session_id, "m"):
            for message in self._messages(session_id, slice_):
                yield MessageRecord(session_id, message)
        stored = self._json(context, "task context", session_id)
        if stored is not None:
            yield TaskContextRecord(session_id, stored)
        for digest, record in agents.items():
            async for part in self._conversation(session_id, digest, record):
                yield part
        names = tuple(map(id_of, links))
        for thread in await linked_threads(self._runtime, session_id, names):
            async for record in self._thread(thread.thread_id, thread.head.get("s")):
                yield record

    async def threads_of(self, session_id: str) -> list[str]:
        """The ids of a session's threads."""
        (links,) = await self._runtime.read(Batch(*session_place(session_id), (Get("h"),)))
        names = tuple(map(id_of, links))
        return [one.thread_id for one in await linked_threads(self._runtime, session_id, names)]

    async def _conversation(
        self, session_id: str, digest: str, record: bytes
    ) -> AsyncIterator[Record]:
        stored = self._json(record, "agent conversation", session_id)
        if stored is None:
            return
        key = key_of(session_id, digest)
        yield ConversationRecord(session_id, key, stored)
        async for found in self._log(session_id, conversation_log(digest)):
            for item in filter(None, found.items):  # an empty one has been redacted
                message = self._json(item, "agent message", key)
                if message is not None:
                    yield AgentMessageRecord(session_id, key, message)

    async def loose_threads(self) -> AsyncIterator[Record]:
        """The checkpoint threads that belong to no session."""
        seen: set[str] = set()
        async for thread_id in self._thread_ids():
            if thread_id not in seen and await self._is_loose(thread_id):
                seen.add(thread_id)
                async for record in self._thread(thread_id, None):
                    yield record

    async def _thread_ids(self) -> AsyncIterator[str]:
        """Oldest activity first, so that one which moves meanwhile is met twice, not missed."""
        for place in indexes.THREADS:
            async for page in self._members(place.bucket, "", place.key):
                for thread_id in page:
                    yield thread_id

    async def _is_loose(self, thread_id: str) -> bool:
        thread = await read_thread(self._runtime, thread_id)
        if thread is None or thread.due(None) or "s" in thread.head:
            return False
        namesake = Batch(*session_place(thread_id), (Get("", ("~i",)),))
        return bool((await self._runtime.read(namesake))[0] == [None])

    # --- logs -----------------------------------------------------------------------------------

    async def _log(self, session_id: str, key: str) -> AsyncIterator[LogSlice]:
        """A log in pages, oldest first."""
        start: int | None = None
        epoch, page = "", _FIRST_PAGE
        while True:
            read = Read(key, start, None, page, newest=False)
            (found,) = await self._runtime.read(Batch(*session_place(session_id), (read,)))
            if start is not None and found.epoch != epoch:
                raise ConflictError(f"session {session_id!r} was rewound while it was exported")
            if not found.items:
                return
            yield found
            epoch, start = found.epoch, found.first + len(found.items)
            if start >= found.next:
                return
            average = sum(map(len, found.items)) // len(found.items) + 1
            page = max(1, min(_PAGE, _PAGE_BYTES // average))

    def _messages(self, session_id: str, found: LogSlice) -> list[ConversationMessage]:
        rows, corrupt = decode_items(found.first, found.items)
        for seq in corrupt:
            self._runtime.note_corrupt("message", f"{session_id} #{seq}")
        return to_messages(rows)

    # --- threads --------------------------------------------------------------------------------

    async def _thread(self, thread_id: str, session: bytes | None) -> AsyncIterator[Record]:
        session_id = None if session is None else session.decode()
        of_graphs = Batch(*thread_place(thread_id), (Get("", ("gn",)),))
        self.passed_over += int((await self._runtime.read(of_graphs))[0][0] or 0)
        async for page in self._members(*thread_place(thread_id), "o"):
            records = await self._fields(thread_id, "d", page)
            for name, record in zip(page, records, strict=True):
                stored = self._json(record, "checkpoint", thread_id)
                if stored is not None:
                    yield CheckpointRecord(thread_id, session_id, name, stored)
        async for page in self._members(*thread_place(thread_id), "p"):
            records = await self._fields(thread_id, "w", page)
            for name, record in zip(page, records, strict=True):
                stored = self._json(record, "checkpoint writes", thread_id)
                if stored is not None:
                    checkpoint_id, _, task_id = map(unquote, name.partition("/"))
                    yield WritesRecord(thread_id, session_id, checkpoint_id, task_id, stored)

    async def _members(self, bucket: int, group: str, key: str) -> AsyncIterator[list[str]]:
        """The members of an index in pages, lowest score first."""
        cursor: tuple[str, int] | None = None
        while True:
            op = IndexRange(key, limit=_RECORDS_AT_ONCE, cursor=cursor)
            (page,) = await self._runtime.read(Batch(bucket, group, (op,)))
            if page:
                yield [member for member, _ in page]
            if len(page) < _RECORDS_AT_ONCE:
                return
            cursor = page[-1]

    async def _fields(self, thread_id: str, key: str, names: Sequence[str]) -> list[bytes | None]:
        op = Get(key, tuple(map(field_of, names)))
        (found,) = await self._runtime.read(Batch(*thread_place(thread_id), (op,)))
        return list(found)

    def _json(self, record: bytes | None, what: str, where: str) -> Any:
        if record is None:
            return None
        try:
            return load_json(record)
        except CorruptRecordError:
            self._runtime.note_corrupt(what, where)
            return None
