"""Everything moves between any two stores: losslessly, once, wherever it is cut off."""

from __future__ import annotations

import asyncio

import pytest
from support import servers as real
from support.clusters import Cluster
from support.moved import ITEMS, STORES, TALK, digests, fill_all, state_of
from support.services import Crash, Store
from support.transfer import fill

from aiecs import ContextEngine, InvalidInputError, LifecycleError, StoreUnavailableError
from aiecs.core.interface.store import Batch, IndexPut, Put, Redact
from aiecs.core.keys import session_place, thread_place
from aiecs.domain.context.migration import MigrationReport, migrate, parts
from aiecs.domain.context.migration.reading import Reader
from aiecs.domain.context.migration.writing import is_open
from aiecs.integrations.langgraph import ContextEngineSaver, ContextEngineStore

SESSION_IDS = ("full", "empty", "long", "keyed")


def summed(report: MigrationReport) -> dict[str, int]:
    return dict(report.sessions + report.threads + report.namespaces)


@pytest.mark.parametrize("to", STORES)
@pytest.mark.parametrize("from_", STORES)
async def test_all_of_it_arrives(engine_on, from_, to):
    source, target = await engine_on(from_), await engine_on(to)
    await fill_all(source)
    seen = []

    report = await migrate(source, target, on_progress=seen.append)

    assert report.complete, report.troubles
    assert dict(report.sessions) == {"moved": 4}
    assert dict(report.threads) == {"moved": 5}
    assert dict(report.namespaces) == {"moved": 2}
    assert (report.messages, report.compared) == (917, 11)
    assert report.items == 251
    assert await digests(target) == await digests(source)
    for name in SESSION_IDS:
        assert await target.get_session(name) == await source.get_session(name)
        before = await source.get_conversation_history(name, None)
        after = await target.get_conversation_history(name, None)
        assert after == before
        assert [(m.id, m.seq) for m in after] == [(m.id, m.seq) for m in before]
    ours, theirs = await target.get_task_context("full"), await source.get_task_context("full")
    assert ours.to_dict() == theirs.to_dict()
    (key,) = [one.session_key for one in await source.list_conversation_sessions("full")]
    assert await target.get_agent_conversation_history(
        key
    ) == await source.get_agent_conversation_history(key)
    assert await target.list_checkpoints("t/1") == await source.list_checkpoints("t/1")
    assert await target.get_writes("t/1", "c2") == await source.get_writes("t/1", "c2")
    assert await state_of(target) == await state_of(source)
    items = await ContextEngineStore(target).asearch(ITEMS, limit=300)
    assert items == await ContextEngineStore(source).asearch(ITEMS, limit=300)
    counted = await target.get_metrics()
    expected = await source.get_metrics()
    for name in ("stored_sessions", "stored_messages", "stored_checkpoints", "active_sessions"):
        assert counted[name] == expected[name], name
    assert (await target.recount()).drift == {}
    listed = await target.list_all_sessions()
    assert listed == sorted(listed, key=lambda one: one.last_activity)
    assert len(listed) == len(await source.list_all_sessions())
    assert [one.session_id for one in await target.list_sessions("ada")] == ["full"]
    moving = [one for one in seen if one.phase == "moving"]
    assert (moving[0].done, moving[-1].done) == (0, 11)
    assert all(one.done <= one.total for one in seen)


async def test_what_was_moved_can_be_used(engine_on):
    source, target = await engine_on("memory"), await engine_on("sqlite")
    await fill_all(source)
    await migrate(source, target)

    assert await target.add_conversation_message("keyed", "user", "once", idempotency_key="k")
    assert len(await target.get_conversation_history("keyed")) == 1
    await target.add_conversation_message("full", "user", "later")
    history = await target.get_conversation_history("full", None)
    assert [m.content for m in history][-1] == "later"
    assert [m.seq for m in history] == sorted({m.seq for m in history})
    assert (await target.delete_session("full")).threads == 3
    assert await target.get_checkpoint("t/1") is None
    assert await ContextEngineSaver(target).aget_tuple(TALK) is None


async def test_again_it_finds_everything_there(engine_on):
    source, target = await engine_on("memory"), await engine_on("sqlite")
    await fill_all(source)
    await migrate(source, target)
    before = await digests(target)

    report = await migrate(source, target)

    assert summed(report) == {"known": 11}
    assert (report.messages, report.checkpoints, report.items) == (0, 0, 0)
    assert await digests(target) == before


@pytest.mark.parametrize("to", STORES)
async def test_what_the_source_wrote_since_is_brought(engine_on, to):
    source, target = await engine_on("memory"), await engine_on(to)
    await fill_all(source)
    await migrate(source, target)
    await source.add_conversation_message("full", "user", "later")
    await source.update_session("full", {"metadata": {"source": None, "new": 1}})
    await source.end_session("long")
    await source.store_checkpoint("loose", "c", {"x": 2})
    saver = ContextEngineSaver(source)
    await saver.aprune(["talk"], strategy="keep_latest")
    await ContextEngineStore(source).adelete(ITEMS, "k7")
    await ContextEngineStore(source).aput(ITEMS, "k8", {"n": "new"})

    report = await migrate(source, target)

    assert report.complete, report.troubles
    assert summed(report) == {"known": 6, "continued": 5}
    assert report.messages == 1
    assert await digests(target) == await digests(source)
    assert (await target.get_session("full")).metadata == {"nested": {"a": [1, None]}, "new": 1}
    assert await state_of(target) == await state_of(source)
    assert (await target.recount()).drift == {}


async def test_a_log_that_was_cut_or_redacted_is_told_anew(engine_on):
    source, target = await engine_on("memory"), await engine_on("sqlite")
    runtime = source._on.runtime
    for name in ("redacted", "other"):
        for number in range(5):
            await source.add_conversation_message(name, "user", f"m{number}")
    await migrate(source, target)
    first = (await source.get_conversation_history("redacted"))[0].seq
    redact = Redact("m", (first + 1,))
    await runtime.apply(Batch(*session_place("redacted"), (redact, Put("", {"l": b"7"}))))

    report = await migrate(source, target)

    assert summed(report) == {"continued": 1, "known": 1}
    found = [m.content for m in await target.get_conversation_history("redacted")]
    assert found == ["m0", "m2", "m3", "m4"]
    assert (await target.get_metrics())["stored_messages"] == 10
    assert await digests(target) == await digests(source)


async def test_what_was_trimmed_in_the_source_is_trimmed(engine_on):
    source = await engine_on("memory", max_messages_per_session=5)
    target = await engine_on("sqlite")
    for number in range(5):
        await source.add_conversation_message("s", "user", f"m{number}")
    await migrate(source, target)
    for number in range(5, 8):
        await source.add_conversation_message("s", "user", f"m{number}")

    await migrate(source, target)

    found = [m.content for m in await target.get_conversation_history("s")]
    assert found == [f"m{number}" for number in range(3, 8)]
    assert (await target.recount()).drift == {}


async def test_what_changed_without_a_trace_in_the_head_is_found_by_comparing(engine_on):
    source, target = await engine_on("memory"), await engine_on("sqlite")
    await fill_all(source)
    await migrate(source, target)
    await source.apply_retention(max_messages=3)
    damage = Batch(*session_place("full"), (Put("t", {"d": b"damaged"}),))
    await target._on.runtime.apply(damage)

    report = await migrate(source, target)

    assert report.complete, report.troubles
    assert report.compared == 11
    assert await digests(target) == await digests(source)
    assert (await target.recount()).drift == {}


# --- who wrote where ----------------------------------------------------------------------------


async def test_what_the_target_wrote_since_stays(engine_on):
    source, target = await engine_on("memory"), await engine_on("sqlite")
    await fill(source)
    await migrate(source, target)
    await target.add_conversation_message("full", "user", "in the target")

    report = await migrate(source, target)

    assert report.complete
    assert report.sessions == {"newer": 1, "known": 1}
    assert (await target.get_conversation_history("full"))[-1].content == "in the target"


async def test_what_both_wrote_is_told_and_stays(engine_on):
    source, target = await engine_on("memory"), await engine_on("sqlite")
    await fill(source)
    await migrate(source, target)
    for engine in (source, target):
        await engine.add_conversation_message("full", "user", "here")
    before = await digests(target)

    report = await migrate(source, target)

    assert not report.complete
    assert [(one.kind, one.name) for one in report.troubles] == [("session", "full")]
    assert "both have written" in report.troubles[0].reason
    assert await digests(target) == before


async def test_another_session_of_the_same_name_stays(engine_on):
    source, target = await engine_on("memory"), await engine_on("sqlite")
    await fill(source)
    await target.create_session("full", "eve")

    report = await migrate(source, target)

    assert [(one.kind, one.name) for one in report.troubles] == [("session", "full")]
    assert (await target.get_session("full")).user_id == "eve"
    assert await target.get_checkpoint("loose") is not None


async def test_it_goes_back_as_well(engine_on):
    source, target = await engine_on("memory"), await engine_on("sqlite")
    await fill_all(source)
    await migrate(source, target)
    await target.add_conversation_message("full", "user", "in the target")

    report = await migrate(target, source)

    assert report.complete, report.troubles
    assert report.sessions == {"continued": 1, "known": 3}
    assert (await source.get_conversation_history("full"))[-1].content == "in the target"


async def test_writers_may_go_on(engine_on):
    """What is acknowledged by the source before the last call is in the target."""
    source, target = await engine_on("memory"), await engine_on("sqlite")
    for number in range(40):
        await source.create_session(f"s{number}", "u")
    stop = asyncio.Event()

    async def write(name):
        for number in range(10_000):
            if stop.is_set():
                return
            await source.add_conversation_message(name, "user", str(number))
            await asyncio.sleep(0)

    writers = [asyncio.create_task(write(f"s{number}")) for number in range(4)]
    await migrate(source, target, verify=False)
    stop.set()
    await asyncio.gather(*writers)

    report = await migrate(source, target)

    assert report.complete, report.troubles
    assert await digests(target) == await digests(source)


# --- cut off ------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
async def test_it_goes_on_wherever_it_died(engine_on, when):
    source = await engine_on("memory")
    await fill(source)
    await source.add_conversation_messages(
        "long", [{"role": "user", "content": "y" * 900_000} for _ in range(5)]
    )
    expected = await digests(source)
    died = 0
    while True:
        store = Store()
        target = await engine_on("memory", store=store)
        store.fail(died + 1, when, Crash())
        died += 1
        try:
            await migrate(source, target)
        except Crash:
            store.mend()
            report = await migrate(source, target)
            assert report.complete, report.troubles
            assert await digests(target) == expected
            await target.recount()
            assert (await target.recount()).drift == {}
            continue
        store.mend()
        break
    assert died > 25


async def test_a_store_that_goes_down_ends_it_and_it_goes_on(engine_on):
    source, store = await engine_on("memory"), Store()
    await fill(source)
    target = await engine_on("memory", store=store)
    store.fail(12)
    with pytest.raises(StoreUnavailableError):
        await migrate(source, target)
    store.mend()

    assert (await migrate(source, target)).complete
    assert await digests(target) == await digests(source)


async def test_two_at_once_do_not_double_anything(engine_on):
    source, target = await engine_on("memory"), await engine_on("sqlite")
    await fill_all(source)

    await asyncio.gather(*(migrate(source, target) for _ in range(3)))

    assert (await migrate(source, target)).complete
    assert await digests(target) == await digests(source)


async def test_a_write_to_half_of_a_session_is_not_lost(engine_on):
    """An application that writes to what is being moved is told of, and nothing is overwritten."""
    source = await engine_on("memory")
    await source.add_conversation_messages(
        "long", [{"role": "user", "content": "y" * 900_000} for _ in range(5)]
    )
    for number in range(1, 10):
        store = Store()
        target = await engine_on("memory", store=store)
        store.fail(number, "after", Crash())
        with pytest.raises(Crash):
            await migrate(source, target)
        store.mend()
        if is_open((await Reader(target._on.runtime).head(parts.session("long"))).fields):
            break
    await target.add_conversation_message("long", "user", "too early")

    report = await migrate(source, target)

    assert not report.complete
    contents = [m.content for m in await target.get_conversation_history("long", None)]
    assert contents[-1] == "too early"


# --- what goes wrong ----------------------------------------------------------------------------


async def test_a_damaged_group_does_not_stop_the_others(engine_on):
    source, target = await engine_on("memory"), await engine_on("memory")
    await fill_all(source)
    damage = Batch(*thread_place("talk"), (Put("w", {"://x/1": b"\xff"}), Put("", {"l": b"9"})))
    await source._on.runtime.apply(damage)
    await source._on.runtime.apply(Batch(*thread_place("talk"), (IndexPut("p", {"://x/1": 0}),)))

    report = await migrate(source, target)

    assert [(one.kind, one.name) for one in report.troubles] == [("thread", "talk")]
    assert dict(report.threads) == {"moved": 4}


async def test_questions_that_make_no_sense(engine_on):
    source = await engine_on("memory")
    with pytest.raises(InvalidInputError):
        await migrate(source, source)
    with pytest.raises(LifecycleError):
        await migrate(source, ContextEngine(store="memory://"))


# --- clusters -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", real.names())
async def test_from_one_server_to_a_cluster_and_back(servers, engine_on, name):
    source = await engine_on(name)
    await fill_all(source)
    with Cluster(servers, name) as cluster:
        async with ContextEngine(store=cluster.url, operation_timeout=10.0) as target:
            there = await migrate(source, target)
            assert await digests(target) == await digests(source)
            back = await engine_on("memory")
            again = await migrate(target, back)
            assert await digests(back) == await digests(source)
    assert there.complete, there.troubles
    assert again.complete, again.troubles
