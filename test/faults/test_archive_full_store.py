"""A Redis whose memory is full of events: the archive takes them, and there is room again."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from support import servers as real
from support.waiting import until

from aiecs import ContextEngine
from aiecs.core.errors import StoreFullError
from aiecs.infrastructure.persistence.archive import gate

ROOM = 12 * 1024 * 1024


@pytest.mark.parametrize("name", real.names())
async def test_a_full_redis_is_emptied_into_the_archive(servers, own_clickhouse, monkeypatch, name):
    monkeypatch.setattr(gate, "LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(gate, "_FIRST_PACE", 0.02)
    server = servers.start(name)
    server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    own_clickhouse.kill()
    async with ContextEngine(
        store=server.url, archive=own_clickhouse.url, max_messages_per_session=5
    ) as engine:
        used = int(server.command("INFO", "memory").partition(b"used_memory:")[2].split()[0])
        server.command("CONFIG", "SET", "maxmemory", str(used + ROOM))
        said = 0
        with contextlib.suppress(StoreFullError):
            while True:
                await engine.add_conversation_message(f"s{said % 8}", "user", "x" * 10_000)
                said += 1
        await asyncio.to_thread(own_clickhouse.start)
        await engine.archive_barrier(timeout=40)

        async def room():
            try:
                await engine.add_conversation_message("again", "user", "x")
            except StoreFullError:
                return False
            return True

        await until(room, 40)
        await engine.archive_barrier(timeout=30)
        query = "SELECT count(), uniqExact(event_id) FROM context_conversations"
        assert await engine.archive.query(query) == [(said + 1, said + 1)]
