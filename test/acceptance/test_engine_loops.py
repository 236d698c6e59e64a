"""One engine on several event loops and threads, one after another and at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from support.waiting import until

from aiecs import ContextEngine


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

            async def both_are_counted():
                return (await other.get_metrics())["total_messages"] == 2

            await until(both_are_counted, 10.0)
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

    def in_a_loop_of_its_own():
        asyncio.run(engine.add_conversation_message("s", "user", "from a thread"))

    beside = asyncio.create_task(asyncio.to_thread(in_a_loop_of_its_own))
    written = 0
    while not beside.done():
        await engine.add_conversation_message("s", "user", "from here")
        written += 1
        await asyncio.sleep(0)
    await beside

    history = await engine.get_conversation_history("s", limit=None)
    counts = Counter(message.content for message in history)
    assert counts == {"from a thread": 1, "from here": written}
