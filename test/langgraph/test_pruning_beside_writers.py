"""A clean-up of a thread that others write to: it gets done, and what they wrote is whole."""

from __future__ import annotations

import asyncio

import pytest
from support.checkpoints import Run
from support.graphs import walk, walking

from aiecs import ContextEngine
from aiecs.core.errors import ConflictError
from aiecs.core.interface.store import Get
from aiecs.domain.context.thread_state import removing
from aiecs.domain.context.thread_state.reach import reached
from aiecs.integrations.langgraph import ContextEngineSaver

OLD = [f"item {number} " + "x" * 120 for number in range(60)]


@pytest.fixture
async def other(store):
    """A saver of another process, as it were."""
    async with ContextEngine(store=store, operation_timeout=10) as engine:
        yield ContextEngineSaver(engine)


async def loose_ends(engine, thread_id):
    """Names that are referred to and not there, and names that are there for nothing."""
    threads = engine._on.records
    whole = removing.Whole([None] * 3, {}, {}, {})
    async for _, gathered in ContextEngineSaver(engine)._threads.pruning._pages(thread_id):
        whole.take(gathered)
    (stored,) = await threads.read(thread_id, Get("e"))
    alive = reached(whole.names(set()), whole.nodes)
    return alive - stored.keys(), stored.keys() - alive


async def test_what_is_taken_up_again_meanwhile_stays(saver, other, store, engine, config):
    thread, run = config["configurable"]["thread_id"], Run(saver, config)
    for number in range(60):
        await run.step(list=OLD[: number + 1], n=number)
    await run.step(list=["nothing of that"])
    again = Run(other, run.config)
    again.versions = dict(run.versions)
    await other.aget_tuple(config)

    async def take_up():
        for number in (10, 40):
            store.after_gather = None
            await again.step(list=[*OLD[number : number + 15], f"new {number}" + "z" * 90], n=-1)
            await other.aput_writes(again.config, [("list", OLD[5:9])], f"task {number}")

    store.after_gather = take_up
    await saver.aprune([thread], keep_last=1)

    left = [one async for one in other.alist(config)]
    lists = [one.checkpoint["channel_values"]["list"] for one in left]
    assert [one[0] for one in lists] == [OLD[40], OLD[10], "nothing of that"]
    assert [one.pending_writes[0][2] for one in left[:2]] == [OLD[5:9]] * 2
    assert await loose_ends(engine, thread) == (set(), set())


@pytest.mark.parametrize("back", range(2, 7))
async def test_ancestors_of_a_fork_that_is_made_meanwhile_stay(saver, other, store, config, back):
    await walk(walking(saver), config, 9)
    history = [one async for one in walking(saver).aget_state_history(config)]
    old = history[-back]

    async def fork():
        await walking(other).aupdate_state(old.config, {"trail": ["forked"]})

    store.after_gather = fork
    await saver.aprune([config["configurable"]["thread_id"]])

    state = await walking(other).aget_state(config)
    assert state.values["trail"] == [*old.values["trail"], "forked"]
    missing, loose = await loose_ends(saver.engine, config["configurable"]["thread_id"])
    assert (missing, loose) == (set(), set())


async def test_it_is_done_while_two_never_pause(saver, other, engine, config):
    thread, first = config["configurable"]["thread_id"], Run(saver, config)
    for number in range(80):
        await first.step(list=OLD[: number % 60 + 1], n=number)
    done = asyncio.Event()
    stored = {}

    async def write(by):
        run = Run(by, config)
        while not done.is_set():
            start = len(stored) % 50
            at = await run.step(list=[*OLD[start : start + 10], f"new {len(stored)}" + "z" * 90])
            stored[at["configurable"]["checkpoint_id"]] = run.values["list"]
            await asyncio.sleep(0.003)

    async def clean_up():
        try:
            return [await saver._threads.pruning.keep_latest(thread, 5) for _ in range(4)]
        finally:
            done.set()

    _, _, pruned = await asyncio.gather(write(saver), write(other), clean_up())

    assert pruned[0].checkpoints >= 75
    found = [one async for one in ContextEngineSaver(engine).alist(config)]
    kept = {one.checkpoint["id"]: one.checkpoint["channel_values"]["list"] for one in found}
    assert max(stored) in kept
    assert all(stored[name] == value for name, value in kept.items() if name in stored)
    assert await loose_ends(engine, thread) == (set(), set())


async def test_without_a_moment_between_two_writes_it_says_so(saver, store, config, monkeypatch):
    monkeypatch.setattr(removing, "_ATTEMPTS", 3)
    thread, run = config["configurable"]["thread_id"], Run(saver, config)
    for number in range(3):
        await run.step(n=number)
    inner = store.inner.apply

    async def apply(batch, *, timeout=None):
        if len(getattr(batch, "ops", ())) > 1 and type(batch.ops[0]) is removing.RequireEquals:
            monkeypatch.setattr(store.inner, "apply", inner)
            await run.step(n=9)
            monkeypatch.setattr(store.inner, "apply", apply)
        return await inner(batch, timeout=timeout)

    monkeypatch.setattr(store.inner, "apply", apply)
    with pytest.raises(ConflictError, match="written to all the time"):
        await saver.aprune([thread])
