"""Events of an outbox as calls of an `IPermanentStorageBackend`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from aiecs.core.clock import from_micros, parse_time
from aiecs.core.codec import decode, load_json
from aiecs.core.errors import CorruptRecordError
from aiecs.core.events import About, Told
from aiecs.core.interface.store import Batch, CorruptField, Get, Store
from aiecs.core.keys import session_place

_MICROSECONDS = 1_000_000
_BIRTH_DIGITS = 16
#: The interface has no method for the end of a thread, nor for state that is kept by its parts.
_UNTOLD = (About.THREAD, About.GRAPH, About.GRAPH_WRITES, About.GRAPH_PARTS, About.GRAPH_REMOVED)
_COUNTS = {
    "q": "request_count",
    "e": "error_count",
    "ti": "input_tokens",
    "to": "output_tokens",
}
_WRONG = (ValueError, TypeError, LookupError, AttributeError)


class Append(NamedTuple):
    """A method of the backend, and what it is called with."""

    method: str
    arguments: tuple[Any, ...]


async def retold(event: Told, store: Store) -> Append | None:
    """What to call for an event; None for what has no method, or was erased.

    Sessions are looked up in the store, for their events tell changes and not states.
    `CorruptRecordError` for what is no such event, a `StoreError` when the store does not answer.
    """
    if not event.record or event.kind in _UNTOLD:
        return None
    head = await _head(store, event.ids[0]) if event.kind is About.SESSION else {}
    try:
        if event.kind is About.SESSION:
            return _session(event, head)
        return _CALLS[event.kind](event)
    except _WRONG:
        raise CorruptRecordError("stored value is no event") from None


# --- sessions -------------------------------------------------------------------------------------


async def _head(store: Store, session_id: str | None) -> Mapping[str, bytes]:
    batch = Batch(*session_place(session_id or ""), (Get(""),), raw=True)
    try:
        results = await store.apply(batch)
    except CorruptField:
        return {}
    found: Mapping[str, bytes] = (results or ({},))[0] or {}
    return found


def _session(event: Told, head: Mapping[str, bytes]) -> Append:
    session_id, happened = event.ids
    state: dict[str, Any] = {"session_id": session_id, "incarnation": event.incarnation}
    state |= _stored(head, event.incarnation) or _changed(event)
    return Append("append_session_event", (session_id, happened, state))


def _stored(head: Mapping[str, bytes], incarnation: str) -> dict[str, Any] | None:
    """The state that a head holds of this incarnation; None of another, or if it is damaged."""
    if head.get("~i") != incarnation.encode():
        return None
    try:
        return _state(head)
    except (*_WRONG, CorruptRecordError):
        return None


def _state(head: Mapping[str, bytes]) -> dict[str, Any]:
    """The fields are those of the domain's `session_record`."""
    created = _iso(int(head["c"] if "c" in head else head["~i"][:_BIRTH_DIGITS]))
    last = _iso(int(head["l"])) if "l" in head else created
    counts = {name: int(head.get(short, 0)) for short, name in _COUNTS.items()}
    metadata = {name[1:]: load_json(value) for name, value in head.items() if name[0] == "@"}
    unknown: dict[str, Any] = load_json(head["+"]) if "+" in head else {}
    return unknown | {
        "user_id": head.get("u", b"").decode(),
        "created_at": created,
        "last_activity": last,
        "total_processing_time": int(head.get("t", 0)) / _MICROSECONDS,
        "status": head.get("st", b"").decode() or "active",
        "metadata": metadata,
        **counts,
    }


def _changed(event: Told) -> dict[str, Any]:
    """What the event alone tells of a session that is gone by now: no state, but a change."""
    told = load_json(event.record)
    state = {name: told[name] for name in ("user_id", "status", "metadata") if name in told}
    if "created" in told:
        state["created_at"] = _iso(told["created"])
    state["last_activity"] = _iso(told.get("active", event.now))
    added = {name: told[short] for short, name in _COUNTS.items() if short in told}
    if "t" in told:
        added["total_processing_time"] = told["t"] / _MICROSECONDS
    return state | {"added": added}


# --- everything else ------------------------------------------------------------------------------


def _message(event: Told) -> Append:
    (session_id,) = event.ids
    fields = load_json(event.record)
    unknown = fields.pop("+", {})
    first = {name: fields.pop(name) for name in ("role", "content", "timestamp")}
    first["timestamp"] = parse_time(first["timestamp"]).isoformat()
    message = {**first, "metadata": {}, **fields, **_place(event), **unknown}
    return Append("append_conversation_message", (session_id, message))


def _agent_message(event: Told) -> Append:
    session_id, session_key = event.ids
    told = {**_dict(event), "session_key": session_key, "session_id": session_id, **_place(event)}
    return Append("append_conversation_message", (session_key, told))


def _place(event: Told) -> dict[str, Any]:
    return {"seq": event.sequence, "incarnation": event.incarnation}


def _context(event: Told) -> Append:
    (session_id,) = event.ids
    return Append("append_task_context_snapshot", (session_id, _dict(event)))


def _conversation(event: Told) -> Append:
    session_id, session_key = event.ids
    fields = _dict(event)
    fields |= {"session_id": session_id, "last_activity": fields["created_at"]}
    return Append("append_conversation_session", (session_key, fields))


def _checkpoint(event: Told) -> Append:
    thread_id, checkpoint_id, _ = event.ids
    stored = _dict(event)
    known = (thread_id, checkpoint_id, stored["data"], stored["metadata"])
    return Append("append_checkpoint", known)


def _writes(event: Told) -> Append:
    _, pairs = decode(event.record)
    writes = [(channel, value) for channel, value in pairs]
    return Append("append_checkpoint_writes", (*event.ids, writes))


def _dict(event: Told) -> dict[str, Any]:
    found = decode(event.record)
    if type(found) is not dict:
        raise TypeError
    return found


def _iso(micros: int) -> str:
    return from_micros(micros).isoformat()


_CALLS: dict[About, Callable[[Told], Append]] = {
    About.MESSAGE: _message,
    About.AGENT_MESSAGE: _agent_message,
    About.CONTEXT: _context,
    About.CONVERSATION: _conversation,
    About.CHECKPOINT: _checkpoint,
    About.WRITES: _writes,
}
