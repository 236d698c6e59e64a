"""The parts of a session, each by itself."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import quote

from aiecs.domain.context.models import ConversationMessage, SessionMetrics


class SessionRecord(NamedTuple):
    """A session; the records of what belongs to it follow."""

    session: SessionMetrics


class MessageRecord(NamedTuple):
    """One message of a session's log, in the order of the log."""

    session_id: str
    message: ConversationMessage


class TaskContextRecord(NamedTuple):
    """A session's task context; `stored` is the JSON that lies in the store."""

    session_id: str
    stored: Any


class ConversationRecord(NamedTuple):
    """A conversation between agents; `stored` says who takes part ({}: nobody has said so)."""

    session_id: str
    session_key: str
    stored: Any


class AgentMessageRecord(NamedTuple):
    """One message of a conversation between agents, in the order of its log."""

    session_id: str
    session_key: str
    stored: Any


class CheckpointRecord(NamedTuple):
    """A checkpoint, in the order in which a thread stored them.

    `session_id` is the session that the thread is tied to, None for none. `stored` is the JSON that
    lies in the store: what JSON cannot hold is tagged in it, and is not decoded on the way.
    """

    thread_id: str
    session_id: str | None
    checkpoint_id: str
    stored: Any


class WritesRecord(NamedTuple):
    """What a task wrote for a checkpoint; `stored` as for `CheckpointRecord`."""

    thread_id: str
    session_id: str | None
    checkpoint_id: str
    task_id: str
    stored: Any


class GraphCheckpointRecord(NamedTuple):
    """A checkpoint of a graph as plain data: `data` by channel, `metadata`, `created_at`.

    To be read, not to be imported: what a framework wrote of its own classes stands there as the
    values that they consist of.
    """

    thread_id: str
    session_id: str | None
    checkpoint_id: str
    stored: Any


class ItemRecord(NamedTuple):
    """An item of long-term memory; `created` and `updated` as ISO 8601. To be read, as above."""

    namespace: tuple[str, ...]
    key: str
    value: Any
    created: str
    updated: str


Record = (
    SessionRecord
    | MessageRecord
    | TaskContextRecord
    | ConversationRecord
    | AgentMessageRecord
    | CheckpointRecord
    | WritesRecord
)

#: What the export of a user has: that, and what is only to be read.
UserRecord = Record | GraphCheckpointRecord | ItemRecord


def key_of(session_id: str, digest: str) -> str:
    """The key of a conversation between agents, from the digest that it is stored under."""
    return f"conversation:{quote(session_id, safe='')}:{digest}"
