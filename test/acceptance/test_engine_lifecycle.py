"""Opening, closing, falling back; several loops, threads and first users at once."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import aiecs
from aiecs import (
    ContextEngine,
    InvalidInputError,
    LifecycleError,
    StoreAuthError,
    StoreUnavailableError,
)
from aiecs.core import registry
from aiecs.core.interface.storage_interface import ICheckpointerBackend, IStorageBackend
from aiecs.core.opening import Opening
from aiecs.infrastructure import persistence
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

NOWHERE = "redis://127.0.0.1:1/0"
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
]

# --- open and close -----------------------------------------------------------------------------


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
        "initialize",
        "close",
        "iter_sessions",
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

    class Slow(MemoryStore):
        async def ping(self):
            opened.append(1)
            await asyncio.sleep(0.05)

    engine = ContextEngine(store=Slow())
    assert await asyncio.gather(*(engine.initialize() for _ in range(10))) == [True] * 10
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
        {"operation_timeout": 0},
        {"operation_timeout": None},
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


# --- which store --------------------------------------------------------------------------------


async def test_an_unknown_scheme_lists_the_known_ones():
    with pytest.raises(InvalidInputError, match=r"mongodb.*memory.*redis.*sqlite"):
        await ContextEngine(store="mongodb://x").initialize()
    with pytest.raises(InvalidInputError, match="scheme://"):
        await ContextEngine(store="data.db").initialize()


async def test_a_store_by_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("AIECS_STORE_URL", f"sqlite:///{tmp_path}/env.db")
    async with ContextEngine() as engine:
        assert (await engine.health_check())["storage_backend"] == "sqlite"
        assert engine.redis_client is None
    assert (tmp_path / "env.db").exists()


async def test_redis_by_url_and_by_its_parts(monkeypatch, server):
    monkeypatch.setenv("REDIS_URL", server.url)
    async with ContextEngine(operation_timeout=10) as engine:
        assert (await engine.health_check())["redis_connected"] is True
    monkeypatch.delenv("REDIS_URL")
    host, _, port = server.url.split("//")[1].split("/")[0].partition(":")
    monkeypatch.setenv("REDIS_HOST", host)
    monkeypatch.setenv("REDIS_PORT", port)
    monkeypatch.setenv("REDIS_DB", "3")
    async with ContextEngine(operation_timeout=10) as engine:
        assert (await engine.health_check())["storage_backend"] == "redis"
        assert await engine.redis_client.ping()
        assert engine.redis_client.connection_pool.connection_kwargs["db"] == 3


async def test_the_redis_client_is_on_the_stores_server(server):
    engine = ContextEngine(store=server.url, operation_timeout=10)
    assert engine.redis_client is None
    async with engine:
        assert await engine.redis_client.ping()
        assert engine.redis_client is engine.redis_client
    assert engine.redis_client is None


async def test_engines_share_the_connections_of_the_process(monkeypatch, server):
    monkeypatch.setenv("REDIS_URL", server.url)
    first, second = ContextEngine(operation_timeout=10), ContextEngine(operation_timeout=10)
    own = ContextEngine(use_existing_redis=False, operation_timeout=10)
    for engine in (first, second, own):
        assert await engine.initialize()
    stores = [engine._on.runtime.store for engine in (first, second, own)]
    assert stores[0] is stores[1] is not stores[2]

    await first.close()
    await second.get_session("s")
    await second.close()
    await own.close()


@pytest.mark.parametrize("named", ["store", "environment"])
async def test_a_named_store_that_does_not_answer_raises(monkeypatch, named):
    engine = ContextEngine(store=NOWHERE)
    if named == "environment":
        monkeypatch.setenv("AIECS_STORE_URL", NOWHERE)
        engine = ContextEngine()
    with pytest.raises(StoreUnavailableError):
        await engine.initialize()
    with pytest.raises(LifecycleError):
        await engine.get_session("s")


async def test_without_redis_the_memory_of_the_process_is_used(monkeypatch, caplog):
    monkeypatch.setenv("REDIS_URL", NOWHERE)
    engine, other = ContextEngine(), ContextEngine()
    with caplog.at_level(logging.WARNING, "aiecs"):
        assert await engine.initialize() is False

    assert "NOT REACHABLE" in caplog.text
    assert await engine.initialize() is False
    health = await engine.health_check()
    assert (health["status"], health["storage_backend"]) == ("degraded", "memory")
    assert health["issues"]
    assert engine.redis_client is None

    await engine.create_session("s", "u")
    assert await other.initialize() is False
    assert await other.get_session("s"), "one fallback store for all engines of the process"
    await engine.close()
    await other.close()


async def test_the_fallback_is_for_the_life_of_the_process(monkeypatch, server):
    monkeypatch.setenv("REDIS_URL", NOWHERE)
    async with ContextEngine() as engine:
        await engine.create_session("s", "u")
    monkeypatch.setenv("REDIS_URL", server.url)

    engine = ContextEngine()
    assert await engine.initialize() is False
    assert await engine.get_session("s")
    await engine.close()
    async with ContextEngine(store=server.url, operation_timeout=10) as named:
        assert (await named.health_check())["storage_backend"] == "redis"


async def test_a_wrong_password_never_falls_back(monkeypatch, servers):
    server = servers.start("valkey")
    server.command("CONFIG", "SET", "requirepass", "right")
    monkeypatch.setenv("REDIS_URL", server.url.replace("://", "://:wrong@"))
    with pytest.raises(StoreAuthError) as caught:
        await ContextEngine(operation_timeout=10).initialize()
    assert "wrong" not in str(caught.value).replace("WRONGPASS", "")
    assert registry.fallback_in_use() is None
    server.close()


async def test_a_third_party_can_add_a_scheme(monkeypatch):
    class Entry:
        name = "mine"

        @staticmethod
        def load():
            return lambda url, settings: MemoryStore()

    monkeypatch.setattr(registry, "_third_party", lambda name="": [Entry])
    async with ContextEngine(store="mine://anything") as engine:
        await engine.create_session("s", "u")
    assert "mine" in registry.schemes()


# --- loops and threads --------------------------------------------------------------------------


def test_one_engine_serves_one_event_loop_after_another(open_store):
    store = open_store()
    engine = ContextEngine(store=store, operation_timeout=10)
    asyncio.run(engine.initialize())
    for number in range(3):
        asyncio.run(engine.add_conversation_message("s", "user", f"m{number}"))

    async def end():
        history = await engine.get_conversation_history("s")
        total = (await engine.get_metrics())["total_messages"]
        await engine.close()
        await store.close()
        return [message.content for message in history], total

    assert asyncio.run(end()) == (["m0", "m1", "m2"], 3)


def test_totals_of_a_loop_that_ended_reach_the_store(open_store):
    store = open_store()
    engine = ContextEngine(store=store, operation_timeout=10)
    asyncio.run(engine.initialize())
    asyncio.run(engine.add_conversation_message("s", "user", "x"))

    async def others_see_it():
        await engine.add_conversation_message("s", "user", "y")
        async with ContextEngine(store=store, operation_timeout=10) as other:
            for _ in range(200):
                if (await other.get_metrics())["total_messages"] == 2:
                    break
                await asyncio.sleep(0.05)
            assert (await other.get_metrics())["total_messages"] == 2
        await engine.close()
        await store.close()

    asyncio.run(others_see_it())


def test_one_engine_serves_several_threads_at_once(open_store):
    store = open_store()
    engine = ContextEngine(store=store, operation_timeout=30)
    asyncio.run(engine.initialize())

    async def work(thread):
        for number in range(25):
            await engine.add_conversation_message("s", "user", f"{thread} {number}")
            await engine.update_session("s", increment_requests=True)
            await engine.get_conversation_history("s", limit=5)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda thread: asyncio.run(work(thread)), range(4)))

    async def end():
        history = await engine.get_conversation_history("s", limit=None)
        session = await engine.get_session("s")
        total = (await engine.get_metrics())["total_messages"]
        await engine.close()
        await store.close()
        return [message.content for message in history], session.request_count, total

    contents, requests, total = asyncio.run(end())
    assert (len(contents), requests, total) == (100, 100, 100)
    for thread in range(4):
        mine = [one for one in contents if one.startswith(f"{thread} ")]
        assert mine == [f"{thread} {number}" for number in range(25)]


async def test_a_thread_with_a_loop_of_its_own_works_beside_this_one(engine):
    await engine.create_session("s", "u")
    done = threading.Event()

    def beside():
        asyncio.run(engine.add_conversation_message("s", "user", "from a thread"))
        done.set()

    thread = threading.Thread(target=beside)
    thread.start()
    while not done.is_set():
        await engine.add_conversation_message("s", "user", "from here")
        await asyncio.sleep(0.001)
    thread.join()

    history = await engine.get_conversation_history("s", limit=None)
    assert [m.content for m in history].count("from a thread") == 1


# --- the process-wide engine --------------------------------------------------------------------


async def test_the_specifications_start_up_and_shutdown(monkeypatch, server):
    monkeypatch.setenv("REDIS_URL", server.url)
    assert persistence.get_context_engine() is None

    await persistence.initialize_redis_client()
    engine = await persistence.initialize_context_engine(operation_timeout=10)
    assert persistence.get_context_engine() is engine
    assert await persistence.initialize_context_engine() is engine
    assert await engine.add_conversation_message("s", "assistant", "content")
    client = await persistence.get_redis_client()
    assert await (await client.get_client()).ping()

    await persistence.close_context_engine()
    assert persistence.get_context_engine() is None
    await persistence.close_context_engine()
    with pytest.raises(LifecycleError):
        await client.get_client()
    with pytest.raises(LifecycleError):
        await engine.get_session("s")


async def test_start_up_without_redis_falls_back(monkeypatch):
    monkeypatch.setenv("REDIS_URL", NOWHERE)
    await persistence.initialize_redis_client()
    engine = await persistence.initialize_context_engine()

    assert (await engine.health_check())["status"] == "degraded"
    await persistence.close_context_engine()


async def test_first_users_on_many_loops_get_one_engine():
    def first():
        return asyncio.run(persistence.initialize_context_engine(store="memory://"))

    with ThreadPoolExecutor(8) as pool:
        engines = set(pool.map(lambda _: first(), range(8)))

    assert len(engines) == 1
    await persistence.close_context_engine()


async def test_an_engine_that_did_not_open_is_not_kept():
    with pytest.raises(StoreUnavailableError):
        await persistence.initialize_context_engine(store=NOWHERE)
    assert persistence.get_context_engine() is None

    assert await persistence.initialize_context_engine(store="memory://")
    await persistence.close_context_engine()


def test_a_redis_client_serves_each_loop_its_own(server, monkeypatch):
    monkeypatch.setenv("REDIS_URL", server.url)

    async def use():
        client = await (await persistence.get_redis_client()).get_client()
        assert await client.ping()
        await client.aclose()
        return client

    assert asyncio.run(use()) is not asyncio.run(use())
    asyncio.run(persistence.close_redis_client())


# --- opening once -------------------------------------------------------------------------------


async def test_a_failed_opening_fails_everyone_who_waited_and_can_be_repeated():
    opening: Opening[int] = Opening()

    async def fail():
        await asyncio.sleep(0.01)
        raise ValueError("no")

    results = await asyncio.gather(*(opening.get(fail) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in results] == [ValueError] * 3

    async def succeed():
        return 7

    assert await opening.get(succeed) == 7
    assert (opening.take(), opening.take()) == (7, None)


async def test_a_cancelled_opening_passes_to_the_next_in_line():
    opening: Opening[int] = Opening()

    async def forever():
        await asyncio.sleep(60)
        return 0

    async def succeed():
        return 7

    first = asyncio.create_task(opening.get(forever))
    await asyncio.sleep(0)
    second = asyncio.create_task(opening.get(succeed))
    await asyncio.sleep(0)
    first.cancel()

    assert await second == 7
    assert first.cancelled()


async def test_a_cancelled_waiter_leaves_the_opening_alone():
    opening: Opening[int] = Opening()

    async def slow():
        await asyncio.sleep(0.05)
        return 7

    first = asyncio.create_task(opening.get(slow))
    await asyncio.sleep(0)
    second = asyncio.create_task(opening.get(slow))
    await asyncio.sleep(0)
    second.cancel()

    assert await first == 7


# --- imports ------------------------------------------------------------------------------------


def test_the_version_is_that_of_the_distribution():
    assert aiecs.__version__.count(".") == 2


@pytest.mark.parametrize(
    "module", ["aiecs", "aiecs.domain.context", "aiecs.infrastructure.persistence"]
)
def test_names_are_loaded_when_they_are_asked_for(module):
    code = f"""
import sys, {module} as package
heavy = {{"redis", "sqlite3", "pydantic_settings", "msgspec"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert all(hasattr(package, name) for name in package.__all__)
assert set(package.__all__) <= set(dir(package))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
