"""The names of OpenTelemetry's conventions that we use: the one place to change with them.

Generative AI: schema gen-ai-dev/1.42.0-dev (github.com/open-telemetry/semantic-conventions-genai,
in development); databases and errors: semantic conventions 1.36. Both without their package: it
lacks the memory operations.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

GEN_AI_OPERATION = "gen_ai.operation.name"
GEN_AI_CONVERSATION = "gen_ai.conversation.id"
GEN_AI_STORE = "gen_ai.memory.store.id"
DB_SYSTEM = "db.system.name"
DB_OPERATION = "db.operation.name"
ERROR_TYPE = "error.type"
DURATION = "db.client.operation.duration"

_CREATE, _UPDATE = "create_memory", "update_memory"
_SEARCH, _DELETE = "search_memory", "delete_memory"
#: What each operation is among those of a memory.
MEMORY = {
    "create_session": "create_memory_store",
    "delete_session": "delete_memory_store",
    "delete_thread": "delete_memory_store",
    "delete_user": "delete_memory_store",
    "create_conversation_session": "create_memory_store",
    "update_session": _UPDATE,
    "end_session": _UPDATE,
    "store_task_context": "upsert_memory",
    "store_checkpoint": "upsert_memory",
    "put_checkpoint": "upsert_memory",
    "put_writes": _CREATE,
    "aput": "upsert_memory",
    "aput_writes": _CREATE,
    "add_conversation_message": _CREATE,
    "add_conversation_messages": _CREATE,
    "add_agent_communication_message": _CREATE,
    "acopy_thread": _CREATE,
    "cleanup_expired_sessions": _DELETE,
    "apply_retention": _DELETE,
    "aprune": _DELETE,
    "adelete_for_runs": _DELETE,
    **dict.fromkeys(
        (
            *("get_session", "list_sessions", "list_all_sessions", "get_conversation_history"),
            *("build_context", "get_task_context", "get_checkpoint", "list_checkpoints"),
            *("get_writes", "get_agent_conversation_history", "get_conversation_session"),
            *("list_conversation_sessions", "aget_tuple", "aget_delta_channel_history"),
        ),
        _SEARCH,
    ),
}
#: Operations that have no name there: their spans are called as they are.
OTHERS = frozenset(
    {
        "abatch",
        "archive_barrier",
        "get_metrics",
        "recount",
        "scrub",
    }
)
#: Seconds; the SDK's own boundaries are for milliseconds, and would put all into one bucket.
BOUNDARIES = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)

#: Series, where it stands in an engine's metrics, unit, what it is.
GAUGES: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("aiecs.sessions.active", ("active_sessions",), "{session}", "Neither ended nor expired."),
    ("aiecs.sessions.stored", ("stored_sessions",), "{session}", "In the store."),
    ("aiecs.messages.stored", ("stored_messages",), "{message}", "In the store."),
    ("aiecs.checkpoints.stored", ("stored_checkpoints",), "{checkpoint}", "In the store."),
    ("aiecs.memory.usage", ("memory_usage",), "1", "Share of the store's room that is taken."),
    ("aiecs.cache.hit_ratio", ("storage_performance", "cache_hit_rate"), "1", "Of histories."),
    ("aiecs.transport.in_flight", ("transport", "in_flight"), "{call}", "Sent, or to be sent."),
    ("aiecs.transport.waiting", ("transport", "waiting"), "{call}", "Waiting for room."),
    ("aiecs.archive.waiting", ("archive", "waiting"), "{event}", "Waiting for the archive."),
    ("aiecs.archive.oldest", ("archive", "oldest"), "s", "Age of the oldest that waits."),
    ("aiecs.archive.dead", ("archive", "dead"), "{event}", "That the archive does not take."),
)


@cache
def of_operation(name: str) -> dict[str, str]:
    """The attributes that tell which operation it is."""
    memory = MEMORY.get(name)
    told = {DB_OPERATION: name}
    return told if memory is None else {GEN_AI_OPERATION: memory, **told}


def span_name(name: str) -> str:
    """The name of an operation's span."""
    return MEMORY.get(name, name)


def of_subject(subject: Mapping[str, str]) -> dict[str, str]:
    """What an operation is about; users are not told."""
    for name in ("session_id", "thread_id", "session_key"):
        if name in subject:
            return {GEN_AI_CONVERSATION: subject[name]}
    return {}
