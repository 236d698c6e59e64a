"""LangGraph's own suite for savers on a cluster, also where replicas are read."""

from __future__ import annotations

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from support.checkpoints import Run
from support.rights import login, make_user

from aiecs import ContextEngine
from aiecs.infrastructure.persistence.stores.redis import RedisStore
from aiecs.integrations.langgraph import ContextEngineSaver, ContextEngineStore


@pytest.mark.parametrize("options", ["", "?read_from=replicas", "?durability=replicated"])
async def test_all_81_of_81(cluster, prefix, options):
    store = RedisStore.from_url(cluster.url + options, prefix=prefix, timeout=10.0)

    async def make():
        async with ContextEngine(store=store, operation_timeout=10) as engine:
            yield ContextEngineSaver(engine)

    report = await validate(checkpointer_test(name="ContextEngineSaver")(make))
    await store.close()

    assert [failure for one in report.results.values() for failure in one.failures or ()] == []
    assert sum(one.tests_passed for one in report.results.values()) == 81


@pytest.mark.parametrize("options", ["", "?durability=replicated"])
async def test_items_are_found_across_a_cluster(cluster, prefix, options):
    store = RedisStore.from_url(cluster.url + options, prefix=prefix, timeout=10.0)
    async with ContextEngine(store=store, operation_timeout=10) as engine:
        items = ContextEngineStore(engine)
        for number in range(60):
            await items.aput(
                (f"root {number % 5}", f"user {number % 11}"), str(number), {"n": number}
            )
        found = await items.asearch((), filter={"n": {"$gte": 50}}, limit=100)
        assert [item.value["n"] for item in found] == list(range(59, 49, -1))
        assert len(await items.alist_namespaces(prefix=("root 3",))) == 11
        assert len(await items.alist_namespaces(max_depth=1)) == 5
        assert await items.asweep_ttl() == 0
    await store.close()


async def test_a_thread_has_six_keys_of_one_slot_at_most(server, prefix):
    store = RedisStore.from_url(server.url, prefix=prefix, timeout=10.0)
    async with ContextEngine(store=store, operation_timeout=10) as engine:
        saver = ContextEngineSaver(engine)
        run = Run(saver, {"configurable": {"thread_id": "t"}})
        for number in range(40):
            at = await run.step(list=["x" * 100] * number, doc=f"{number} " + "d" * 200)
            await saver.aput_writes(at, [("doc", "w" * 200)], "task")
        await engine.store_checkpoint("t", "own", {})
        await engine.put_writes("t", "own", "task", [("a", 1)])
        keys = server.command("KEYS", f"{prefix}*t:t*").split(b"\r\n")[2::2]
    await store.close()

    assert len(keys) == 6
    assert len({key.partition(b"}")[0] for key in keys}) == 1


async def test_the_rights_of_the_documentation_are_enough(server, prefix):
    make_user(server, prefix)
    store = RedisStore.from_url(login(server.url), prefix=prefix, timeout=10.0)
    async with ContextEngine(store=store, operation_timeout=10) as engine:
        saver = ContextEngineSaver(engine)
        config = {"configurable": {"thread_id": "t"}}
        at = await Run(saver, config).step(list=["x" * 100] * 40)
        await saver.aput_writes(at, [("list", ["y" * 100] * 40)], "task")
        found = await saver.aget_tuple(config)
        assert len(found.checkpoint["channel_values"]["list"]) == 40
        await saver.aprune(["t"])
        await saver.adelete_thread("t")
        items = ContextEngineStore(engine)
        await items.aput(("a", "b"), "k", {"n": 1}, ttl=1)
        assert [item.key for item in await items.asearch(("a",))] == ["k"]
        await items.adelete(("a", "b"), "k")
        assert await items.asweep_ttl() == 0
    await store.close()
