"""ContextEngine: the one public way in. Every method hands on to the service that does the work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Literal

from aiecs.core.errors import InvalidInputError
from aiecs.core.interface.storage_interface import (
    ICheckpointerBackend,
    IPermanentStorageBackend,
    IStorageBackend,
)
from aiecs.core.interface.store import Store
from aiecs.domain.context.archive_calls import ArchiveCalls
from aiecs.domain.context.checkpoint_calls import CheckpointCalls
from aiecs.domain.context.configuration import (
    Config,
    checked_archive,
    checked_observers,
    checked_store,
)
from aiecs.domain.context.conversation_models import (
    AgentCommunicationMessage,
    ConversationParticipant,
    ConversationSession,
)
from aiecs.domain.context.maintenance_calls import MaintenanceCalls
from aiecs.domain.context.models import (
    ConversationMessage,
    DeletionReport,
    Page,
    SessionMetrics,
)
from aiecs.domain.context.observation import Observer, operation
from aiecs.domain.context.window import ContextWindow, latest_that_fit
from aiecs.domain.task.task_context import TaskContext


class ContextEngine(
    CheckpointCalls, ArchiveCalls, MaintenanceCalls, IStorageBackend, ICheckpointerBackend
):
    """Sessions, conversations, task contexts, checkpoints and agent conversations of AI systems.

    `store`: a URL (`memory://`, `sqlite:///file.db`, `redis://host:6379/1`, ...) or a `Store`;
    without it `AIECS_STORE_URL`, then Redis from `REDIS_URL` or `REDIS_HOST` and its kin.
    `use_existing_redis`: share the process's connections to that Redis.
    `archive`: the URL of a cold archive (`clickhouse://host:8123/db`, `chdb:///directory`) that
    every write is brought into; without it `AIECS_ARCHIVE_URL`, then `CLICKHOUSE_*` if
    `CLICKHOUSE_ENABLED`. `permanent_backend`: a place of your own for that, instead.
    `session_ttl`, `checkpoint_ttl`: seconds after the last write, None for never; by default 24 h
    and 7 days on Redis and in memory, never on SQLite.
    `max_messages_per_session`: keep only so many of the newest; None, the default, keeps all.
    `strict_sessions`: writes to unknown or ended sessions raise instead of creating them; by
    default they do not. `operation_timeout`: seconds that a store call may take, by default 1.
    What is given wins over its variable `AIECS_*`, which wins over the default.
    `observers` are told of every operation.

    Use it as `async with ContextEngine(...) as engine`, or `initialize()` and `close()`; other
    methods raise `LifecycleError` before and after. Usable from any number of event loops and
    threads. Every method but `health_check` raises `StoreError` when the store is down: no None or
    [] for that. `operation_timeout` bounds each store call; a method makes a few. `outcome` tells
    whether a write may have been applied. A write is one atomic step: all is stored, or nothing.
    """

    def __init__(
        self,
        use_existing_redis: bool = True,
        *,
        store: str | Store | None = None,
        archive: str | None = None,
        compression_config: Any = None,
        llm_client: Any = None,
        permanent_backend: IPermanentStorageBackend | None = None,
        session_ttl: float | None = ...,  # type: ignore[assignment]  # the store's default
        checkpoint_ttl: float | None = ...,  # type: ignore[assignment]  # as above
        max_messages_per_session: int | None = ...,  # type: ignore[assignment]  # AIECS_..., None
        strict_sessions: bool = ...,  # type: ignore[assignment]  # AIECS_..., False
        operation_timeout: float = ...,  # type: ignore[assignment]  # AIECS_..., 1.0
        on_outage: Literal["fail"] = "fail",
        observers: Iterable[Observer] = (),
    ) -> None:
        if on_outage != "fail":
            raise InvalidInputError(f"on_outage is 'fail', got {on_outage!r}")
        config = Config(
            session_ttl=session_ttl,
            checkpoint_ttl=checkpoint_ttl,
            max_messages_per_session=max_messages_per_session,
            strict_sessions=strict_sessions,
            operation_timeout=operation_timeout,
            observers=checked_observers(observers),
        )
        cold = checked_archive(archive, permanent_backend)
        super().__init__(checked_store(store), config, share=use_existing_redis, archive=cold)
        self.compression_config = compression_config
        self.llm_client = llm_client

    @operation
    async def create_session(
        self,
        session_id: str | None = None,
        user_id: str = "",
        metadata: dict[str, Any] | None = None,
    ) -> SessionMetrics:
        """Create a session; without an id it gets a UUIDv7.

        Of an id that exists: the stored session, unchanged, if it has the same user; an unowned
        one is given to `user_id`, `metadata` merged in; `SessionExistsError` for another's.
        `metadata` is JSON of at most 900 keys and 1 MiB at once, else `InvalidInputError`.
        """
        return await self._on.sessions.create(session_id, user_id, metadata)

    @operation
    async def get_session(self, session_id: str) -> SessionMetrics | None:
        """The session and its counters; None if unknown or expired.

        What cannot be decoded of it is left out and counted in `health_check`;
        `CorruptRecordError` if the store cannot read it at all.
        """
        return await self._on.sessions.get(session_id)

    @operation
    async def update_session(
        self,
        session_id: str,
        updates: dict[str, Any] | None = None,
        increment_requests: bool = False,
        add_processing_time: float = 0.0,
        mark_error: bool = False,
    ) -> bool:
        """Add to the counters (atomically) and note the activity; False if the session is unknown.

        `updates` may hold `status` (active, completed, failed, expired) and `metadata`, merged key
        by key (limits as for `create_session`), where None removes one. `add_processing_time` is in
        seconds.
        """
        return await self._on.sessions.update(
            session_id, updates, increment_requests, add_processing_time, mark_error
        )

    @operation
    async def end_session(self, session_id: str, status: str = "completed") -> bool:
        """Set the status; False if the session is unknown. Its content stays."""
        return await self._on.sessions.end(session_id, status)

    @operation
    async def list_sessions(
        self,
        user_id: str | None = None,
        status: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[SessionMetrics]:
        """A page of sessions, latest activity first (to within 60 s).

        Looks at 1,000 entries at most, so a page may be short or empty: only a `cursor` of None
        in the answer is the end.
        """
        return await self._on.listing.page(user_id, status, limit, cursor)

    @operation
    async def list_all_sessions(
        self, user_id: str | None = None, status: str | None = None
    ) -> list[SessionMetrics]:
        """Every session, oldest activity first; `iter_sessions` for more than fit into memory."""
        return [session async for session in self._on.listing.walk(user_id, status)]

    def iter_sessions(
        self, user_id: str | None = None, status: str | None = None
    ) -> AsyncIterator[SessionMetrics]:
        """Every session once, oldest activity first; none is missed for being used meanwhile."""
        return self._on.listing.walk(user_id, status)

    @operation
    async def delete_session(self, session_id: str) -> DeletionReport:
        """Remove a session with everything in it and its threads; what that was.

        With an archive its rows go too. That is waited for, up to 10 s; `complete` is False when it
        is left to whoever ships, and nothing of it is shown meanwhile. For ten minutes a write does
        not bring the id back (`SessionNotFoundError`), only `create_session` does.
        """
        return await self._on.deletions.delete_session(session_id)

    @operation
    async def delete_user(
        self, user_id: str, *, namespaces: Iterable[Sequence[str]] = ()
    ) -> DeletionReport:
        """Remove every session of a user, as `delete_session` does; what that was.

        `namespaces`: and all items of long-term memory whose namespaces begin so, for nothing else
        says whose they are; as in `[("users", user_id)]`.
        Of the archive everything that the user owned; when it cannot tell what that is, `complete`
        is False: call again.
        """
        return await self._on.deletions.delete_user(user_id, namespaces)

    @operation
    async def add_conversation_message(
        self,
        session_id: str,
        role: str,
        content: str,
        metadata: dict[str, Any] | None = None,
        *,
        name: str | None = None,
        tool_calls: list[Any] | None = None,
        tool_call_id: str | None = None,
        parts: list[Any] | None = None,
        pinned: bool = False,
        idempotency_key: str | None = None,
    ) -> bool:
        """Append a message; True. Creates an unknown session, unowned.

        `input_tokens` and `output_tokens` in `metadata` are added to the session's counters.
        `idempotency_key` makes a repetition harmless (the session's last 1,000 are kept): the same
        message under it is not stored again, another one is a `ConflictError`. Under
        `strict_sessions`: `SessionNotFoundError`, `SessionEndedError`. At most 1 MiB as JSON.
        """
        return await self._on.conversations.add(
            session_id,
            role,
            content,
            metadata,
            name=name,
            tool_calls=tool_calls,
            tool_call_id=tool_call_id,
            parts=parts,
            pinned=pinned,
            idempotency_key=idempotency_key,
        )

    @operation
    async def add_conversation_messages(
        self,
        session_id: str,
        messages: Iterable[ConversationMessage | Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
    ) -> bool:
        """Append up to 1,000 messages in one step: all of them, in order, or none; True.

        As `ConversationMessage` or as a dict of its fields (`timestamp` is now unless given).
        """
        return await self._on.conversations.add_all(
            session_id, messages, idempotency_key=idempotency_key
        )

    @operation
    async def get_conversation_history(
        self,
        session_id: str,
        limit: int | None = 50,
        *,
        before: int | None = None,
        after: int | None = None,
        include_archived: bool | None = None,
    ) -> list[ConversationMessage]:
        """The latest `limit` messages, oldest first; all of them for None or less than 1.

        `before=seq` gives the latest of those before that message (page back), `after=seq` the
        first of those after it (go on reading). [] if the session is unknown. What cannot be
        decoded is left out, counted in `health_check`, and replaced by an older message.

        With an archive, what the session held before it expired, or before it was trimmed, comes
        first where the store alone has fewer than `limit`: if the archive answers within
        `AIECS_ARCHIVE_READ_TIMEOUT`; else that gap is counted in `health_check`.
        `include_archived=True`: an `ArchiveError` instead of a gap; False: the store alone.
        """
        return await self._on.conversations.history(
            session_id, limit, before=before, after=after, include_archived=include_archived
        )

    @operation
    async def build_context(
        self, session_id: str, max_tokens: int, *, query: str | None = None
    ) -> ContextWindow:
        """The latest messages that take at most `max_tokens` together (estimated).

        `query` does not select yet.
        """
        del query
        return await latest_that_fit(self._on.conversations, session_id, max_tokens)

    @operation
    async def store_task_context(self, session_id: str, context: Any) -> bool:
        """Store the session's `TaskContext`; False, and nothing done, for anything else."""
        return await self._on.task_contexts.store(session_id, context)

    @operation
    async def get_task_context(self, session_id: str) -> TaskContext | None:
        """A copy of the session's task context; None if there is none."""
        return await self._on.task_contexts.get(session_id)

    @operation
    async def delete_thread(self, thread_id: str) -> DeletionReport:
        """Remove a thread with its checkpoints and writes; what that was."""
        return await self._on.deletions.delete_thread(thread_id)

    @operation
    async def create_conversation_session(
        self,
        session_id: str,
        participants: Iterable[ConversationParticipant | Mapping[str, Any]],
        session_type: str,
        metadata: dict[str, Any] | None = None,
    ) -> str:
        """Begin a conversation between agents in a session; the key to write to it.

        The same session, type and participants give the same key, any other a different one.
        """
        return await self._on.agents.create(session_id, participants, session_type, metadata)

    @operation
    async def add_agent_communication_message(  # noqa: PLR0917 - as in aiecs 2
        self,
        session_key: str,
        sender_id: str,
        sender_type: str,
        sender_role: str,
        recipient_id: str | None = None,
        recipient_type: str | None = None,
        recipient_role: str | None = None,
        content: str | None = None,
        message_type: str = "communication",
        metadata: dict[str, Any] | None = None,
    ) -> bool:
        """Append a message (`content` is required) of any type to an agent conversation; True."""
        sender = (sender_id, sender_type, sender_role)
        recipient = (recipient_id, recipient_type, recipient_role)
        return await self._on.agents.add(
            session_key, *sender, *recipient, content, message_type, metadata
        )

    @operation
    async def get_agent_conversation_history(
        self, session_key: str, limit: int | None = 50, message_types: Iterable[str] | None = None
    ) -> list[AgentCommunicationMessage]:
        """The latest `limit` messages of these types (None: of all), oldest first.

        All of them for None or less than 1; [] if the conversation is unknown. What cannot be
        decoded is left out and counted in `health_check`.
        """
        return await self._on.agents.history(session_key, limit, message_types)

    @operation
    async def get_conversation_session(self, session_key: str) -> ConversationSession | None:
        """Who takes part in an agent conversation, and since when; None if unknown.

        `CorruptRecordError` if it cannot be decoded.
        """
        return await self._on.agents.get(session_key)

    @operation
    async def list_conversation_sessions(self, session_id: str) -> list[ConversationSession]:
        """The agent conversations of a session, oldest first."""
        return await self._on.agents.list(session_id)
