"""A crash that cuts a transaction in two in the append-only file: what is left must not come back.

Redis 7.0 truncates such a file behind the last whole command, not before MULTI. The next write
goes behind that half, and the start after the next runs both (Valkey mended it:
https://github.com/valkey-io/valkey/pull/4342). We tell operators what to do; here it is proven.
"""

from __future__ import annotations

import pytest
from redis.asyncio import Redis
from support.redis_store import adding, creating, items, opened
from support.waiting import until

from aiecs.infrastructure.persistence.stores.redis.condition import torn_tail

ITEM = b"only once"


@pytest.fixture
async def torn(own_server, prefix):
    """The server, killed, with a write in its file that ends behind its first command."""
    async with opened(own_server.url, prefix) as store:
        await store.apply(creating())
        (file,) = own_server.directory.glob("appendonlydir/*.incr.aof")
        before = file.stat().st_size
        await store.apply(adding(ITEM))
    own_server.kill()
    written = file.read_bytes()
    end = written.index(ITEM, before) + len(ITEM) + len(b"\r\n")
    assert written[before:].startswith(b"*1\r\n$5\r\nMULTI\r\n")
    file.write_bytes(written[: end + 5])
    return own_server


async def written_again_and_restarted(server, prefix):
    """What the group holds after one more write of the item and one more crash."""
    async with opened(server.url, prefix) as store:
        assert await items(store) == []
        await store.apply(adding(ITEM))
    server.kill()
    server.start()
    async with opened(server.url, prefix) as store:
        return await items(store)


async def test_a_file_that_was_checked_before_the_start(torn, prefix):
    torn.mend_torn_tail()
    torn.start()
    assert await written_again_and_restarted(torn, prefix) == [ITEM]


async def test_a_file_that_is_written_anew_after_the_start(torn, prefix):
    torn.start()
    assert torn.command("BGREWRITEAOF").startswith(b"+")
    await until(lambda: _rewritten(torn))
    assert await written_again_and_restarted(torn, prefix) == [ITEM]


async def test_the_doctor_names_every_server_that_replays_half_a_transaction(torn, prefix):
    torn.start()
    found = await written_again_and_restarted(torn, prefix)
    async with Redis.from_url(torn.url) as client:
        told = torn_tail(await client.info(), {})
    assert found in ([ITEM], [ITEM, ITEM])
    assert told or found == [ITEM]


async def _rewritten(server):
    said = server.command("INFO", "persistence")
    return b"aof_rewrite_in_progress:0" in said and b"aof_rewrite_scheduled:0" in said
