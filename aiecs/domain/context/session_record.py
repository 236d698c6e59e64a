"""A session's head in the store, and the `SessionMetrics` that it describes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from aiecs.core.clock import EPOCH, from_micros
from aiecs.core.codec import check_json, dump_json, load_json
from aiecs.core.errors import ContextEngineError, InvalidInputError
from aiecs.domain.context.models import SessionMetrics
from aiecs.domain.context.runtime import Runtime

STATUSES = frozenset({"active", "completed", "failed", "expired"})
MAX_METADATA_BYTES = 1024 * 1024
MAX_METADATA_KEYS = 900  # an operation of a store takes 1,000 fields, some of them the head's own

#: The head field that tells whether the archive may hold anything from before the session's log:
#: nothing, nothing but what was trimmed of it, or, with any other value or none, earlier lives.
ARCHIVED, NOTHING_ARCHIVED, TRIMMED_ARCHIVED = "ar", b"0", b"t"

_ZERO = b"0"


def read_session(runtime: Runtime, session_id: str, head: dict[str, bytes]) -> SessionMetrics:
    """The session that `head` describes; what cannot be decoded is counted and left out."""
    reader = _Head(runtime, session_id, head)
    born = reader.time("c") or reader.birth()
    session = SessionMetrics(
        session_id=session_id,
        user_id=reader.text("u"),
        created_at=born,
        last_activity=reader.time("l") or born,
        request_count=reader.number("q"),
        error_count=reader.number("e"),
        total_processing_time=reader.number("t") / 1_000_000,
        status=reader.text("st") or "active",
        metadata=reader.metadata(),
        input_tokens=reader.number("ti"),
        output_tokens=reader.number("to"),
    )
    if "+" in head and type(unknown := reader.json("+")) is dict:
        return SessionMetrics.from_dict(unknown | session.to_dict())
    return session


class _Head:
    def __init__(self, runtime: Runtime, session_id: str, head: dict[str, bytes]) -> None:
        self._runtime = runtime
        self._session_id = session_id
        self._head = head

    def number(self, name: str) -> int:
        try:
            return int(self._head.get(name, _ZERO))
        except ValueError:
            self._corrupt(name)
            return 0

    def time(self, name: str) -> datetime | None:
        try:
            return from_micros(int(self._head[name])) if name in self._head else None
        except ValueError:  # an InvalidInputError is one too
            self._corrupt(name)
            return None

    def birth(self) -> datetime:
        try:
            return from_micros(int(self._head["~i"][:16]))
        except ValueError:
            self._corrupt("~i")
            return EPOCH

    def text(self, name: str) -> str:
        try:
            return self._head.get(name, b"").decode()
        except UnicodeDecodeError:
            self._corrupt(name)
            return ""

    def json(self, name: str) -> Any:
        try:
            return load_json(self._head[name])
        except ContextEngineError:
            self._corrupt(name)
            return None

    def metadata(self) -> dict[str, Any]:
        names = [name for name in self._head if name[0] == "@"]
        found = {name[1:]: self.json(name) for name in names}
        return {key: value for key, value in found.items() if value is not None}

    def _corrupt(self, name: str) -> None:
        self._runtime.note_corrupt(f"session field {name}", self._session_id)


def metadata_fields(
    metadata: dict[str, Any] | None, *, max_keys: int | None = MAX_METADATA_KEYS
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Head fields to put and to remove so that `metadata` is merged in, key by key.

    A key of None is removed. `InvalidInputError` for what is no JSON, for more than `max_keys` and
    for more than 1 MiB together.
    """
    if metadata is None:
        return {}, ()
    if not isinstance(metadata, dict):
        raise InvalidInputError(f"metadata is a dict, got {type(metadata).__name__}")
    if max_keys is not None and len(metadata) > max_keys:
        raise InvalidInputError(
            f"metadata has at most {max_keys} keys at once, this one has {len(metadata)}"
        )
    plain = check_json(metadata, "metadata")
    put = {"@" + _key(k): dump_json(v)[0] for k, v in plain.items() if v is not None}
    if sum(map(len, put)) + sum(map(len, put.values())) > MAX_METADATA_BYTES:
        raise InvalidInputError(f"metadata takes at most {MAX_METADATA_BYTES} bytes")
    return put, tuple("@" + _key(k) for k, v in plain.items() if v is None)


def told_metadata(put: dict[str, bytes], removed: tuple[str, ...] = ()) -> dict[str, Any]:
    """What `metadata_fields` gave, as an event tells it; a removed key is null."""
    values: dict[str, Any] = {name[1:]: msgspec.Raw(value) for name, value in put.items()}
    values |= dict.fromkeys(name[1:] for name in removed)
    return {"metadata": values} if values else {}


def _key(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidInputError("metadata keys may not hold lone surrogates") from None
    return name


def check_status(status: Any) -> str:
    """`status` itself; `InvalidInputError` unless it is one of the four."""
    if not isinstance(status, str) or status not in STATUSES:
        raise InvalidInputError(f"status is one of {sorted(STATUSES)}, got {status!r}")
    return str.__str__(status)  # the text of an enumeration's member, not its name
