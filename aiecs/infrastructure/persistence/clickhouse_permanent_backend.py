"""Copies for good in ClickHouse, for applications that bring their own events."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from typing import Any, Self

from aiecs.core.errors import ArchiveUnavailableError, InvalidInputError, LifecycleError
from aiecs.core.interface.storage_interface import IPermanentStorageBackend
from aiecs.infrastructure.persistence.archive import ClickHouseArchive, appended
from aiecs.infrastructure.persistence.archive.group_writer import GroupWriter, Written
from aiecs.infrastructure.persistence.clickhouse_client import ClickHouseClient

_CLOSING_SECONDS = 5.0
_log = logging.getLogger(__name__)


class ClickHousePermanentBackend(IPermanentStorageBackend):
    """Appends events to the archive's tables; rows that wait together are one insert.

    What is not given comes from the CLICKHOUSE_* settings; `client` stands for all of it. Given to
    an engine as its `permanent_backend`, it only names the archive: the engine ships there itself.

    An append returns True when the row is in ClickHouse, and False when it will never take it (the
    log says why). `InvalidInputError`: the event is none, nothing was sent. `ArchiveError`: it may
    be in or not; try again. An event that arrives again, with the same ids, content and time, is
    the same row; of what says no time of its own, a row holds the time of its last arrival. Rows
    of sessions hold the state as it was told, so their counters are totals; in the rows that an
    engine ships they are what a change has added. Usable from several event loops.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        username: str | None = None,
        password: str | None = None,
        database: str | None = None,
        *,
        client: ClickHouseClient | None = None,
    ) -> None:
        given = (host, port, username, password, database)
        if client is not None and any(part is not None for part in given):
            raise InvalidInputError("a client names host, port, user and database already")
        named = ClickHouseClient(*given) if client is None else client
        self._archive = ClickHouseArchive(named.address)
        self._lock = threading.Lock()
        self._writer: GroupWriter | None = None

    @classmethod
    def from_url(cls, url: str) -> Self:
        """A backend for `clickhouse://...` or `chdb:///...`; nothing is connected yet.

        `InvalidInputError` for a URL that names none.
        """
        return cls(client=ClickHouseClient.from_url(url))

    def __repr__(self) -> str:
        return f"ClickHousePermanentBackend({self._archive.name})"

    @property
    def archive(self) -> ClickHouseArchive:
        """The archive that it writes to, which can be asked as well while it is open."""
        return self._archive

    async def initialize(self) -> bool:
        """Connect and make the tables; False if ClickHouse cannot be reached now.

        Appends then try to reach it themselves. `ArchiveAuthError` for a wrong password,
        `ArchiveSchemaError` for a database with other tables of these names, `MissingExtraError`
        without the driver.
        """
        with self._lock:
            writer = self._writer = self._writer or GroupWriter(self._archive)
        try:
            await asyncio.to_thread(writer.open)
        except ArchiveUnavailableError as error:
            _log.warning("the archive cannot be reached yet: %s", error)
            return False
        except BaseException:
            await self.close()
            raise
        return True

    async def close(self) -> None:
        """Write what waits, for at most 5 s, and disconnect; idempotent.

        Appends that are not done by then end in `ArchiveUnavailableError`.
        """
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is not None:
            await asyncio.to_thread(writer.close, _CLOSING_SECONDS)

    async def append_session_event(
        self, session_id: str, event_type: str, session: dict[str, Any]
    ) -> bool:
        """A row of `context_sessions`, at the session's `last_activity`."""
        return await self._append(appended.session_event(session_id, event_type, session))

    async def append_conversation_message(self, session_id: str, message: dict[str, Any]) -> bool:
        """A row of `context_conversations`, at the message's `timestamp`.

        `message` is that of `to_dict()` of a `ConversationMessage` or an
        `AgentCommunicationMessage`; `seq` and `incarnation` are its place, if they are there.
        """
        return await self._append(appended.message(session_id, message))

    async def append_task_context_snapshot(self, session_id: str, context: dict[str, Any]) -> bool:
        """A row of `context_task_contexts`."""
        return await self._append(appended.task_context(session_id, context))

    async def append_checkpoint(
        self,
        thread_id: str,
        checkpoint_id: str,
        checkpoint_data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
    ) -> bool:
        """A row of `context_checkpoints`, at the checkpoint's `ts` if it has one."""
        written = appended.checkpoint(thread_id, checkpoint_id, checkpoint_data, metadata)
        return await self._append(written)

    async def append_checkpoint_writes(
        self,
        thread_id: str,
        checkpoint_id: str,
        task_id: str,
        writes_data: Sequence[tuple[Any, ...]],
    ) -> bool:
        """A row of `context_checkpoint_writes`."""
        pairs = appended.checkpoint_writes(thread_id, checkpoint_id, task_id, writes_data)
        return await self._append(pairs)

    async def append_conversation_session(
        self, session_key: str, conversation: dict[str, Any]
    ) -> bool:
        """A row of `context_conversation_sessions`, at the conversation's `created_at`."""
        return await self._append(appended.conversation(session_key, conversation))

    async def _append(self, written: Written) -> bool:
        writer = self._writer
        if writer is None:
            raise LifecycleError("call initialize() first; after close() nothing can be appended")
        return await writer.write(written)
