"""Everything that is kept of one user, in the store and in its archive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiecs.core.archiving import Archiving
from aiecs.core.clock import EPOCH, from_micros
from aiecs.core.cold import ColdReader, Wanted
from aiecs.core.errors import ArchiveRowError, CorruptRecordError
from aiecs.core.ids import check_id
from aiecs.core.interface.store import MAX_INTEGER, IndexRange
from aiecs.domain.context.asked import Asked
from aiecs.domain.context.indexes import pages, sessions_of
from aiecs.domain.context.item_places import checked_prefixes
from aiecs.domain.context.items import Items
from aiecs.domain.context.messages import decode_items, to_messages
from aiecs.domain.context.models import ConversationMessage, SessionMetrics
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.thread_state.listing import GraphCheckpoints
from aiecs.domain.context.transfer.exporting import Exporter
from aiecs.domain.context.transfer_records import (
    GraphCheckpointRecord,
    ItemRecord,
    MessageRecord,
    SessionRecord,
    UserRecord,
)

if TYPE_CHECKING:
    from aiecs.domain.context.conversations import Conversations

_PAGE = 200
_SECONDS = 30.0
_AFTER_ALL = "~"


class Exports:
    """Reads what belongs to a user. Raises `StoreError`, and `ArchiveError` for an archive's."""

    def __init__(
        self,
        runtime: Runtime,
        conversations: Conversations,
        graphs: GraphCheckpoints,
        archiving: Archiving | None,
    ) -> None:
        self._runtime = runtime
        self._conversations = conversations
        self._graphs = graphs
        self._archiving = archiving

    async def user(
        self, user_id: str, namespaces: Iterable[Sequence[str]], skip: Collection[str]
    ) -> AsyncIterator[UserRecord]:
        """See `ContextEngine.export_user`."""
        check_id(user_id, "user_id")
        prefixes = checked_prefixes(namespaces)
        seen = set(skip)
        place = (sessions_of(user_id),)
        async for page in pages(self._runtime, place, IndexRange("_", limit=_PAGE)):
            for entry in page:
                if entry.member in seen:
                    continue
                async for record in self._session(entry.member, user_id):
                    seen.add(entry.member)
                    yield record
        reader = None if self._archiving is None else self._archiving.reader
        if self._archiving is not None and reader is not None:
            async for record in self._archived(self._archiving, reader, user_id, seen):
                yield record
        for prefix in prefixes:
            async for item in Items(self._runtime).walk(prefix):
                times = (from_micros(micros).isoformat() for micros in (item.created, item.updated))
                yield ItemRecord(item.namespace, item.key, item.value, *times)

    async def _session(self, session_id: str, user_id: str) -> AsyncIterator[UserRecord]:
        """One that the store has, if it is the user's."""
        exporter = Exporter(self._runtime)
        told = False
        async for record in exporter.session(session_id):
            if isinstance(record, SessionRecord):
                if record.session.user_id != user_id:
                    return
                yield record
                for message in await self._before(session_id):
                    yield MessageRecord(session_id, message)
                told = True
                continue
            yield record
        if not told:
            return
        for thread_id in await exporter.threads_of(session_id):
            async for state in self._states(thread_id, session_id):
                yield state

    async def _before(self, session_id: str) -> list[ConversationMessage]:
        """What only the archive has of a session that is in the store."""
        if self._archiving is None or self._archiving.reader is None:
            return []
        hot = await self._conversations.history(session_id, None, include_archived=False)
        every = await self._conversations.history(session_id, None, include_archived=True)
        first = next((message.seq for message in hot if message.seq is not None), MAX_INTEGER)
        return [one for one in every if one.seq is None or one.seq < first]

    async def _states(self, thread_id: str, session_id: str) -> AsyncIterator[UserRecord]:
        """The states of graphs, oldest first; a sealed one as what can be told of it."""
        try:
            listed = await self._graphs.latest(thread_id, None)
        except CorruptRecordError:
            self._runtime.note_corrupt("state of a graph", thread_id)
            return
        for one in reversed(listed):
            stored: dict[str, Any] = {k: one[k] for k in ("data", "metadata", "created_at")}
            if pending := await self._graphs.writes(thread_id, one["checkpoint_id"]):
                stored["pending_writes"] = pending
            yield GraphCheckpointRecord(thread_id, session_id, one["checkpoint_id"], stored)
            await asyncio.sleep(0)

    # --- the archive ----------------------------------------------------------------------------

    async def _archived(
        self, archiving: Archiving, reader: ColdReader, user_id: str, seen: set[str]
    ) -> AsyncIterator[UserRecord]:
        """Sessions that the store does not have any more, or has of somebody else."""
        with suppress(ArchiveRowError):  # what was set aside will not arrive by waiting
            await archiving.barrier(None, _SECONDS)
        for session_id in await reader.sessions_of(user_id, _SECONDS):
            if session_id in seen:
                continue
            asked = Asked(reader, MAX_INTEGER, _SECONDS, insist=True)
            everything = Wanted(session_id, None, _AFTER_ALL, MAX_INTEGER, 0, MAX_INTEGER, 1)
            lives = await asked.lives(everything, None)
            own = tuple(one.incarnation for one in lives if one.user_id == user_id and not one.gone)
            messages = await self._messages_of(reader, everything._replace(lives=own))
            if own:
                yield _session_of(session_id, user_id, messages)
            for message in messages:
                yield MessageRecord(session_id, message)

    async def _messages_of(self, reader: ColdReader, wanted: Wanted) -> list[ConversationMessage]:
        asked = Asked(reader, MAX_INTEGER, _SECONDS, insist=True)
        found, _ = await asked.messages(wanted._replace(newest=False), None)
        rows, corrupt = decode_items(0, [message.record for message in found])
        for number in corrupt:
            self._runtime.note_corrupt("archived message", f"{wanted.session_id} #{number}")
        messages = to_messages(rows)
        numbered = zip(messages, (row[0] for row in rows), strict=True)
        return [replace(one, seq=found[number].sequence) for one, number in numbered]


def _session_of(
    session_id: str, user_id: str, messages: list[ConversationMessage]
) -> SessionRecord:
    """What can be told of a session that only its messages are left of."""
    times = [message.timestamp for message in messages] or [EPOCH]
    return SessionRecord(
        SessionMetrics(session_id, user_id, min(times), max(times), status="expired")
    )
