"""Work for a Redis store that makes it run every script: all operations, all of an engine."""

from __future__ import annotations

import pytest
from support.redis_store import BUCKET, DAY, adding, batch, creating

from aiecs import ContextEngine
from aiecs.core.interface import store as port
from aiecs.core.interface.store import (
    INCARNATION,
    NOW,
    Append,
    Call,
    Delete,
    Expire,
    Get,
    Incr,
    IndexDelete,
    IndexPut,
    Plan,
    Put,
    Redact,
    RequireAtMost,
    RequireBefore,
    RequireEquals,
    RequireExists,
    RequireFields,
    Trim,
    Truncate,
)
from aiecs.domain.task.task_context import TaskContext
from aiecs.infrastructure.persistence.stores.redis import RedisStore

EVERYTHING = (
    RequireExists("p", exists=False), RequireEquals("p", "a", None), RequireEquals("", "x", None),
    RequireFields("", ("l",)), RequireBefore(2**53 - 1), RequireAtMost("", "l", NOW),
    Get("p", ("a",)), Get(""), port.Clock(),
    Put("", {"a": b"1", "b": NOW}), Put("p", {"a": b"1"}), Put("q", {"a": NOW}, if_absent="skip"),
    Put("", {"once": NOW}, if_absent="skip"), Put("_p", {"a": b"1"}), Incr("n", {"a": 1}),
    Incr("", {"c": 1}), Append("l", (b"1", b"2")), Append("s", (b"3",), (NOW, INCARNATION)),
    Append("_l", (b"4",)), Append("_s", (b"4",), (NOW,)), Trim("_l", keep=1), Trim("l", before=1),
    Truncate("u", 1), Redact("l2", (1,)), IndexPut("i", {"a": 1}),
    IndexPut("_i", {"a": NOW}, greater=True), IndexDelete("j", ("a",)),
    IndexDelete("_i", ("b",), at_most=1), Delete("d", ("a",)), Delete("", ("once2",)),
    Delete("e"), Delete("f", kind="log"), Delete("_f", kind="log"), Delete("g", kind="index"),
    Expire(DAY, (("map", "p"), ("log", "l"))),
)  # fmt: skip


async def exercise(store: RedisStore) -> None:
    """Every operation: all together, alone, twice in a row; as a batch and as a plan."""
    alone = [(op,) for op in EVERYTHING]
    twice = [(op, op._replace(key=op.key + "2")) for op in EVERYTHING if getattr(op, "key", "")]
    for number, ops in enumerate((EVERYTHING, *alone, *twice)):
        for group in (f"s:{number}", f"p:{number}"):
            logs = (Append(key, (b"0", b"1", b"2"), first=0) for key in ("l", "l2", "u", "u2"))
            await store.apply(creating(group, BUCKET, *logs))
        await store.apply(batch(*ops, group=f"s:{number}"))
        await store.apply(Call(Plan("exercise", *ops), BUCKET, f"p:{number}", ()))
    with pytest.raises(port.GroupMissing):
        await store.apply(adding(b"x", "s:none"))
    await store.apply(batch(Expire(None, (("map", "p"),)), group="s:0"))
    await store.apply(batch(Delete("p"), Delete(""), group="s:0"))


async def life(store: RedisStore) -> None:
    """What applications do with an engine, all of it."""
    engine = ContextEngine(store=store, session_ttl=86_400, operation_timeout=20.0)
    assert await engine.initialize()
    await engine.create_session("s", "ann", {"a": 1})
    await engine.create_session("s", "ann")
    await engine.create_session(None, "bob")
    await engine.update_session("s", {"status": "active", "metadata": {"a": None, "b": 2}}, True)
    await engine.update_session("s", add_processing_time=1.5, mark_error=True)
    for number in range(3):
        await engine.add_conversation_message("s", "user", f"message {number}")
    tokens = {"input_tokens": 3, "output_tokens": 4}
    await engine.add_conversation_message("s", "assistant", "x", tokens)
    for key in ("k", "k", "k2"):
        await engine.add_conversation_message("s", "user", "once", idempotency_key=key)
    await engine.add_conversation_messages("s", [{"role": "user", "content": "1"}] * 3)
    await engine.add_conversation_message("made", "user", "implicitly")
    await engine.create_session("made", "ann")
    assert len(await engine.get_conversation_history("s")) == 9
    await engine.get_conversation_history("s", limit=2)
    await engine.build_context("s", 1_000)
    await engine.store_task_context("s", TaskContext({"session_id": "s", "user_id": "ann"}))
    await engine.get_task_context("s")
    for number in (1, 2, 2):
        await engine.store_checkpoint("t", f"c{number}", {"n": number}, session_id="s")
        await engine.store_checkpoint("free", f"c{number}", {"n": number})
    await engine.put_checkpoint("s", "c", {}, {})
    await engine.put_writes("t", "c2", "task", [("channel", 1), ("channel", 2)])
    await engine.put_writes("t", "c2", "task", [("channel", 1), ("channel", 2)])
    assert await engine.get_checkpoint("t") == await engine.get_checkpoint("t", "c2")
    assert len(await engine.list_checkpoints("t")) == 2
    await engine.get_writes("t", "c2")
    people = [{"participant_id": "a", "participant_type": "agent"}]
    key = await engine.create_conversation_session("s", people, "user_to_mc")
    await engine.add_agent_communication_message(key, "a", "agent", "writer", content="hello")
    await engine.get_agent_conversation_history(key)
    await engine.list_conversation_sessions("s")
    await engine.list_sessions("ann")
    await engine.list_all_sessions()
    await engine.health_check()
    await engine.get_metrics()
    await engine.recount()
    await engine.end_session("s")
    await engine.cleanup_expired_sessions(1000)
    await engine.delete_thread("free")
    await engine.delete_session("s")
    await engine.delete_user("ann")
    await engine.close()
