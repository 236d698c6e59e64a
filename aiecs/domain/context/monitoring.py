"""The monitor and the logger of applications: what an engine did, kept or written down."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from aiecs.core.clock import utcnow
from aiecs.core.errors import InvalidInputError
from aiecs.domain.context.observation import (
    OK,
    ClosingObserver,
    Observer,
    OpeningObserver,
    StateObserver,
    Tracer,
)

if TYPE_CHECKING:
    from aiecs.domain.context.observation import Monitored

__all__ = [
    "ClosingObserver",
    "ContentEngineLogger",
    "ContentEngineMonitor",
    "Observer",
    "OpeningObserver",
    "StateObserver",
    "Tracer",
]

KEPT = 1_000
"""How many operations of each type a monitor remembers."""

_LONGEST = 86_400.0 * 365
_WORDS = {
    "checkpoint": ("checkpoint", "writes", "thread", "aput", "tuple", "prune", "delta", "for_runs"),
    "conversation": ("message", "history", "conversation", "agent", "build_context"),
    "session": ("session", "task_context", "user"),
}
_OTHER = "maintenance"


def type_of(operation: str) -> str:
    """The type of an engine's operation: checkpoint, conversation, session or maintenance."""
    if operation.startswith(("cleanup", "archive")):
        return _OTHER
    found = (kind for kind, words in _WORDS.items() if any(word in operation for word in words))
    return next(found, _OTHER)


class ContentEngineMonitor:
    """Remembers the last 1,000 operations of each type, and sums them up.

    It is told of every operation of `engine` by itself; `automatic=False` leaves that to calls of
    `record_operation`. Numbers are of this process, since the monitor was made.
    """

    def __init__(self, engine: Monitored, *, automatic: bool = True) -> None:
        self.engine = engine
        kinds = (*_WORDS, _OTHER)
        self.operation_metrics: dict[str, deque[dict[str, Any]]] = {
            f"{kind}_operations": deque(maxlen=KEPT) for kind in ("session", "conversation", *kinds)
        }
        if automatic:
            engine.monitor.observe(self)

    async def record_operation(
        self, operation_type: str, operation: str, latency: float, success: bool
    ) -> None:
        """Remember one operation; `latency` is in seconds.

        `operation_type` is session, conversation, checkpoint or maintenance, else
        `InvalidInputError`.
        """
        kept = self.operation_metrics.get(f"{operation_type}_operations")
        if kept is None:
            known = ", ".join(name.removesuffix("_operations") for name in self.operation_metrics)
            raise InvalidInputError(f"operation_type is one of {known}; got {operation_type!r}")
        if type(latency) not in (int, float) or not 0 <= latency <= _LONGEST:  # nor NaN
            raise InvalidInputError(f"latency is seconds, 0 or more; got {latency!r}")
        kept.append(_metric(operation_type, operation, latency, success=bool(success)))

    def operation(self, name: str, seconds: float, outcome: str) -> None:
        """Remember an operation that the engine tells of. See `Observer`."""
        kind = type_of(name)
        metric = _metric(kind, name, seconds, success=outcome == OK)
        self.operation_metrics[f"{kind}_operations"].append(metric)

    def get_performance_report(self) -> dict[str, dict[str, Any]]:
        """Of each type that occurred: `total_operations` (that are remembered), `success_rate`.

        That is 0.0 to 1.0; `avg_latency`, `min_latency` and `max_latency` are in seconds.
        """
        held = {kind: list(metrics) for kind, metrics in self.operation_metrics.items()}
        return {kind: _report(metrics) for kind, metrics in held.items() if metrics}


def _metric(kind: str, operation: str, latency: float, *, success: bool) -> dict[str, Any]:
    return {
        "operation_type": kind,
        "operation": operation,
        "latency": latency,
        "success": success,
        "timestamp": time.time(),
    }


def _report(metrics: list[dict[str, Any]]) -> dict[str, Any]:
    latencies = [metric["latency"] for metric in metrics]
    return {
        "total_operations": len(metrics),
        "success_rate": sum(metric["success"] for metric in metrics) / len(metrics),
        "avg_latency": sum(latencies) / len(latencies),
        "min_latency": min(latencies),
        "max_latency": max(latencies),
    }


class _Log(Protocol):
    """As much of `logging.Logger` as is needed."""

    def log(self, level: int, msg: str, *args: object, extra: Mapping[str, object]) -> None: ...


class ContentEngineLogger:
    """Writes a line for every operation: INFO when it succeeded, ERROR when it failed.

    It is told of every operation of `engine` by itself (what it was, how long it took, how it
    ended); `automatic=False` leaves that to calls of its methods. Lines go to `logger`, by default
    `aiecs.domain.context.monitoring`, with the same facts as fields of the log record (`extra`).
    No content and no secret is ever in them.
    """

    def __init__(
        self, engine: Monitored, *, logger: _Log | None = None, automatic: bool = True
    ) -> None:
        self.engine = engine
        self.logger: _Log = logger or logging.getLogger(__name__)
        if automatic:
            engine.monitor.observe(self)

    async def log_session_operation(
        self,
        operation: str,
        session_id: str,
        success: bool,
        latency: float,
        error: str | None = None,
    ) -> None:
        """Write down one operation on a session; `latency` is in seconds."""
        told = {"operation": operation, "session_id": session_id, "success": success}
        told["latency"] = latency
        if error:
            told["error"] = error
        self._write("Session", told, success=success)

    async def log_conversation_operation(
        self, operation: str, session_id: str, message_count: int, success: bool
    ) -> None:
        """Write down one operation on so many messages of a conversation."""
        told = {"operation": operation, "session_id": session_id, "message_count": message_count}
        told["success"] = success
        self._write("Conversation", told, success=success)

    def operation(self, name: str, seconds: float, outcome: str) -> None:
        """Write down an operation that the engine tells of. See `Observer`."""
        success = outcome == OK
        told: dict[str, Any] = {"operation": name, "success": success, "latency": seconds}
        if not success:
            told["error"] = outcome
        self._write(type_of(name).capitalize(), told, success=success)

    def _write(self, what: str, told: dict[str, Any], *, success: bool) -> None:
        told["timestamp"] = utcnow().isoformat()
        level, end = (logging.INFO, "completed") if success else (logging.ERROR, "failed")
        self.logger.log(level, "%s operation %s: %s", what, end, told, extra=told)
