from __future__ import annotations

import inspect

import pytest

from aiecs.core.interface import storage_interface as interfaces

SIGNATURES = {
    "ISessionStorage": {
        "create_session": "session_id, user_id, metadata=None",
        "get_session": "session_id",
        "update_session": "session_id, updates=None, increment_requests=False, "
        "add_processing_time=0.0, mark_error=False",
        "end_session": "session_id, status='completed'",
    },
    "IConversationStorage": {
        "add_conversation_message": "session_id, role, content, metadata=None",
        "get_conversation_history": "session_id, limit=50",
    },
    "ICheckpointStorage": {
        "store_checkpoint": "thread_id, checkpoint_id, checkpoint_data, metadata=None",
        "get_checkpoint": "thread_id, checkpoint_id=None",
        "list_checkpoints": "thread_id, limit=10",
    },
    "ITaskContextStorage": {
        "get_task_context": "session_id",
        "store_task_context": "session_id, context",
    },
    "ICheckpointerBackend": {
        "put_checkpoint": "thread_id, checkpoint_id, checkpoint_data, metadata=None",
        "get_checkpoint": "thread_id, checkpoint_id=None",
        "list_checkpoints": "thread_id, limit=10",
        "put_writes": "thread_id, checkpoint_id, task_id, writes_data",
        "get_writes": "thread_id, checkpoint_id",
    },
    "IPermanentStorageBackend": {
        "initialize": "",
        "close": "",
        "append_session_event": "session_id, event_type, session",
        "append_conversation_message": "session_id, message",
        "append_task_context_snapshot": "session_id, context",
        "append_checkpoint": "thread_id, checkpoint_id, checkpoint_data, metadata=None",
        "append_checkpoint_writes": "thread_id, checkpoint_id, task_id, writes_data",
        "append_conversation_session": "session_key, conversation",
    },
}
PARTS = ["ISessionStorage", "IConversationStorage", "ICheckpointStorage", "ITaskContextStorage"]
SIGNATURES["IStorageBackend"] = {
    name: signature for part in PARTS for name, signature in SIGNATURES[part].items()
} | {
    "initialize": "",
    "close": "",
    "health_check": "",
    "get_metrics": "",
    "cleanup_expired_sessions": "max_idle_hours=24",
}


def spelled(method) -> str:
    parameters = [
        p.replace(annotation=p.empty) for p in inspect.signature(method).parameters.values()
    ]
    return ", ".join(str(p).replace(" = ", "=") for p in parameters[1:])


@pytest.mark.parametrize("name", SIGNATURES)
def test_abstract_methods_and_their_signatures(name: str) -> None:
    cls = getattr(interfaces, name)
    found = {method: spelled(getattr(cls, method)) for method in cls.__abstractmethods__}

    assert found == SIGNATURES[name]
    assert all(inspect.iscoroutinefunction(getattr(cls, method)) for method in found)


@pytest.mark.parametrize("name", SIGNATURES)
def test_an_interface_cannot_be_used_half_implemented(name: str) -> None:
    cls = getattr(interfaces, name)
    some = sorted(cls.__abstractmethods__)[1:]
    half = type("Half", (cls,), {method: getattr(cls, method).__call__ for method in some})

    with pytest.raises(TypeError, match="abstract"):
        half()


def test_the_parts_make_up_the_whole() -> None:
    for part in PARTS:
        assert issubclass(interfaces.IStorageBackend, getattr(interfaces, part))
