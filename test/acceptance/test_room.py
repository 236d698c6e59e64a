"""How much of its room a store has taken, and what happens when there is none left."""

from __future__ import annotations

import pytest
from support import servers as real

from aiecs import ContextEngine, InvalidInputError, StoreFullError
from aiecs.core import registry
from aiecs.core.settings import load_settings

MIB = 1024 * 1024
BOUND = 2 * MIB
TEXT = "x" * 50_000


@pytest.fixture(params=["memory", "sqlite"])
def bounded_url(request, tmp_path):
    if request.param == "memory":
        return f"memory://?max_bytes={BOUND}"
    return f"sqlite:///{tmp_path}/a.db?max_bytes={BOUND}"


async def fill(engine):
    for number in range(200):
        await engine.add_conversation_message(f"s{number % 4}", "user", TEXT)


async def test_a_full_store_refuses_and_takes_writes_again(bounded_url):
    async with ContextEngine(store=bounded_url, operation_timeout=10) as engine:
        await engine.create_session("s0", "u")
        empty = (await engine.get_metrics())["memory_usage"]

        with pytest.raises(StoreFullError) as refused:
            await fill(engine)

        assert refused.value.outcome == "not_applied"
        health = await engine.health_check()
        assert empty < 0.2
        assert 0.9 < health["memory_usage"] <= 1
        assert [one for one in health["warnings"] + health["issues"] if one.startswith("room: ")]
        assert health["last_error"]["error"] == "StoreFullError"
        assert health["last_error"]["operation"] == "add_conversation_message"
        kept = await engine.get_conversation_history("s1", limit=None)
        assert {message.content for message in kept} == {TEXT}
        for number in range(4):
            await engine.delete_session(f"s{number}")
        await engine.add_conversation_message("t", "user", TEXT)
        health = await engine.health_check()
        assert health["memory_usage"] < 0.2
        assert (health["status"], health["warnings"]) == ("healthy", [])


async def test_a_sweep_makes_room_in_a_full_store():
    async with ContextEngine(store=f"memory://?max_bytes={BOUND}", session_ttl=None) as engine:
        with pytest.raises(StoreFullError):
            await fill(engine)

        assert await engine._on.maintenance.sweep() == 0, "the lease is given"
        assert await engine.cleanup_expired_sessions(max_idle_hours=0) == 4

        await fill_one(engine)


async def fill_one(engine):
    await engine.add_conversation_message("t", "user", TEXT)


async def test_the_variable_bounds_stores_and_the_fallback(monkeypatch, tmp_path):
    monkeypatch.setenv("AIECS_STORE_MAX_BYTES", str(BOUND))
    for url in ("memory://", f"sqlite:///{tmp_path}/b.db"):
        async with ContextEngine(store=url, operation_timeout=10) as engine:
            with pytest.raises(StoreFullError):
                await fill(engine)

    fallback = registry.fallback_store(load_settings())
    async with ContextEngine(store=fallback) as engine:
        with pytest.raises(StoreFullError):
            await fill(engine)


async def test_without_a_bound_it_is_the_disk_or_the_machine(tmp_path):
    for url in ("memory://", f"sqlite:///{tmp_path}/c.db"):
        async with ContextEngine(store=url) as engine:
            await engine.create_session("s", "u")
            assert 0 < (await engine.get_metrics())["memory_usage"] < 1


@pytest.mark.parametrize("name", real.names())
async def test_of_a_server_it_is_what_it_may_take(servers, name):
    server = servers.start(name)
    async with ContextEngine(store=server.url, operation_timeout=10) as engine:
        machine = (await engine.get_metrics())["memory_usage"]
        server.command("CONFIG", "SET", "maxmemory", "4mb")

        limited = (await engine.get_metrics())["memory_usage"]

    server.close()
    assert 0 < machine < limited < 1


@pytest.mark.parametrize(
    "url",
    [
        "memory://x",
        "memory://?max_bytes=",
        "memory://?max_bytes=-1",
        "memory://?max_bytes=1&x=2",
        "memory://?x=1",
        "sqlite:///a.db?max_bytes=7",
        "sqlite:///a.db?max_bytes=x",
        "sqlite:///a.db?max_bytes=2097152&max_bytes=2097152",
    ],
)
async def test_bounds_that_make_no_sense_are_refused(url):
    with pytest.raises(InvalidInputError):
        await ContextEngine(store=url).initialize()
