"""What ContextEngine promises to applications, and to what it may hand copies for good.

These interfaces face outward: code that wants "some storage for sessions" can be written
against them. A hot backend implements `Store` instead (`aiecs.core.interface.store`).

Domain values (`SessionMetrics`, `ConversationMessage`, `TaskContext`) appear as `Any`: the
core does not know the domain. Every call raises a `ContextEngineError` when it cannot be
carried out; None, False and [] only ever mean that there is nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class ISessionStorage(ABC):
    """Sessions and their counters."""

    @abstractmethod
    async def create_session(
        self, session_id: str, user_id: str, metadata: dict[str, Any] | None = None
    ) -> Any:
        """Create the session, or return the stored one of the same user unchanged."""

    @abstractmethod
    async def get_session(self, session_id: str) -> Any | None:
        """The session, None if unknown or expired."""

    @abstractmethod
    async def update_session(
        self,
        session_id: str,
        updates: dict[str, Any] | None = None,
        increment_requests: bool = False,
        add_processing_time: float = 0.0,
        mark_error: bool = False,
    ) -> bool:
        """Add to the counters (time in seconds), note the activity; False if unknown."""

    @abstractmethod
    async def end_session(self, session_id: str, status: str = "completed") -> bool:
        """Set the final status; False if unknown."""


class IConversationStorage(ABC):
    """The messages of a session."""

    @abstractmethod
    async def add_conversation_message(
        self,
        session_id: str,
        role: str,
        content: str,
        metadata: dict[str, Any] | None = None,
    ) -> bool:
        """Append a message; True."""

    @abstractmethod
    async def get_conversation_history(self, session_id: str, limit: int = 50) -> list[Any]:
        """The latest `limit` messages, oldest first; all of them if `limit` is below 1."""


class ICheckpointStorage(ABC):
    """The checkpoints of a thread.

    A checkpoint is a dict of checkpoint_id, thread_id, data, metadata and created_at
    (ISO 8601, UTC).
    """

    @abstractmethod
    async def store_checkpoint(
        self,
        thread_id: str,
        checkpoint_id: str,
        checkpoint_data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
    ) -> bool:
        """Store a checkpoint as the thread's latest; True."""

    @abstractmethod
    async def get_checkpoint(
        self, thread_id: str, checkpoint_id: str | None = None
    ) -> dict[str, Any] | None:
        """A checkpoint, the latest stored one without an id; None if there is none."""

    @abstractmethod
    async def list_checkpoints(self, thread_id: str, limit: int = 10) -> list[dict[str, Any]]:
        """The latest `limit` checkpoints, newest first."""


class ITaskContextStorage(ABC):
    """One task context per session."""

    @abstractmethod
    async def get_task_context(self, session_id: str) -> Any | None:
        """The stored task context, None if there is none."""

    @abstractmethod
    async def store_task_context(self, session_id: str, context: Any) -> bool:
        """Store a `TaskContext` in place of an earlier one; False for anything else."""


class IStorageBackend(
    ISessionStorage, IConversationStorage, ICheckpointStorage, ITaskContextStorage
):
    """Everything that an application stores, and the life of what stores it."""

    @abstractmethod
    async def initialize(self) -> bool:
        """Open the storage; False if it is a replacement for the configured one."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what is pending and let go of the storage; more calls do no harm."""

    @abstractmethod
    async def health_check(self) -> dict[str, Any]:
        """Whether the storage works: at least `status` and `storage_backend`."""

    @abstractmethod
    async def get_metrics(self) -> dict[str, Any]:
        """Totals over the whole storage: sessions, messages, checkpoints."""

    @abstractmethod
    async def cleanup_expired_sessions(self, max_idle_hours: int = 24) -> int:
        """Remove sessions without a write for `max_idle_hours`; how many."""


class ICheckpointerBackend(ABC):
    """What a workflow engine's checkpointer needs."""

    @abstractmethod
    async def put_checkpoint(
        self,
        thread_id: str,
        checkpoint_id: str,
        checkpoint_data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
    ) -> bool:
        """Store a checkpoint as the thread's latest; True."""

    @abstractmethod
    async def get_checkpoint(
        self, thread_id: str, checkpoint_id: str | None = None
    ) -> dict[str, Any] | None:
        """A checkpoint, the latest stored one without an id; None if there is none."""

    @abstractmethod
    async def list_checkpoints(self, thread_id: str, limit: int = 10) -> list[dict[str, Any]]:
        """The latest `limit` checkpoints, newest first."""

    @abstractmethod
    async def put_writes(
        self,
        thread_id: str,
        checkpoint_id: str,
        task_id: str,
        writes_data: list[tuple[Any, ...]],
    ) -> bool:
        """Keep what a task has written, (channel, value) pairs, for a checkpoint; True."""

    @abstractmethod
    async def get_writes(self, thread_id: str, checkpoint_id: str) -> list[Any]:
        """The (channel, value) pairs kept for a checkpoint; [] if there are none."""


class IPermanentStorageBackend(ABC):
    """A place that keeps copies for good; append only.

    Each method takes one event and returns True when the event is safe, False when it is
    refused for good. A failure that another try can cure is an exception. The same event
    may arrive more than once.

    An engine that is given one (`permanent_backend=`) calls it in an event loop of its own: what
    belongs to a loop, as a pool of connections, is made in `initialize`. It is called until it
    returns True. Events of a session come in their order, each until it has been answered with
    True or False; what is refused for good is set aside in the store.
    """

    @abstractmethod
    async def initialize(self) -> bool:
        """Connect and make sure that the tables exist; False if that cannot be."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what is pending and disconnect; more calls do no harm."""

    @abstractmethod
    async def append_session_event(
        self, session_id: str, event_type: str, session: dict[str, Any]
    ) -> bool:
        """A session was created, updated or ended: its state afterwards, as a dict.

        The keys are those of `SessionMetrics.to_dict()`, and `incarnation`: an id may be used
        again. From an engine it is the state when the event is brought in, so it may be ahead of
        the event; of a session that is gone by then, it is what the event has changed.
        """

    @abstractmethod
    async def append_conversation_message(self, session_id: str, message: dict[str, Any]) -> bool:
        """A message was added to a session, or to the conversation of that session key.

        The keys are those of `to_dict()` of a `ConversationMessage`, with `incarnation` and `seq`;
        of an `AgentCommunicationMessage` for a conversation, with `session_id` as well.
        """

    @abstractmethod
    async def append_task_context_snapshot(self, session_id: str, context: dict[str, Any]) -> bool:
        """A task context was stored."""

    @abstractmethod
    async def append_checkpoint(
        self,
        thread_id: str,
        checkpoint_id: str,
        checkpoint_data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
    ) -> bool:
        """A checkpoint was stored."""

    @abstractmethod
    async def append_checkpoint_writes(
        self,
        thread_id: str,
        checkpoint_id: str,
        task_id: str,
        writes_data: list[tuple[Any, ...]],
    ) -> bool:
        """A task's writes were kept for a checkpoint."""

    @abstractmethod
    async def append_conversation_session(
        self, session_key: str, conversation: dict[str, Any]
    ) -> bool:
        """A conversation between agents was created."""
