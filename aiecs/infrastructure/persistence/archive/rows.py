"""Events as rows of the archive's tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from aiecs.core.clock import parse_time, to_micros
from aiecs.core.errors import CorruptRecordError
from aiecs.core.events import About, Told, parts_in, told
from aiecs.infrastructure.persistence.archive import tables
from aiecs.infrastructure.persistence.archive.values import FIRST_TIME, LAST_TIME

Row = dict[str, Any]
Life = tuple[str, str]
"""A session and its incarnation."""
_Maker = Callable[[Told], tuple[tables.Table, Row]]

_MOST_SMALL = 2**32 - 1
_MOST_MONEY = 10**9
_NO_MONEY = Decimal(0)
_NOTHING = msgspec.Raw(b"{}")
_SESSION_COUNTS = {
    "request_count": "q",
    "error_count": "e",
    "processing_time_us": "t",
    "input_tokens": "ti",
    "output_tokens": "to",
}
_SESSION_TYPED = ("user_id", "status")
_json = msgspec.json.Encoder().encode
_parse = msgspec.json.Decoder(dict[str, Any]).decode


class Shipped(NamedTuple):
    """An item of an outbox: the bucket, its sequence there, and its bytes."""

    bucket: int
    number: int
    item: bytes


class Made(NamedTuple):
    """A row, what it was made of, and about how many bytes it takes."""

    shipped: Shipped
    row: Row
    size: int


class Rows(NamedTuple):
    """The rows of each table, and the items that are no events and go nowhere."""

    by_table: Mapping[str, list[Made]]
    corrupt: list[Shipped]


def rows_of(
    items: Iterable[Shipped], store_id: str, owners: Mapping[Life, str] | None = None
) -> Rows:
    """What the archive is to hold of these items; erased ones (empty) are passed over.

    The same items give the same rows, whenever and wherever they are made; only an owner may have
    become known, or forgotten, meanwhile.
    """
    known = owners or {}
    by_table: dict[str, list[Made]] = defaultdict(list)
    corrupt: list[Shipped] = []
    for shipped in items:
        if not shipped.item:
            continue
        try:
            event = told(shipped.item)
            if not event.record:
                continue
            made = _rows_in(event)
        except CorruptRecordError:
            corrupt.append(shipped)
            continue
        # With the item: a store that was set back to an earlier state gives numbers again.
        name = f"{store_id}/{shipped.bucket}/{shipped.number}/".encode() + shipped.item
        # The outbox's own sequence as the version: it rises with every event of the bucket.
        stamped = stamps(event, event_id_of(name), shipped.number) | {"store_id": store_id}
        for number, (table, row) in enumerate(made):
            if table is tables.CONVERSATIONS or table is tables.TASK_CONTEXTS:
                row["user_id"] = known.get((event.ids[0] or "", event.incarnation), "")
            if number:
                stamped = stamped | {"event_id": event_id_of(b"%d/" % number + name)}
            size = len(shipped.item) // len(made)
            by_table[table.name].append(Made(shipped, stamped | row, size))
    return Rows(by_table, corrupt)


def _rows_in(event: Told) -> list[tuple[tables.Table, Row]]:
    """The rows of an event: one, but for parts, of which each has its own."""
    if event.kind is not About.GRAPH_PARTS:
        return [row_of(event)]
    known: Row = {"thread_id": event.ids[0], "session_id": "", "type": _GRAPH}
    parts = parts_in(event.record)
    return [
        (tables.CHECKPOINT_ELEMENTS, {**known, "digest": name, "data": content})
        for name, content in parts.items()
    ]


def columns_of(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Rows of one table, all with the same names, as columns."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def row_of(event: Told) -> tuple[tables.Table, Row]:
    """The table of an event, and its columns there but for the stamps; `CorruptRecordError`.

    A `created_at` among them is the event's own time, and counts in place of its stamp; one beyond
    the years that ClickHouse knows stays in what was recorded.
    """
    try:
        return _MAKERS[event.kind](event)
    except (msgspec.MsgspecError, ValueError, TypeError, LookupError, AttributeError):
        raise CorruptRecordError("stored value is no event") from None


def stamps(event: Told, event_id: UUID, version: int) -> Row:
    """What every row has."""
    return {
        "event_id": event_id,
        "incarnation": event.incarnation,
        "seq": event.sequence,
        "created_at": event.now,
        "version": version,
    }


def event_id_of(name: bytes) -> UUID:
    """The id of the event of this name."""
    return UUID(bytes=blake2b(name, digest_size=16).digest())


# --- messages -------------------------------------------------------------------------------------


class _Plain(msgspec.Struct, forbid_unknown_fields=True):
    """A message with nothing that has no column: nearly all are, and are read at once."""

    role: str
    content: str
    timestamp: datetime
    metadata: msgspec.Raw = _NOTHING
    id: str = ""


_plain = msgspec.json.Decoder(_Plain).decode


def _message(event: Told) -> tuple[tables.Table, Row]:
    try:
        said = _plain(event.record)
    except msgspec.ValidationError:
        return _rich_message(event)
    moment = to_micros(said.timestamp)
    if not FIRST_TIME <= moment <= LAST_TIME:
        return _rich_message(event)
    return tables.CONVERSATIONS, {
        "session_id": event.ids[0],
        "parent_session_id": "",
        "message_type": "",
        "role": said.role,
        "message_id": said.id,
        "content": said.content,
        "metadata": bytes(said.metadata),
        "extra": b"",
        "created_at": moment,
        **(_NOT_LIFTED if said.metadata is _NOTHING else _lifted(_parse(said.metadata))),
    }


def _rich_message(event: Told) -> tuple[tables.Table, Row]:
    fields = _parse(event.record)
    row = _said(fields, ("role", "id"))
    row |= {"session_id": event.ids[0], "parent_session_id": "", "message_type": ""}
    return tables.CONVERSATIONS, row | {
        "role": fields["role"],
        "message_id": fields.get("id") or "",
    }


def _agent_message(event: Told) -> tuple[tables.Table, Row]:
    fields = _parse(event.record)
    session_id, session_key = event.ids
    row = _said(fields, ("message_id", "message_type"))
    return tables.CONVERSATIONS, row | {
        "session_id": session_key,
        "parent_session_id": session_id,
        "message_type": fields["message_type"],
        "role": f"{fields['sender_type']}_{fields['sender_role']}",
        "message_id": fields["message_id"],
    }


def _said(fields: Row, elsewhere: tuple[str, ...]) -> Row:
    """What both kinds of messages have in common; `extra` is what no column holds."""
    metadata = fields.get("metadata") or {}
    moment = _own_time(fields["timestamp"])
    known = ("content", "metadata", *(("timestamp",) if moment else ()), *elsewhere)
    extra = {name: value for name, value in fields.items() if name not in known}
    return {
        "content": fields["content"],
        "metadata": _json(metadata),
        "extra": _json(extra) if extra else b"",
        **moment,
        **_lifted(metadata),
    }


def _lifted(metadata: Row) -> Row:
    """The keys that have a meaning, as typed columns; values of other types stay metadata."""
    model, error = metadata.get("model"), metadata.get("error")
    return {
        "model": model if isinstance(model, str) else "",
        "input_tokens": _small(metadata.get("input_tokens")),
        "output_tokens": _small(metadata.get("output_tokens")),
        "cost_usd": _money(metadata.get("cost_usd")),
        "latency_ms": _small(metadata.get("latency_ms")),
        "error": int(bool(error)),
    }


def _small(value: Any) -> int:
    number = round(value) if type(value) is float and abs(value) <= _MOST_SMALL else value
    return number if type(number) is int and 0 <= number <= _MOST_SMALL else 0


def _money(value: Any) -> Decimal:
    known = type(value) in (int, float) and abs(value) < _MOST_MONEY
    return round(Decimal(str(value)), 9) if known else _NO_MONEY


_NOT_LIFTED = _lifted({})


# --- everything else ------------------------------------------------------------------------------


def _session(event: Told) -> tuple[tables.Table, Row]:
    """Counts are what the event added to them."""
    values = _parse(event.record)
    session_id, happened = event.ids
    row = {name: values.get(short, 0) for name, short in _SESSION_COUNTS.items()}
    row |= {name: values.get(name, "") for name in _SESSION_TYPED}
    moment = _own_time(values["created"]) if "created" in values else {}
    return tables.SESSIONS, row | moment | {
        "session_id": session_id,
        "event_type": happened,
        "payload": event.record,
    }


def _thread(event: Told) -> tuple[tables.Table, Row]:
    """The end of a thread stands among its checkpoints, as one without an id."""
    thread_id, happened = event.ids
    return tables.CHECKPOINTS, {**_NO_CHECKPOINT, "thread_id": thread_id, "type": happened}


def _context(event: Told) -> tuple[tables.Table, Row]:
    return tables.TASK_CONTEXTS, {"session_id": event.ids[0], "context_data": event.record}


def _conversation(event: Told) -> tuple[tables.Table, Row]:
    session_id, session_key = event.ids
    fields = _parse(event.record)
    return tables.CONVERSATION_SESSIONS, {
        "session_key": session_key,
        "session_id": session_id,
        "session_data": event.record,
        "session_type": fields["session_type"],
        **_own_time(fields["created_at"]),
    }


def _checkpoint(event: Told) -> tuple[tables.Table, Row]:
    fields = _parse(event.record)
    thread_id, checkpoint_id, session_id = event.ids
    return tables.CHECKPOINTS, {
        **_NO_CHECKPOINT,
        "thread_id": thread_id,
        "checkpoint_id": checkpoint_id,
        "session_id": session_id or "",
        "data": event.record,
        "metadata": _json(fields["metadata"]),
        "type": _RECORD,
        **_own_time(fields["created_at"]),
    }


def _writes(event: Told) -> tuple[tables.Table, Row]:
    thread_id, checkpoint_id, task_id = event.ids
    return tables.CHECKPOINT_WRITES, {
        "thread_id": thread_id,
        "checkpoint_id": checkpoint_id,
        "task_id": task_id,
        "writes_data": event.record,
        "checkpoint_ns": "",
        "type": _RECORD,
    }


def _graph(event: Told) -> tuple[tables.Table, Row]:
    thread_id, namespace, checkpoint_id, session_id, parent = event.ids
    return tables.CHECKPOINTS, {
        **_NO_CHECKPOINT,
        "thread_id": thread_id,
        "checkpoint_ns": namespace,
        "checkpoint_id": checkpoint_id,
        "parent_checkpoint_id": parent or "",
        "session_id": session_id or "",
        "data": event.record,
        "type": _GRAPH,
    }


def _graph_writes(event: Told) -> tuple[tables.Table, Row]:
    thread_id, namespace, checkpoint_id, task_id = event.ids
    return tables.CHECKPOINT_WRITES, {
        "thread_id": thread_id,
        "checkpoint_ns": namespace,
        "checkpoint_id": checkpoint_id,
        "task_id": task_id,
        "writes_data": event.record,
        "type": _GRAPH,
    }


def _graph_removed(event: Told) -> tuple[tables.Table, Row]:
    thread_id, namespace, checkpoint_id = event.ids
    return tables.CHECKPOINTS, {
        **_NO_CHECKPOINT,
        "thread_id": thread_id,
        "checkpoint_ns": namespace,
        "checkpoint_id": checkpoint_id,
        "type": _REMOVED,
    }


#: `core.codec` made it.
_RECORD = "aiecs"
#: `domain.context.thread_state.records` made it.
_GRAPH = "graph"
_REMOVED = "removed"
_NO_CHECKPOINT: Row = {
    "checkpoint_id": "",
    "checkpoint_ns": "",
    "parent_checkpoint_id": "",
    "session_id": "",
    "data": b"",
    "metadata": b"{}",
}


def _own_time(time: str | datetime | int) -> Row:
    """The event's own time, unless it is one that ClickHouse cannot hold."""
    moment = time if isinstance(time, int) else to_micros(parse_time(time))
    return {"created_at": moment} if FIRST_TIME <= moment <= LAST_TIME else {}


_MAKERS: dict[About, _Maker] = {
    About.MESSAGE: _message,
    About.AGENT_MESSAGE: _agent_message,
    About.SESSION: _session,
    About.THREAD: _thread,
    About.CONTEXT: _context,
    About.CONVERSATION: _conversation,
    About.CHECKPOINT: _checkpoint,
    About.WRITES: _writes,
    About.GRAPH: _graph,
    About.GRAPH_WRITES: _graph_writes,
    About.GRAPH_REMOVED: _graph_removed,
}
