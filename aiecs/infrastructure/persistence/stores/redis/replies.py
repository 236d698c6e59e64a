"""From what the server answers to what the port promises."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from aiecs.core.errors import (
    StoreAuthError,
    StoreError,
    StoreFullError,
    StoreMisconfiguredError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from aiecs.core.interface import store as port

_CORRUPT, _MISSING, _EXPIRED, _FOUND = 3, -1, -3, 2
_CODE = re.compile(
    r"\b(OOM|READONLY|MISCONF|WRONGTYPE|NOPERM|NOAUTH|WRONGPASS|DENIED|NOSCRIPT|LOADING|BUSY|MASTERDOWN"
    r"|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|CROSSSLOT|NOREPLICAS)\b"
)
_ERRORS: dict[str, tuple[type[StoreError], str]] = {
    "OOM": (StoreFullError, "Redis is out of memory (maxmemory); free some or raise the limit"),
    "MISCONF": (StoreFullError, "Redis cannot persist to its disk and refuses writes"),
    "READONLY": (StoreReadOnlyError, "this Redis is a read-only replica; connect to the primary"),
    "NOPERM": (StoreAuthError, "the Redis user lacks a permission"),
    "NOAUTH": (StoreAuthError, "Redis wants a password"),
    "WRONGPASS": (StoreAuthError, "Redis refused the user name or password"),
    "DENIED": (
        StoreAuthError,
        "this Redis runs in protected mode: it takes local connections only",
    ),
    "LOADING": (StoreUnavailableError, "Redis is loading its data set"),
    "BUSY": (StoreUnavailableError, "Redis is busy with a long script"),
    "MASTERDOWN": (StoreUnavailableError, "the primary of this replica is down"),
    "CLUSTERDOWN": (StoreUnavailableError, "the Redis cluster is down"),
    "TRYAGAIN": (StoreUnavailableError, "a cluster slot is moving"),
    "NOREPLICAS": (StoreUnavailableError, "too few replicas (min-replicas-to-write)"),
    "MOVED": (StoreMisconfiguredError, "this is a Redis Cluster; use a redis+cluster:// address"),
    "ASK": (StoreMisconfiguredError, "this is a Redis Cluster; use a redis+cluster:// address"),
    "CROSSSLOT": (StoreMisconfiguredError, "this is a Redis Cluster; use redis+cluster://"),
}


def code_of(message: str) -> str:
    """The error code of a reply, also where a script's error wraps it (Redis 6)."""
    found = _CODE.search(message)
    return found[1] if found else message.split(" ", 1)[0]


def error_of(message: str) -> Exception:
    """The typed error of an error reply."""
    code = code_of(message)
    if code == "WRONGTYPE":
        return port.CorruptField(-1)
    known = _ERRORS.get(code)
    if known is None:
        # A script that fails in its middle may have written.
        middle = "script" in message and "compiling" not in message
        return StoreUnavailableError(
            f"Redis refused the command: {message[:200]}",
            outcome="unknown" if middle else "not_applied",
        )
    return known[0](known[1])


def refusal(answer: Sequence[Any]) -> Exception:
    """The exception of a script's {0, operation, found} or {3, operation}."""
    operation = int(answer[1])
    if answer[0] == _CORRUPT:
        return port.CorruptField(operation)
    if operation == _MISSING:
        return port.GroupMissing()
    if operation == _EXPIRED:
        return port.GroupExpired()
    found = answer[_FOUND] if len(answer) > _FOUND else None
    if type(found) is list:
        found = [name.decode() for name in found]
    return port.GuardFailed(operation, found)


def text_map(flat: Sequence[bytes]) -> dict[str, bytes]:
    """A map from HGETALL, without the fields that belong to the store."""
    found: dict[str, bytes] = {}
    for name, value in zip(flat[::2], flat[1::2], strict=True):
        if not name.startswith(b"~") or name in (b"~i", b"~x"):
            found[name.decode()] = value
    return found


def _nothing(_: Any) -> None:
    return None


DECODERS: dict[type, Callable[[Any], Any]] = {
    port.Put: bool,
    port.Extend: bool,
    port.IndexPut: bool,
    port.Expire: _nothing,
    port.RequireExists: _nothing,
    port.RequireEquals: _nothing,
    port.RequireAtMost: _nothing,
    port.RequireFields: _nothing,
    port.RequireBefore: _nothing,
}


def decoder_of(op: port.Op) -> Callable[[Any], Any] | None:
    """What makes an operation's result from the script's; None when it is right already."""
    if type(op) is port.Get and op.fields is None:
        return text_map
    return DECODERS.get(type(op))
