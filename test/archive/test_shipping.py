"""From engines on every store into a real ClickHouse: every acknowledged write arrives once."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

import pytest
from support import servers as real
from support.waiting import until

from aiecs import ContextEngine
from aiecs.domain.context import services
from aiecs.infrastructure.persistence.archive import ClickHouseArchive, gate, shipper
from aiecs.infrastructure.persistence.archive.barrier import wait_until_in
from aiecs.infrastructure.persistence.archive.destination import ArchiveDestination
from aiecs.infrastructure.persistence.archive.shipper import Shipper
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

SESSIONS = [f"session {number}" for number in range(8)]
MESSAGES = 400
COUNTS = "SELECT count(), uniqExact(event_id) FROM context_conversations"


@pytest.fixture(autouse=True)
def archived(monkeypatch):
    """Engines are opened as with an archive; the shipper looks at every bucket in each round."""
    monkeypatch.setattr(services, "build", partial(services.build, archived=True))
    monkeypatch.setattr(shipper, "_LOOK_AROUND", 4_096)
    monkeypatch.setattr(gate, "LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(gate, "_FIRST_PACE", 0.02)


@pytest.fixture(params=["memory", "sqlite", *real.names()])
async def store(request, servers, prefix, tmp_path):
    """Each store."""
    if request.param == "memory":
        opened = MemoryStore()
    elif request.param == "sqlite":
        from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore

        opened = SqliteStore(tmp_path / "store.db", timeout=10.0)
    else:
        from aiecs.infrastructure.persistence.stores.redis import RedisStore

        url = servers.shared(request.param).url
        opened = RedisStore.from_url(url, prefix=prefix, timeout=10.0)
    yield opened
    await opened.close()


@contextlib.asynccontextmanager
async def shipping(store, archive):
    """A shipper at work, and its archive."""
    destination = ArchiveDestination(archive, "test")
    one = Shipper(store, destination, linger=0.05)
    task = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        one.stop()
        await asyncio.wait_for(task, 20)
        await destination.close()


async def talk(store):
    """Messages in some sessions; what was said, by session."""
    said = {session: [] for session in SESSIONS}
    async with ContextEngine(store=store, operation_timeout=10.0) as engine:
        for number in range(MESSAGES):
            session = SESSIONS[number % len(SESSIONS)]
            text = f"{number} ; \0 é {'x' * 200}"
            await engine.add_conversation_message(session, "user", text)
            said[session].append(text)
    return said


async def arrived(archive, said):
    """Wait until all is there, and compare it."""

    async def all_there():
        with contextlib.suppress(Exception):  # it may be down, or not have its tables yet
            ((_, unique),) = await asyncio.to_thread(archive.select, COUNTS)
            return unique == MESSAGES
        return False

    await until(all_there, 60)
    query = "SELECT content FROM context_conversations WHERE session_id = {s:String} ORDER BY seq"
    for session, texts in said.items():
        rows = await asyncio.to_thread(archive.select, query, {"s": session})
        assert [content for (content,) in rows] == texts
    ((raw, unique),) = await asyncio.to_thread(archive.select, COUNTS)
    return raw, unique


async def test_everything_arrives_in_its_order(store, archive_database):
    archive = ClickHouseArchive.from_url(archive_database.url())
    async with shipping(store, archive) as one:
        said = await talk(store)
        assert await arrived(archive, said) == (MESSAGES, MESSAGES)
        assert one.progress.dead == 0


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("error", {"code": 252}),
        ("unavailable", {}),
        ("lose_request", {}),
        ("lose_reply", {}),
    ],
)
async def test_inserts_that_fail(clickhouse_bridge, archive_database, kind, more):
    store, archive = MemoryStore(), ClickHouseArchive.from_url(archive_database.url())
    archive.open()
    clickhouse_bridge.fault(kind, times=5, **more)
    async with shipping(store, archive) as one:
        said = await talk(store)
        # What is in the archive already may be sent again still: its reply was lost.
        await wait_until_in(store, None, 60.0, lambda _: one.hurry())
        assert await arrived(archive, said) == (MESSAGES, MESSAGES)
        assert (one.progress.failures, one.progress.dead) == (5, 0)


async def test_a_server_that_is_killed_and_comes_back(own_clickhouse):
    store, archive = MemoryStore(), ClickHouseArchive.from_url(own_clickhouse.url)
    async with shipping(store, archive):
        first = asyncio.create_task(talk(store))
        await asyncio.to_thread(own_clickhouse.wait_for, inserts=1)
        await asyncio.to_thread(own_clickhouse.kill)
        said = await first
        await asyncio.to_thread(own_clickhouse.start)
        assert await arrived(archive, said) == (MESSAGES, MESSAGES)
