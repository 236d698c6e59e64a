"""Everything a session holds, as a stream of records that another store can take up losslessly."""

from __future__ import annotations

from typing import Any, NamedTuple

from aiecs.domain.context.models import ConversationMessage, SessionMetrics


class SessionRecord(NamedTuple):
    """A session; its other records follow it."""

    session: SessionMetrics


class MessageRecord(NamedTuple):
    """One message of the session's log, in the order of the log."""

    session_id: str
    message: ConversationMessage


Record = SessionRecord | MessageRecord
