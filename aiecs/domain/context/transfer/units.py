"""What belongs together on its way into a store: one session, or one thread by itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from aiecs.core.codec import dump_json
from aiecs.core.errors import InvalidInputError
from aiecs.core.ids import check_id
from aiecs.core.interface.store import MAX_RECORD_BYTES
from aiecs.domain.context.conversation_models import session_id_of
from aiecs.domain.context.transfer.heads import (
    GONE,
    Incoming,
    incoming_agent_message,
    incoming_message,
)
from aiecs.domain.context.transfer.writing import SessionWriter
from aiecs.domain.context.transfer_records import (
    AgentMessageRecord,
    CheckpointRecord,
    ConversationRecord,
    MessageRecord,
    Record,
    SessionRecord,
    TaskContextRecord,
    WritesRecord,
)

_WIDEST_GAP = 1_000
_NOUNS: dict[type, str] = {
    TaskContextRecord: "task context",
    ConversationRecord: "agent conversation",
    CheckpointRecord: "checkpoint",
    WritesRecord: "list of writes",
}
_PER_RECORD = 200
_MAX_STORED = MAX_RECORD_BYTES - 8192


@dataclass(slots=True)
class Counts:
    """What an import has written.

    `known` are sessions in which everything was there already, `extended` those that were there
    and got something new; `skipped` are records whose session could not be imported.
    """

    sessions: int = 0
    extended: int = 0
    known: int = 0
    messages: int = 0
    task_contexts: int = 0
    conversations: int = 0
    agent_messages: int = 0
    checkpoints: int = 0
    writes: int = 0
    skipped: int = 0

    def to_dict(self) -> dict[str, int]:
        """Every count by name."""
        return asdict(self)


class Message(NamedTuple):
    """An item for the session's log, and where it came from."""

    item: Incoming
    place: Any


class Part(NamedTuple):
    """A record that is no message of the session, and where it came from."""

    record: Record
    place: Any
    item: Incoming | None = None


class Unit:
    """A session or a lone thread, and what is still to be written of it.

    `refused`: the rest of it is passed over. `position` and `positions` count what was written
    of its logs, `added` what was new in the store.
    """

    def __init__(self, name: tuple[str, str], place: Any) -> None:
        self.name = name
        self.place = place
        self.writer: SessionWriter | None = None
        self.messages: list[Message] = []
        self.parts: list[Part] = []
        self.held = 0
        self.position = 0
        self.positions: dict[str, int] = {}
        self.opened = False
        self.refused = False
        self.added = 0
        self._next_seq: int | None = None

    def hold(self, record: Record, place: Any) -> None:
        """Keep a record until it is written; `InvalidInputError` for what cannot be stored."""
        self.held += _PER_RECORD
        if isinstance(record, MessageRecord):
            self._hold_message(incoming_message(record.message), place)
        elif isinstance(record, AgentMessageRecord):
            self._hold_agent_message(record, place)
        elif not isinstance(record, SessionRecord):
            self.held += check_stored(record)
            if isinstance(record, ConversationRecord):
                self.positions[_digest(record)] = 0
            self.parts.append(Part(record, place))

    def _hold_message(self, one: Incoming, place: Any) -> None:
        if self.position == 0 and not self.messages:
            self._next_seq = one.seq
        if self._next_seq is None:
            self.messages.append(Message(one._replace(seq=None), place))
        else:
            self._hold_in_sequence(one, self._next_seq, place)
        self.held += len(one.item)

    def _hold_in_sequence(self, one: Incoming, expected: int, place: Any) -> None:
        seq = expected if one.seq is None else one.seq
        if not 0 <= seq - expected <= _WIDEST_GAP:
            raise InvalidInputError(f"seq {seq} does not follow {expected - 1}")
        for missing in range(expected, seq):  # erased or undecodable where it comes from
            self.messages.append(Message(GONE._replace(seq=missing), place))
        self.messages.append(Message(one._replace(seq=seq), place))
        self._next_seq = seq + 1

    def _hold_agent_message(self, record: AgentMessageRecord, place: Any) -> None:
        if _digest(record) not in self.positions:
            raise InvalidInputError("its conversation does not stand before it")
        if not isinstance(record.stored, dict):
            raise InvalidInputError("is no agent message")
        item = incoming_agent_message(record.stored)
        self.held += len(item.item)
        self.parts.append(Part(record, place, item))


def name_of(record: Record, unit: Unit | None) -> tuple[str, str]:
    """The unit that a record belongs to: a session, or a thread by itself."""
    if isinstance(record, SessionRecord):
        return ("session", record.session.session_id)
    if record.session_id is not None:
        return ("session", record.session_id)
    namesake = ("session", record.thread_id)
    return namesake if unit is not None and unit.name == namesake else ("thread", record.thread_id)


def check_stored(record: Any) -> int:
    """The size of what lies in the store; `InvalidInputError` when it is not what it should be."""
    stored, shape = record.stored, isinstance(record.stored, dict)
    if isinstance(record, WritesRecord):
        check_id(record.thread_id, "thread_id")
        shape = isinstance(stored, list) and [type(one) for one in stored[1:]] == [list]
    elif isinstance(record, CheckpointRecord):
        check_id(record.thread_id, "thread_id")
        shape = shape and {"data", "metadata", "created_at"} <= stored.keys()
    elif isinstance(record, ConversationRecord):
        shape = shape and session_id_of(record.session_key) == record.session_id
    size = len(dump_json(stored)[0])
    if not shape:
        raise InvalidInputError(f"is no {_NOUNS[type(record)]}")
    if size > _MAX_STORED:
        raise InvalidInputError(f"has {size} bytes; at most {_MAX_STORED} are allowed")
    return size


def _digest(record: ConversationRecord | AgentMessageRecord) -> str:
    return record.session_key.rpartition(":")[2]
