"""What a config names: a thread, a namespace in it, perhaps a checkpoint."""

from __future__ import annotations

from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig

from aiecs.core.errors import InvalidInputError
from aiecs.core.ids import check_id
from aiecs.domain.context.thread_state.names import space_of

_LONGEST = 10**9  # seconds


class Where(NamedTuple):
    """What a config names."""

    thread_id: str
    namespace: str
    checkpoint_id: str | None = None
    session_id: str | None = None
    #: How long the thread is to live after a write, in microseconds; None: as the saver says.
    ttl: int | None = None

    def config(self, checkpoint_id: str) -> RunnableConfig:
        """The config of a checkpoint here."""
        return {
            "configurable": {
                "thread_id": self.thread_id,
                "checkpoint_ns": self.namespace,
                "checkpoint_id": checkpoint_id,
            }
        }


def micros_of(seconds: Any, what: str) -> int | None:
    """A lifetime in microseconds; `InvalidInputError` for what is none."""
    if seconds is None:
        return None
    if type(seconds) not in (int, float) or not 0 < seconds < _LONGEST:
        raise InvalidInputError(f"{what} is a number of seconds above 0, got {seconds!r}")
    micros: int = max(1, round(seconds * 1_000_000))
    return micros


def where(config: RunnableConfig) -> Where:
    """What a config names; `InvalidInputError` for one without a thread, and for bad ids."""
    configurable = config.get("configurable") or {}
    if configurable.get("thread_id") is None:
        raise InvalidInputError("a checkpoint saver needs config['configurable']['thread_id']")
    at = Where(
        check_id(str(configurable["thread_id"]), "thread_id"),
        configurable.get("checkpoint_ns") or "",
        configurable.get("checkpoint_id") or None,
        configurable.get("session_id"),
        micros_of(configurable.get("thread_ttl"), "thread_ttl"),
    )
    space_of(at.namespace)
    if at.checkpoint_id is not None:
        check_id(at.checkpoint_id, "checkpoint_id")
    return at
