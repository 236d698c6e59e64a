"""The contract, for a user with no other rights than the documentation lists."""

from __future__ import annotations

import pytest
from support.redis_store import creating, opened
from support.rights import login, make_user, rules

from aiecs.core.errors import StoreAuthError
from aiecs.infrastructure.persistence.stores.redis import RedisStore
from aiecs.testing import StoreContract


class TestLeastRights(StoreContract):
    @pytest.fixture
    async def store(self, server, prefix):
        make_user(server, prefix)
        store = RedisStore.from_url(login(server.url), prefix=prefix, timeout=10.0)
        yield store
        await store.close()


async def test_a_cluster_that_confirms_and_reads_from_replicas(cluster, prefix):
    for node in cluster.nodes:
        make_user(node, prefix, extra=True)
    url = f"{login(cluster.url)}?durability=replicated&read_from=replicas"
    async with opened(url, prefix) as store:
        for bucket in range(0, 16_384, 1_000):
            await store.apply(creating(bucket=bucket))


async def test_every_right_is_needed(server, prefix):
    """A list that grows without need would be followed without need."""
    names = [word[1:] for word in rules(prefix) if word.startswith("+")]
    wanted = {name.partition("|")[0] for name in names}
    # What is asked for by another way than scripts' own commands is not refused at login.
    silent = {"ping", "select", "client", "info", "script"}
    make_user(server, prefix)
    for name in names:
        if name.partition("|")[0] in silent:
            continue
        server.command("ACL", "SETUSER", "app", f"-{name}")
        async with opened(login(server.url), prefix) as store:
            with pytest.raises(StoreAuthError):
                await store.apply(creating())
        server.command("ACL", "SETUSER", "app", f"+{name}")
    assert len(wanted) == len(names)


async def test_keys_of_others_are_out_of_reach(server, prefix):
    make_user(server, prefix)
    async with opened(login(server.url), f"other{prefix}") as store:
        with pytest.raises(StoreAuthError):
            await store.apply(creating())
