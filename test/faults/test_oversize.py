"""What is too large, or no value at all, is refused before a byte of it is sent."""

from __future__ import annotations

import pytest

from aiecs import ContextEngine
from aiecs.core.errors import InvalidInputError
from aiecs.infrastructure.persistence.stores.redis import RedisStore

MIB = 1 << 20

CALLS = {
    "message": lambda engine: engine.add_conversation_message("s", "user", "x" * 9 * MIB),
    "message metadata": lambda engine: engine.add_conversation_message(
        "s", "user", "x", {"a": "x" * 2 * MIB}
    ),
    "session metadata": lambda engine: engine.create_session("new", "u", {"a": "x" * 2 * MIB}),
    "checkpoint": lambda engine: engine.store_checkpoint("t", "c", "x" * 9 * MIB),
    "nested checkpoint": lambda engine: engine.store_checkpoint("t", "c", nested(1_000)),
    "no number": lambda engine: engine.store_checkpoint("t", "c", {"a": float("nan")}),
    "no value": lambda engine: engine.store_checkpoint("t", "c", object()),
    "id": lambda engine: engine.create_session("i" * 256),
    "id of bytes": lambda engine: engine.create_session("é" * 128),
    "id of surrogates": lambda engine: engine.create_session("\ud800"),
    "no id": lambda engine: engine.get_session({"$ne": ""}),
}


def nested(depth):
    """Lists in lists."""
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("call", CALLS)
async def test_refused_before_anything_is_sent(server, prefix, call):
    store = RedisStore.from_url(server.url, prefix=prefix, timeout=10.0)
    async with ContextEngine(store=store, operation_timeout=10.0) as engine:
        await engine.add_conversation_message("s", "user", "before")

        with pytest.raises(InvalidInputError):
            CALLS[call](engine).send(None)  # its first step: it waits for nothing

        await engine.add_conversation_message("s", "user", "after")
        history = await engine.get_conversation_history("s")
        assert [message.content for message in history] == ["before", "after"]
    await store.close()
