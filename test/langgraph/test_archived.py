"""Checkpoints that the store no longer has, read from the archive as if they were there."""

from __future__ import annotations

import pytest
from langchain_core.messages import HumanMessage
from support.archiving import opened
from support.graphs import said, talking, walk, walking
from support.waiting import until

from aiecs import ContextEngine
from aiecs.core.errors import ArchiveUnavailableError, LifecycleError
from aiecs.infrastructure.persistence.archive import gate
from aiecs.integrations.langgraph import ContextEngineSaver

SHORT = 0.3


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A slow machine must not make errors; nobody waits long for a shipper."""
    monkeypatch.setenv("AIECS_ARCHIVE_READ_TIMEOUT", "20")
    monkeypatch.setattr(gate, "LONGEST_PAUSE", 0.2)


@pytest.fixture
async def engine(store, archive_database):
    url = archive_database.url()
    async with ContextEngine(store=store, archive=url, operation_timeout=10) as engine:
        yield engine


@pytest.fixture
def whole(engine):
    """A saver that reads what is archived, too."""
    return ContextEngineSaver(engine, include_archived=True)


@pytest.fixture(params=["shipped", "on its way"])
def settle(request):
    """Waits until everything is in the archive, or does not."""

    async def wait(engine):
        if request.param == "shipped":
            await engine.archive_barrier(timeout=60)

    return wait


async def talk(saver, config, *texts):
    for text in texts:
        await talking(saver).ainvoke({"messages": [HumanMessage(text)]}, config)


async def history(saver, config, graph=talking, **options):
    """Each state with its config, metadata, values, what comes next, and its parent."""
    return [one async for one in graph(saver).aget_state_history(config, **options)]


async def forget(engine, config):
    """Let the thread expire."""
    thread_id = config["configurable"]["thread_id"]
    engine._on.records.caches.forget(thread_id)

    async def gone():
        return not await engine.list_checkpoints(thread_id)

    await until(gone)


async def test_a_pruned_history_is_whole_again(saver, whole, config, engine, settle):
    await talk(saver, config, "one", "two", "three")
    before = await history(saver, config)
    await settle(engine)
    await saver.aprune([config["configurable"]["thread_id"]])

    assert len(await history(saver, config)) == 1
    assert await history(whole, config) == before
    assert await history(whole, config, limit=2) == before[:2]
    assert await history(whole, config, before=before[3].config) == before[4:]
    for state in before:
        assert await talking(whole).aget_state(state.config) == state
    assert await talking(saver).aget_state(before[-1].config) != before[-1]


async def test_all_namespaces_of_a_pruned_thread(saver, whole, config, engine, settle):
    await talk(saver, config, "one", "two")
    at = {"configurable": {**config["configurable"], "checkpoint_ns": "inner"}}
    await talk(saver, at, "three")
    before = [one async for one in saver.alist(config)]
    await settle(engine)
    await saver.aprune([config["configurable"]["thread_id"]])

    assert [one async for one in whole.alist(config)] == before
    assert [one async for one in whole.alist(at)] == [
        one for one in before if one.config["configurable"]["checkpoint_ns"] == "inner"
    ]


async def test_what_writes_alone_tell_is_rebuilt(saver, whole, config, engine, settle):
    await walk(walking(saver), config, 7)
    before = await history(saver, config, walking)
    await settle(engine)
    await saver.aprune([config["configurable"]["thread_id"]])

    assert len(await history(saver, config, walking)) < len(before)
    assert await history(whole, config, walking) == before


async def test_an_archived_state_goes_on(saver, whole, config, engine, settle):
    await talk(saver, config, "one", "two", "three")
    first = next(one for one in await history(saver, config) if len(one.values["messages"]) == 2)
    await settle(engine)
    await saver.aprune([config["configurable"]["thread_id"]])

    state = await talking(whole).ainvoke({"messages": [HumanMessage("other")]}, first.config)
    assert said(state) == ["one", "you said one", "other", "you said other"]
    assert said((await talking(saver).aget_state(config)).values) == said(state)


async def test_a_thread_that_has_expired(store, archive_database, config, settle):
    url = archive_database.url()
    async with ContextEngine(store=store, archive=url, operation_timeout=10) as engine:
        passing = ContextEngineSaver(engine, ttl=SHORT)
        whole = ContextEngineSaver(engine, include_archived=True)
        await talk(ContextEngineSaver(engine, ttl=60), config, "one")
        before = await history(whole, config)
        await talk(passing, config, "two")
        await settle(engine)
        await forget(engine, config)
        assert await history(passing, config) == []
        found = await history(whole, config)
        assert found[-len(before) :] == before
        assert said(found[0].values) == ["one", "you said one", "two", "you said two"]
        assert said((await talking(whole).aget_state(config)).values) == said(found[0].values)

        await talk(passing, config, "new")  # a new life, which knows nothing
        assert said((await talking(passing).aget_state(config)).values) == ["new", "you said new"]
        again = await history(whole, config)
        assert again[-len(found) :] == found
        assert len(again) == len(found) + 3


@pytest.mark.parametrize("removal", ["thread", "runs", "session"])
async def test_what_was_removed_is_shown_no_more(whole, engine, config, settle, removal):
    saver = ContextEngineSaver(engine)
    linked = {"configurable": {**config["configurable"], "session_id": "s"}}
    config = linked if removal == "session" else config
    thread_id = config["configurable"]["thread_id"]
    run = {**config, "metadata": {"run_id": RUN}}
    await talking(saver).ainvoke({"messages": [HumanMessage("one")]}, run)
    await settle(engine)
    if removal == "thread":
        await saver.adelete_thread(thread_id)
    elif removal == "session":
        await engine.delete_session("s")
    else:
        await saver.adelete_for_runs([RUN])

    assert await history(whole, config) == []
    assert (await talking(whole).aget_state(config)).values == {}
    await engine.archive_barrier(timeout=60)
    assert await history(whole, config) == []


async def test_a_session_of_another_owner_shows_nothing_of_the_threads_before(
    store, archive_database, config, settle
):
    url, config = archive_database.url(), {"configurable": {**config["configurable"]}}
    config["configurable"]["session_id"] = "s"
    options = {"archive": url, "operation_timeout": 10, "session_ttl": SHORT}
    async with ContextEngine(store=store, **options) as engine:
        whole = ContextEngineSaver(engine, include_archived=True)
        await engine.create_session("s", user_id="anna")
        await talk(ContextEngineSaver(engine, ttl=SHORT), config, "mine")
        await settle(engine)
        await forget(engine, config)
        assert len(await history(whole, config)) == 3

        async def gone():
            return await engine.get_session("s") is None

        await until(gone)
        await engine.create_session("s", user_id="berta")
        assert await history(whole, config) == []


async def test_an_archive_holds_few_parts_twice(saver, engine, config, archive_database):
    for step in range(12):
        await talk(saver, config, f"{step} " + "x" * 400)
    await engine.archive_barrier(timeout=60)

    def count(archive):
        query = "SELECT count(), uniqExact(digest), sum(length(data)) FROM "
        return archive.select(query + "context_checkpoint_elements")[0]

    rows, different, size = opened(archive_database.url(), count)
    assert rows <= 1.5 * different  # some are sent by a checkpoint and by the writes before it
    assert size < 12 * 4_000


async def test_a_copy_is_archived_too(saver, whole, config, engine, settle):
    await talk(saver, config, "one", "two")
    source, target = config["configurable"]["thread_id"], "copy"
    await saver.acopy_thread(source, target)
    at = {"configurable": {"thread_id": target}}
    before = [one.values async for one in talking(saver).aget_state_history(at)]
    await settle(engine)
    await saver.aprune([target])
    await saver.adelete_thread(source)

    assert [one.values for one in await history(whole, at)] == before


async def test_an_archive_that_is_down_is_no_empty_history(
    store, own_clickhouse, monkeypatch, config
):
    monkeypatch.setenv("AIECS_ARCHIVE_READ_TIMEOUT", "0.02")
    async with ContextEngine(
        store=store, archive=own_clickhouse.url, operation_timeout=10
    ) as engine:
        saver, whole = ContextEngineSaver(engine), ContextEngineSaver(engine, include_archived=True)
        await talk(saver, config, "one")
        await engine.archive_barrier(timeout=60)
        own_clickhouse.kill()
        await saver.aprune([config["configurable"]["thread_id"]])
        with pytest.raises(ArchiveUnavailableError):
            await history(whole, config)
        assert len(await history(saver, config)) == 1
        assert said((await talking(whole).aget_state(config)).values) == ["one", "you said one"]


async def test_without_an_archive_that_is_said(store, config):
    async with ContextEngine(store=store, operation_timeout=10) as engine:
        whole = ContextEngineSaver(engine, include_archived=True)
        with pytest.raises(LifecycleError, match="archive"):
            await history(whole, config)


RUN = "5b3a7a0e-3a35-4c6c-8b61-0d5d6a6ef111"
