"""A server without persistence is killed: all is lost, by design, and nobody is told otherwise."""

from __future__ import annotations

import pytest
from support import servers as real
from support.waiting import until

from aiecs import ContextEngine
from aiecs.core.errors import StoreError
from aiecs.infrastructure.persistence.stores.redis import RedisStore


@pytest.fixture(params=real.names())
def forgetful(request, servers):
    """A server of the test's own that keeps nothing."""
    server = servers.start(request.param)
    yield server
    server.close()


async def test_nothing_of_before_is_shown_and_everything_works_again(forgetful, prefix):
    store = RedisStore.from_url(forgetful.url, prefix=prefix, timeout=1.0)
    async with ContextEngine(store=store) as engine:
        for number in range(10):
            await engine.add_conversation_message("s", "user", f"m{number}")
            await engine.store_checkpoint("t", f"c{number}", {}, session_id="s")
        assert len(await engine.get_conversation_history("s")) == 10
        forgetful.kill()
        with pytest.raises(StoreError):
            await engine.get_conversation_history("s")
        forgetful.start()

        async def answers():
            try:
                await store.ping()
            except StoreError:
                return False
            return True

        await until(answers)
        assert await engine.get_conversation_history("s") == []
        assert await engine.get_session("s") is None
        assert await engine.get_checkpoint("t") is None
        assert await engine.list_all_sessions() == []
        await engine.add_conversation_message("s", "user", "new")
        await engine.store_checkpoint("t", "new", {}, session_id="s")
        assert [m.content for m in await engine.get_conversation_history("s")] == ["new"]
        assert [one["checkpoint_id"] for one in await engine.list_checkpoints("t")] == ["new"]
        assert len(await engine.list_all_sessions()) == 1
    await store.close()
