"""Opening and closing an engine, and the settings that it takes up on the way."""

from __future__ import annotations

import asyncio

import pytest

import aiecs
from aiecs import ContextEngine, InvalidInputError, LifecycleError
from aiecs.core.interface.storage_interface import ICheckpointerBackend, IStorageBackend
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

METHODS = [
    ("create_session", ("s", "u")),
    ("get_session", ("s",)),
    ("update_session", ("s",)),
    ("end_session", ("s",)),
    ("list_sessions", ()),
    ("list_all_sessions", ()),
    ("delete_session", ("s",)),
    ("delete_user", ("u",)),
    ("add_conversation_message", ("s", "user", "x")),
    ("add_conversation_messages", ("s", [])),
    ("get_conversation_history", ("s",)),
    ("build_context", ("s", 100)),
    ("store_task_context", ("s", None)),
    ("get_task_context", ("s",)),
    ("store_checkpoint", ("t", "c", {})),
    ("put_checkpoint", ("t", "c", {})),
    ("get_checkpoint", ("t",)),
    ("list_checkpoints", ("t",)),
    ("put_writes", ("t", "c", "task", [])),
    ("get_writes", ("t", "c")),
    ("delete_thread", ("t",)),
    ("create_conversation_session", ("s", [], "user_to_agent")),
    ("add_agent_communication_message", ("k", "a", "agent", "r")),
    ("get_agent_conversation_history", ("k",)),
    ("get_conversation_session", ("k",)),
    ("list_conversation_sessions", ("s",)),
    ("cleanup_expired_sessions", ()),
    ("health_check", ()),
    ("get_metrics", ()),
    ("recount", ()),
    ("apply_retention", ()),
    ("scrub", ()),
    ("archive_barrier", ()),
]


@pytest.mark.parametrize(("method", "args"), METHODS)
async def test_no_method_works_before_initialize_or_after_close(method, args):
    engine = ContextEngine(store="memory://")
    with pytest.raises(LifecycleError):
        await getattr(engine, method)(*args)
    await engine.initialize()
    await engine.close()
    with pytest.raises(LifecycleError):
        await getattr(engine, method)(*args)


def test_the_list_above_is_complete():
    public = {name for name in dir(ContextEngine) if not name.startswith("_")}
    other = {
        "archive",
        "initialize",
        "close",
        "iter_sessions",
        "export_user",
        "on_close",
        "redis_client",
        "session_ttl",
        "checkpoint_ttl",
    }
    assert {name for name, _ in METHODS} == public - other


async def test_walking_needs_an_open_engine():
    with pytest.raises(LifecycleError):
        ContextEngine(store="memory://").iter_sessions()


async def test_initialize_and_close_can_be_repeated(make_engine):
    engine = await make_engine()
    await engine.create_session("s", "u")

    assert await engine.initialize() is True
    assert await engine.get_session("s")
    await engine.close()
    await engine.close()


async def test_an_engine_can_be_opened_again(open_store):
    store = open_store()
    engine = ContextEngine(store=store)
    for _ in range(2):
        async with engine:
            await engine.create_session("s", "u")
    await store.close()


async def test_concurrent_first_calls_open_once():
    opened = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Slow(MemoryStore):
        async def ping(self):
            opened.append(1)
            begun.set()
            await go_on.wait()

    engine = ContextEngine(store=Slow())
    calls = [asyncio.create_task(engine.initialize()) for _ in range(10)]
    await begun.wait()
    go_on.set()
    assert await asyncio.gather(*calls) == [True] * 10
    assert len(opened) == 1
    await engine.close()


async def test_an_engine_is_both_interfaces():
    assert issubclass(ContextEngine, IStorageBackend)
    assert issubclass(ContextEngine, ICheckpointerBackend)


async def test_what_was_counted_is_in_the_store_after_close(open_store):
    store = open_store()
    async with ContextEngine(store=store, operation_timeout=10) as engine:
        await engine.create_session("s", "u")
        await engine.add_conversation_message("s", "user", "x")
    async with ContextEngine(store=store, operation_timeout=10) as engine:
        assert (await engine.get_metrics())["total_messages"] == 1
    await store.close()


async def test_a_store_that_was_given_stays_open(open_store):
    store = open_store()
    async with ContextEngine(store=store, operation_timeout=10):
        pass
    await store.ping()
    await store.close()


@pytest.mark.parametrize(
    "options",
    [
        {"on_outage": "memory"},
        {"session_ttl": 0},
        {"session_ttl": -1},
        {"checkpoint_ttl": "1"},
        {"session_ttl": float("nan")},
        {"max_messages_per_session": 0},
        {"max_messages_per_session": 1.5},
        {"max_messages_per_session": 2**53},
        {"operation_timeout": 0},
        {"operation_timeout": None},
        {"strict_sessions": "no"},
        {"strict_sessions": None},
        {"observers": 5},
        {"observers": [5]},
        {"observers": "abc"},
    ],
)
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(InvalidInputError):
        ContextEngine(store="memory://", **options)


async def test_ttls_can_be_read(tmp_path):
    engine = ContextEngine(store="memory://")
    assert (engine.session_ttl, engine.checkpoint_ttl) == (86_400, 604_800)
    async with engine:
        assert (engine.session_ttl, engine.checkpoint_ttl) == (86_400, 604_800)
    async with ContextEngine(store=f"sqlite:///{tmp_path}/a.db") as file:
        assert (file.session_ttl, file.checkpoint_ttl) == (None, None), "a file does not forget"
    assert ContextEngine(session_ttl=None, checkpoint_ttl=5).checkpoint_ttl == 5


async def test_settings_fill_in_what_the_caller_left_open(monkeypatch):
    monkeypatch.setenv("AIECS_SESSION_TTL", "60")
    monkeypatch.setenv("AIECS_CHECKPOINT_TTL", "0")
    monkeypatch.setenv("AIECS_STRICT_SESSIONS", "true")
    monkeypatch.setenv("AIECS_MAX_MESSAGES_PER_SESSION", "2")
    async with ContextEngine(store="memory://") as engine:
        assert (engine.session_ttl, engine.checkpoint_ttl) == (60, None)
        with pytest.raises(aiecs.SessionNotFoundError):
            await engine.add_conversation_message("s", "user", "x")
        await engine.create_session("s", "u")
        for number in range(3):
            await engine.add_conversation_message("s", "user", str(number))
        assert len(await engine.get_conversation_history("s")) == 2
    async with ContextEngine(store="memory://", session_ttl=5) as engine:
        assert engine.session_ttl == 5


async def test_what_is_given_wins_over_the_settings_even_if_it_is_the_default(monkeypatch):
    monkeypatch.setenv("AIECS_OPERATION_TIMEOUT", "7")
    monkeypatch.setenv("AIECS_STRICT_SESSIONS", "true")
    monkeypatch.setenv("AIECS_MAX_MESSAGES_PER_SESSION", "2")
    given = {"operation_timeout": 1.0, "strict_sessions": False, "max_messages_per_session": None}
    async with ContextEngine(store="memory://", **given) as engine:
        assert engine._on.runtime.timeout == 1.0
        for number in range(3):
            await engine.add_conversation_message("s", "user", str(number))
        assert len(await engine.get_conversation_history("s")) == 3
    async with ContextEngine(store="memory://") as engine:
        assert engine._on.runtime.timeout == 7.0


async def test_what_neither_the_caller_nor_the_settings_say_has_its_default():
    async with ContextEngine(store="memory://") as engine:
        runtime = engine._on.runtime
        assert (runtime.timeout, runtime.strict_sessions, runtime.max_messages) == (1, False, None)
