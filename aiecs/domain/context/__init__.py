"""Sessions, conversations, task contexts and checkpoints: the domain of ContextEngine.

The names below load on first use; importing this package imports no driver.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiecs.domain.context.context_engine import ContextEngine
    from aiecs.domain.context.conversation_models import (
        AgentCommunicationMessage,
        ConversationParticipant,
        ConversationSession,
    )
    from aiecs.domain.context.models import (
        ConversationMessage,
        DeletionReport,
        Page,
        RecountReport,
        SessionMetrics,
    )
    from aiecs.domain.context.observation import Observer
    from aiecs.domain.context.window import ContextWindow

__all__ = [
    "AgentCommunicationMessage",
    "ContextEngine",
    "ContextWindow",
    "ConversationMessage",
    "ConversationParticipant",
    "ConversationSession",
    "DeletionReport",
    "Observer",
    "Page",
    "RecountReport",
    "SessionMetrics",
]

_HOMES = {
    "AgentCommunicationMessage": "conversation_models",
    "ContextEngine": "context_engine",
    "ContextWindow": "window",
    "ConversationMessage": "models",
    "ConversationParticipant": "conversation_models",
    "ConversationSession": "conversation_models",
    "DeletionReport": "models",
    "Observer": "observation",
    "Page": "models",
    "RecountReport": "models",
    "SessionMetrics": "models",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
