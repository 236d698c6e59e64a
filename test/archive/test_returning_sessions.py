"""Sessions that come back after they have expired: what the archive holds is joined to the rest."""

from __future__ import annotations

import asyncio

import pytest
from support import servers as real
from support.waiting import expired, until

from aiecs import ContextEngine
from aiecs.core.errors import ArchiveUnavailableError, InvalidInputError, LifecycleError
from aiecs.domain.context.models import ConversationMessage
from aiecs.infrastructure.persistence.archive import gate, reading
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

SHORT = 0.2


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A slow machine must not make gaps; nobody waits long for a shipper."""
    monkeypatch.setenv("AIECS_ARCHIVE_READ_TIMEOUT", "20")
    monkeypatch.setattr(gate, "LONGEST_PAUSE", 0.2)


@pytest.fixture(params=["memory", "sqlite", *real.names()])
def store(request, servers, prefix, tmp_path, monkeypatch):
    if request.param == "memory":
        return MemoryStore()
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("AIECS_KEY_PREFIX", prefix.strip(":"))
    return servers.shared(request.param).url


def engine_on(store, archive, **options):
    options = {"session_ttl": SHORT, "operation_timeout": 10, **options}
    return ContextEngine(store=store, archive=archive, **options)


async def say(engine, *texts, session="s"):
    for text in texts:
        await engine.add_conversation_message(session, "user", text)


async def texts(engine, limit=50, session="s", **options):
    found = await engine.get_conversation_history(session, limit, **options)
    assert [message.seq for message in found] == sorted(message.seq for message in found)
    return [message.content for message in found]


async def test_what_has_expired_is_read_back_and_goes_before_what_is_new(store, archive_database):
    async with engine_on(store, archive_database.url()) as engine:
        await say(engine, "one", "two")
        await engine.archive_barrier(timeout=30)
        await expired(engine, "s")
        assert await texts(engine) == ["one", "two"]
        await say(engine, "three")
        assert await texts(engine) == ["one", "two", "three"]
        assert await texts(engine, 2) == ["two", "three"]
        assert await texts(engine, 1) == ["three"]
        assert await texts(engine, None) == ["one", "two", "three"]
        assert await texts(engine, include_archived=False) == ["three"]


async def test_expired_read_back_and_expired_again(store, archive_database):
    said = []
    async with engine_on(store, archive_database.url()) as engine:
        for life in range(3):
            new = [f"{life}.{number}" for number in range(4)]
            await say(engine, *new)
            said += new
            assert await texts(engine) == said
            await engine.archive_barrier(timeout=30)
            await engine.cleanup_expired_sessions()
            await expired(engine, "s")
            assert await texts(engine) == said
            assert await texts(engine, 6) == said[-6:]


async def test_what_is_not_shipped_yet_is_joined_too(store, own_clickhouse):
    async with engine_on(store, own_clickhouse.url) as engine:
        await say(engine, "shipped")
        await engine.archive_barrier(timeout=30)
        own_clickhouse.fault("error", code=252, match="INSERT INTO", times=10_000)
        await say(engine, "waiting")
        await expired(engine, "s")
        assert await texts(engine) == ["shipped", "waiting"]
        await say(engine, "hot")
        assert await texts(engine) == ["shipped", "waiting", "hot"]
        own_clickhouse.mend()


async def test_pages_cross_from_the_store_into_the_archive(store, archive_database):
    async with engine_on(store, archive_database.url()) as engine:
        await say(engine, *map(str, range(10)))
        await engine.archive_barrier(timeout=30)
        await expired(engine, "s")
        await say(engine, *map(str, range(10, 15)))
        everything = await engine.get_conversation_history("s", None)
        assert [message.content for message in everything] == list(map(str, range(15)))
        for limit in (3, 7):
            back, before = [], None
            while page := await engine.get_conversation_history("s", limit, before=before):
                back, before = page + back, page[0].seq
            assert back == everything
            on, after = [], 0
            while page := await engine.get_conversation_history("s", limit, after=after):
                on, after = on + page, page[-1].seq
            assert on == everything
        middle = everything[3].seq
        assert await texts(engine, 4, after=middle) == ["4", "5", "6", "7"]
        assert await texts(engine, None, after=middle, before=everything[12].seq) == [
            str(number) for number in range(4, 12)
        ]


async def test_what_retention_has_trimmed_is_still_readable(archive_database):
    options = {"session_ttl": None, "max_messages_per_session": 5}
    async with engine_on(MemoryStore(), archive_database.url(), **options) as engine:
        await say(engine, *map(str, range(12)))
        await engine.archive_barrier(timeout=30)
        assert await texts(engine, None) == list(map(str, range(12)))
        assert await texts(engine, 8) == list(map(str, range(4, 12)))
        assert await texts(engine, 5) == list(map(str, range(7, 12)))
        await say(engine, "12")
        assert await texts(engine, None) == list(map(str, range(13)))


@pytest.mark.parametrize("given", [True, False])
async def test_what_was_trimmed_is_readable_also_where_nothing_is_trimmed_any_more(
    archive_database, tmp_path, given
):
    store, ttl = f"sqlite:///{tmp_path}/store.db", {"session_ttl": None}
    async with engine_on(
        store, archive_database.url(), max_messages_per_session=5, **ttl
    ) as engine:
        made = await engine.create_session("s" if given else None, user_id="u")
        for text in map(str, range(12)):
            await engine.add_conversation_message(made.session_id, "user", text)
        await engine.archive_barrier(timeout=30)
    async with engine_on(store, archive_database.url(), **ttl) as engine:
        for _ in range(3):
            said = await engine.get_conversation_history(made.session_id, None)
            assert [one.content for one in said] == list(map(str, range(12)))
            await engine.update_session(made.session_id)


async def test_a_message_comes_back_as_it_was(archive_database):
    messages = [
        ConversationMessage(
            role="assistant",
            content="a;b\0é\N{ROBOT FACE}" * 50,
            timestamp="2025-02-03T04:05:06.000007+00:00",
            metadata={"model": "m", "input_tokens": 3, "deep": {"list": [1, None, 2.5]}},
            name="n",
            tool_calls=[{"id": "1", "args": {"x": [1]}}],
            parts=[{"type": "text"}],
            pinned=True,
        ),
        {"role": "tool", "content": "", "tool_call_id": "1"},
    ]
    async with engine_on(MemoryStore(), archive_database.url()) as engine:
        await engine.add_conversation_messages("s", messages)
        hot = await engine.get_conversation_history("s")
        await engine.archive_barrier(timeout=30)
        await expired(engine, "s")
        cold = await engine.get_conversation_history("s")
        assert [one.to_dict() for one in cold] == [one.to_dict() for one in hot]


async def test_a_time_that_clickhouse_cannot_hold_comes_back(archive_database):
    times = ("0001-01-01T00:00:00+00:00", "1899-12-31T23:59:59.999999+00:00")
    times += ("2300-01-01T00:00:00+00:00", "9999-12-31T23:59:59.999999+00:00")
    messages = [{"role": "user", "content": time, "timestamp": time} for time in times]
    async with engine_on(MemoryStore(), archive_database.url()) as engine:
        await engine.add_conversation_messages("s", messages)
        key = await engine.create_conversation_session("s", [], "agent_to_agent")
        await engine.archive_barrier(timeout=30)  # nothing is set aside
        await expired(engine, "s")
        cold = await engine.get_conversation_history("s")
        assert [one.timestamp.isoformat() for one in cold] == list(times)
        assert key


async def test_a_history_asked_for_at_once_waits_for_the_archive_to_open(
    archive_database, tmp_path
):
    store = f"sqlite:///{tmp_path}/store.db"
    async with engine_on(store, archive_database.url()) as engine:
        await say(engine, "one")
        await engine.archive_barrier(timeout=30)
        await expired(engine, "s")
    async with engine_on(store, archive_database.url()) as engine:
        assert await texts(engine, include_archived=True) == ["one"]
    async with engine_on(store, archive_database.url()) as engine:
        assert await texts(engine) == ["one"]


# --- who may see it -----------------------------------------------------------------------------


async def test_an_owner_sees_its_own_and_unowned_lives(archive_database):
    async with engine_on(MemoryStore(), archive_database.url()) as engine:
        for user, text in (("alice", "of alice"), ("", "of nobody"), ("bob", "of bob")):
            await engine.create_session("s", user)
            await say(engine, text)
            await engine.archive_barrier(timeout=30)
            await expired(engine, "s")
        assert await texts(engine) == ["of nobody", "of bob"]
        await engine.create_session("s", "alice")
        assert await texts(engine) == ["of alice", "of nobody"]
        await expired(engine, "s")
        await engine.create_session("s", "carol")
        assert await texts(engine) == ["of nobody"]


async def test_a_new_id_is_never_asked_for(own_clickhouse):
    async with engine_on(MemoryStore(), own_clickhouse.url, session_ttl=None) as engine:
        session = (await engine.create_session()).session_id
        await say(engine, "hello", session=session)
        await engine.archive_barrier(timeout=30)
        before = own_clickhouse.statistics()["requests"]
        for _ in range(3):
            assert await texts(engine, session=session) == ["hello"]
        await engine.create_session("named")
        await say(engine, "hello", session="named")
        assert await texts(engine, session="named") == ["hello"]
        asked = own_clickhouse.statistics()["requests"] - before
        for _ in range(5):  # once is enough
            assert await texts(engine, session="named") == ["hello"]
        assert own_clickhouse.statistics()["requests"] - before == asked


async def test_an_unknown_session_is_asked_for_once(own_clickhouse):
    async with engine_on(MemoryStore(), own_clickhouse.url) as engine:
        await say(engine, "hello", session="other")
        await engine.archive_barrier(timeout=30)
        await texts(engine, session="unknown")
        before = own_clickhouse.statistics()["requests"]
        for _ in range(5):
            assert await texts(engine, session="unknown") == []
        assert own_clickhouse.statistics()["requests"] == before
        await say(engine, "now", session="unknown")
        await engine.archive_barrier(timeout=30)
        await expired(engine, "unknown")
        assert await texts(engine, session="unknown") == ["now"]


async def test_a_hundred_callers_make_one_query(own_clickhouse):
    async with engine_on(MemoryStore(), own_clickhouse.url) as engine:
        await say(engine, *map(str, range(20)))
        await engine.archive_barrier(timeout=30)
        await expired(engine, "s")
        before = own_clickhouse.statistics()["requests"]
        found = await asyncio.gather(*(texts(engine) for _ in range(100)))
        assert found == [list(map(str, range(20)))] * 100
        assert own_clickhouse.statistics()["requests"] - before <= 4


# --- while the archive is down ------------------------------------------------------------------


async def test_while_the_archive_is_down_the_rest_is_served_and_the_gap_told(
    store, own_clickhouse, monkeypatch
):
    monkeypatch.setenv("AIECS_ARCHIVE_READ_TIMEOUT", "0.25")
    monkeypatch.setattr(reading, "_LONGEST_REST", 0.2)
    async with engine_on(store, own_clickhouse.url) as engine:
        await say(engine, "archived")
        await engine.archive_barrier(timeout=30)
        await expired(engine, "s")
        own_clickhouse.kill()
        await say(engine, "new")
        assert await texts(engine) == ["new"]
        with pytest.raises(ArchiveUnavailableError):
            await texts(engine, include_archived=True)
        health = await engine.health_check()
        assert health["archive"]["gaps"] >= 1
        assert any("without what the archive holds" in issue for issue in health["issues"])
        await asyncio.to_thread(own_clickhouse.start)

        async def whole():
            return await texts(engine) == ["archived", "new"]

        await until(whole)


async def test_an_archive_that_hangs_is_waited_for_as_long_as_was_said(own_clickhouse, monkeypatch):
    monkeypatch.setenv("AIECS_ARCHIVE_READ_TIMEOUT", "0.25")
    async with engine_on(MemoryStore(), own_clickhouse.url) as engine:
        await say(engine, "archived")
        await engine.archive_barrier(timeout=30)
        await expired(engine, "s")
        own_clickhouse.fault("slow", seconds=30, match="SELECT", times=1_000)
        async with asyncio.timeout(5):
            assert await texts(engine) == []
            for _ in range(20):  # it is left alone for a while
                assert await texts(engine) == []
        own_clickhouse.mend()


async def test_what_cannot_be_asked_for():
    async with ContextEngine(store=MemoryStore()) as engine:
        with pytest.raises(LifecycleError, match="no archive"):
            await engine.get_conversation_history("s", include_archived=True)
        with pytest.raises(InvalidInputError, match="include_archived"):
            await engine.get_conversation_history("s", include_archived="yes")
        assert await engine.get_conversation_history("s", include_archived=False) == []
