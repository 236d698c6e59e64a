"""What stands where a map, a log or an index should be hides and stops nothing else."""

from __future__ import annotations

import sqlite3

import pytest
from redis import Redis
from support.messages import contents

from aiecs import ContextEngine
from aiecs.core.errors import CorruptRecordError
from aiecs.core.keys import session_place, thread_place
from aiecs.infrastructure.persistence.stores.redis.layout import Layout

PARTICIPANTS = [{"participant_id": "a", "participant_type": "agent", "participant_role": "r"}]


@pytest.fixture
def own_server(request, servers):
    """A server whose keys the test may all see."""
    server = servers.start(request.param)
    yield server
    server.close()


def pytest_generate_tests(metafunc):
    if "own_server" in metafunc.fixturenames:
        from support import servers as real

        metafunc.parametrize("own_server", real.names(), indirect=True)


def key_of(place, kind, key):
    """The server's name of a key of ours."""
    return Layout("ce").key(place.bucket, place.group, kind, key)


async def filled(url, count=30):
    """An engine with sessions of one user, a linked thread and an agent conversation each."""
    engine = ContextEngine(store=url)
    await engine.initialize()
    for number in range(count):
        name = f"s{number:02}"
        await engine.create_session(name, "u")
        await engine.add_conversation_message(name, "user", "hello")
    await engine.store_checkpoint("s00", "c", {"a": 1})
    await engine.create_conversation_session("s00", PARTICIPANTS, "agent_to_agent")
    return engine


@pytest.mark.parametrize(
    ("place", "kind", "key"),
    [
        (thread_place("s00"), "index", "o"),
        (session_place("s00"), "map", "a"),
        (session_place("s00"), "map", "h"),
        (session_place("s00"), "log", "m"),
    ],
)
async def test_a_user_with_a_damaged_session_is_deleted_whole(own_server, place, kind, key):
    engine = await filled(own_server.url)
    with Redis(port=own_server.port) as client:
        client.set(key_of(place, kind, key), "garbage")
    await engine.delete_user("u")
    for number in range(30):
        assert await engine.get_session(f"s{number:02}") is None
        assert await engine.get_conversation_history(f"s{number:02}") == []
    with Redis(port=own_server.port) as client:
        assert not client.exists(key_of(place, kind, key))
    await engine.close()


async def test_a_session_whose_head_is_no_map_stops_no_other(own_server):
    engine = await filled(own_server.url)
    head = key_of(session_place("s03"), "map", "")
    with Redis(port=own_server.port) as client:
        client.set(head, "garbage")
    others = {f"s{number:02}" for number in range(30)} - {"s03"}
    assert {one.session_id for one in await engine.list_sessions("u")} == others
    assert {one.session_id for one in await engine.list_all_sessions()} == others
    assert (await engine.recount()).sessions == 29
    assert await engine.cleanup_expired_sessions(0) >= 0
    with pytest.raises(CorruptRecordError, match="'s03'"):
        await engine.delete_user("u")
    assert await engine.list_all_sessions() == []
    await engine.close()


async def test_an_unreadable_lifetime_hides_one_session(own_server):
    engine = await filled(own_server.url, 5)
    with Redis(port=own_server.port) as client:
        client.hset(key_of(session_place("s03"), "map", ""), "~x", "garbage")
    await shows_four_of_five(engine)


async def test_an_unreadable_lifetime_hides_one_session_of_a_file(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    engine = ContextEngine(store=url, session_ttl=86_400)
    await engine.initialize()
    for number in range(5):
        await engine.create_session(f"s{number:02}", "u")
    await engine.close()
    with sqlite3.connect(tmp_path / "a.db") as file:
        owner = "(SELECT id FROM names WHERE name LIKE '%/s:s03' AND kind = 'm')"
        file.execute(f"UPDATE fields SET value = x'ff' WHERE field = '~x' AND owner = {owner}")
        assert file.total_changes == 1
    file.close()
    engine = ContextEngine(store=url, session_ttl=86_400)
    await engine.initialize()
    await shows_four_of_five(engine)


async def shows_four_of_five(engine):
    others = {"s00", "s01", "s02", "s04"}
    assert {one.session_id for one in await engine.list_sessions("u")} == others
    assert {one.session_id for one in await engine.list_sessions()} == others
    assert {one.session_id for one in await engine.list_all_sessions()} == others
    assert "corrupt" in " ".join((await engine.health_check())["issues"])
    await engine.close()


async def test_damaged_totals_are_left_out_and_put_right(own_server):
    engine = await filled(own_server.url, 3)
    await engine.close()
    with Redis(port=own_server.port) as client:
        (shard,) = [key for key in client.keys("*_n:*") if client.type(key) == b"hash"]
        client.set(shard, "garbage")
    engine = ContextEngine(store=own_server.url)
    await engine.initialize()
    health = await engine.health_check()
    assert (health["status"], health["total_messages"]) == ("healthy", 0)
    assert (await engine.recount()).messages == 3
    assert (await engine.get_metrics())["total_messages"] == 3
    await engine.close()


async def test_a_damaged_count_of_keys_is_told(own_server):
    engine = await filled(own_server.url, 1)
    with Redis(port=own_server.port) as client:
        client.hset(key_of(session_place("s00"), "map", ""), "kn", "garbage")
    with pytest.raises(CorruptRecordError):
        await engine.add_conversation_message("s00", "user", "x", idempotency_key="k")
    assert contents(await engine.get_conversation_history("s00")) == ["hello"]
    await engine.close()


async def test_a_damaged_index_stops_no_clean_up(own_server):
    engine = await filled(own_server.url, 40)
    with Redis(port=own_server.port) as client:
        shards = [key for key in client.keys("*z_a:*") if client.type(key) == b"zset"]
        client.set(shards[0], "garbage")
        held = sum(client.zcard(key) for key in shards[1:] if client.type(key) == b"zset")
    assert 0 < await engine.cleanup_expired_sessions(0) <= held
    await engine.close()
