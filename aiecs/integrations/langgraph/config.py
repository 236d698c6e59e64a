"""What a config names: a thread, a namespace in it, perhaps a checkpoint."""

from __future__ import annotations

from typing import NamedTuple

from langchain_core.runnables import RunnableConfig

from aiecs.core.errors import InvalidInputError
from aiecs.core.ids import check_id
from aiecs.domain.context.thread_state.names import space_of


class Where(NamedTuple):
    """What a config names."""

    thread_id: str
    namespace: str
    checkpoint_id: str | None = None
    session_id: str | None = None

    def config(self, checkpoint_id: str) -> RunnableConfig:
        """The config of a checkpoint here."""
        return {
            "configurable": {
                "thread_id": self.thread_id,
                "checkpoint_ns": self.namespace,
                "checkpoint_id": checkpoint_id,
            }
        }


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
    )
    space_of(at.namespace)
    if at.checkpoint_id is not None:
        check_id(at.checkpoint_id, "checkpoint_id")
    return at
