"""Sessions and messages, and the small values that calls answer with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, TypeVar

from aiecs.core.clock import parse_time
from aiecs.domain.record import Record

Item = TypeVar("Item")


@dataclass(slots=True)
class SessionMetrics(Record):
    """A session and its counters.

    Times are aware UTC (naive ones and ISO 8601 text are read as UTC);
    `total_processing_time` is in seconds; `status` is active, completed, failed or expired.
    """

    session_id: str
    user_id: str
    created_at: datetime
    last_activity: datetime
    request_count: int = 0
    error_count: int = 0
    total_processing_time: float = 0.0
    status: str = "active"
    metadata: dict[str, Any] = field(default_factory=dict)
    input_tokens: int = 0
    output_tokens: int = 0

    always: ClassVar[frozenset[str]] = frozenset(
        {"request_count", "error_count", "total_processing_time", "status"}
    )

    def __post_init__(self) -> None:
        if type(self.created_at) is not datetime or self.created_at.tzinfo is not UTC:
            self.created_at = parse_time(self.created_at, "created_at")
        if type(self.last_activity) is not datetime or self.last_activity.tzinfo is not UTC:
            self.last_activity = parse_time(self.last_activity, "last_activity")


@dataclass(slots=True)
class ConversationMessage(Record):
    """One message of a conversation.

    `id` and `seq` are what the store knows it by (None before it is stored) and take no
    part in equality; `seq` rises through a session. `metadata=None` becomes `{}`. A naive
    `timestamp` and ISO 8601 text are read as UTC.
    """

    role: str
    content: str
    timestamp: datetime
    metadata: dict[str, Any] = None  # type: ignore[assignment]  # the specification's default
    id: str | None = field(default=None, compare=False)
    seq: int | None = field(default=None, compare=False)
    name: str | None = None
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None
    parts: list[Any] | None = None
    pinned: bool = False

    def __post_init__(self) -> None:
        if self.metadata is None:
            self.metadata = {}  # type: ignore[unreachable]  # None is what callers may give
        if type(self.timestamp) is not datetime or self.timestamp.tzinfo is not UTC:
            self.timestamp = parse_time(self.timestamp, "timestamp")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some of the items asked for; `cursor` fetches more, and only None is the end.

    A page may be short or even empty while there is more.
    """

    items: list[Item]
    cursor: str | None = None

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)


@dataclass(frozen=True, slots=True)
class DeletionReport:
    """What a deletion removed, counted; `a + b` adds two reports up.

    `archived_rows` are rows deleted from the archive. `complete` is False when something
    is left to do; calling the same deletion again goes on from there.
    """

    sessions: int = 0
    messages: int = 0
    task_contexts: int = 0
    conversations: int = 0
    threads: int = 0
    checkpoints: int = 0
    writes: int = 0
    items: int = 0
    archived_rows: int = 0
    complete: bool = True

    def __add__(self, other: DeletionReport) -> DeletionReport:
        # A clean-up adds one per session: asdict, which copies, was a fifth of its time.
        counts = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        return DeletionReport(**counts, complete=self.complete and other.complete)

    def to_dict(self) -> dict[str, Any]:
        """Every count by name, and `complete`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class RecountReport:
    """What the store holds, counted: `ended` of the `sessions` are not active any more.

    `drift` is how far the totals were off, by name, before they were put right (what is counted
    less what they said); empty when they were right. Writes during the count blur it.
    """

    sessions: int = 0
    ended: int = 0
    messages: int = 0
    checkpoints: int = 0
    drift: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything by name."""
        return asdict(self)


_COUNTS = tuple(count.name for count in fields(DeletionReport) if count.name != "complete")
