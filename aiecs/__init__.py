"""ContextEngine: the durable memory of AI applications. Importing this loads no driver."""

from __future__ import annotations

import importlib
import logging
import typing

if typing.TYPE_CHECKING:
    from aiecs.core.errors import (
        AccessDeniedError,
        ArchiveUnavailableError,
        ConflictError,
        ContextEngineError,
        CorruptRecordError,
        InvalidInputError,
        LifecycleError,
        MissingExtraError,
        NotFoundError,
        SessionEndedError,
        SessionExistsError,
        SessionNotFoundError,
        StoreAuthError,
        StoreError,
        StoreFullError,
        StoreMisconfiguredError,
        StoreOverloadedError,
        StoreReadOnlyError,
        StoreTimeoutError,
        StoreUnavailableError,
    )
    from aiecs.domain.context import (
        AgentCommunicationMessage,
        ContextEngine,
        ContextWindow,
        ConversationMessage,
        ConversationParticipant,
        ConversationSession,
        DeletionReport,
        Observer,
        Page,
        RecountReport,
        SessionMetrics,
    )
    from aiecs.domain.task.task_context import TaskContext

__version__ = "0.1.0"

_CONTEXT = "aiecs.domain.context"
_ERRORS = "aiecs.core.errors"
_HOMES = {
    "AccessDeniedError": _ERRORS,
    "AgentCommunicationMessage": _CONTEXT,
    "ArchiveUnavailableError": _ERRORS,
    "ConflictError": _ERRORS,
    "ContextEngine": _CONTEXT,
    "ContextEngineError": _ERRORS,
    "ContextWindow": _CONTEXT,
    "ConversationMessage": _CONTEXT,
    "ConversationParticipant": _CONTEXT,
    "ConversationSession": _CONTEXT,
    "CorruptRecordError": _ERRORS,
    "DeletionReport": _CONTEXT,
    "InvalidInputError": _ERRORS,
    "LifecycleError": _ERRORS,
    "MissingExtraError": _ERRORS,
    "NotFoundError": _ERRORS,
    "Observer": _CONTEXT,
    "Page": _CONTEXT,
    "RecountReport": _CONTEXT,
    "SessionEndedError": _ERRORS,
    "SessionExistsError": _ERRORS,
    "SessionMetrics": _CONTEXT,
    "SessionNotFoundError": _ERRORS,
    "StoreAuthError": _ERRORS,
    "StoreError": _ERRORS,
    "StoreFullError": _ERRORS,
    "StoreMisconfiguredError": _ERRORS,
    "StoreOverloadedError": _ERRORS,
    "StoreReadOnlyError": _ERRORS,
    "StoreTimeoutError": _ERRORS,
    "StoreUnavailableError": _ERRORS,
    "TaskContext": "aiecs.domain.task.task_context",
}

__all__ = [
    "AccessDeniedError",
    "AgentCommunicationMessage",
    "ArchiveUnavailableError",
    "ConflictError",
    "ContextEngine",
    "ContextEngineError",
    "ContextWindow",
    "ConversationMessage",
    "ConversationParticipant",
    "ConversationSession",
    "CorruptRecordError",
    "DeletionReport",
    "InvalidInputError",
    "LifecycleError",
    "MissingExtraError",
    "NotFoundError",
    "Observer",
    "Page",
    "RecountReport",
    "SessionEndedError",
    "SessionExistsError",
    "SessionMetrics",
    "SessionNotFoundError",
    "StoreAuthError",
    "StoreError",
    "StoreFullError",
    "StoreMisconfiguredError",
    "StoreOverloadedError",
    "StoreReadOnlyError",
    "StoreTimeoutError",
    "StoreUnavailableError",
    "TaskContext",
]

logging.getLogger("aiecs").addHandler(logging.NullHandler())


def __getattr__(name: str) -> typing.Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
