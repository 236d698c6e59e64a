"""Channels that store what was written: rebuilt from the chain, whatever was forked or pruned."""

from __future__ import annotations

from typing import Annotated, TypedDict

import pytest
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from support.graphs import Trail, extend, walk, walking


@pytest.mark.parametrize("steps", [1, 3, 11])
async def test_it_is_rebuilt_as_it_was_run(saver, engine, config, steps):
    graph = walking(saver)
    trail = await walk(graph, config, steps)
    reference = walking(InMemorySaver())
    assert await walk(reference, config, steps) == trail

    engine._on.records.caches.forget(config["configurable"]["thread_id"])
    assert (await graph.aget_state(config)).values["trail"] == trail
    assert graph.get_state(config).values["trail"] == trail
    ours = [one.values.get("trail") async for one in graph.aget_state_history(config)]
    theirs = [one.values.get("trail") async for one in reference.aget_state_history(config)]
    assert ours == theirs


async def test_the_chain_is_read_in_three_round_trips(saver, store, engine, config):
    class Long(TypedDict, total=False):
        trail: Annotated[list[str], DeltaChannel(extend, snapshot_frequency=1000)]

    builder = StateGraph(Long)
    builder.add_node("step", lambda state: {"trail": ["a step " + "x" * 80]})
    builder.add_edge(START, "step")
    graph = builder.compile(checkpointer=saver)
    for _ in range(40):
        await graph.ainvoke({"trail": ["in"]}, config)
    engine._on.records.caches.forget(config["configurable"]["thread_id"])
    store.calls.clear()

    found = await saver.aget_delta_channel_history(config=config, channels=["trail"])

    assert len(store.calls) <= 3
    assert len(found["trail"]["writes"]) >= 79
    assert await saver.aget_delta_channel_history(config=config, channels=[]) == {}
    unknown = {"configurable": {"thread_id": "nobody"}}
    assert await saver.aget_delta_channel_history(config=unknown, channels=["trail"]) == {
        "trail": {"writes": []}
    }


async def test_parallel_writers_come_back_in_the_order_of_the_run(saver, engine, config):
    builder = StateGraph(Trail)
    builder.add_node("spread", lambda state: {"trail": ["s"]})
    builder.add_node("leaf", lambda state: {"trail": [str(state["count"])]})
    sends = [Send("leaf", {"count": number}) for number in range(12)]
    builder.add_conditional_edges("spread", lambda state: sends, ["leaf"])
    builder.add_edge(START, "spread")
    graph = builder.compile(checkpointer=saver)

    live = (await graph.ainvoke({"trail": []}, config))["trail"]

    engine._on.records.caches.forget(config["configurable"]["thread_id"])
    assert (await graph.aget_state(config)).values["trail"] == live
    assert live == ["s", *map(str, range(12))]


@pytest.mark.parametrize("keep_last", [1, 3])
async def test_pruning_keeps_what_the_kept_are_rebuilt_from(saver, engine, config, keep_last):
    graph = walking(saver)
    trail = await walk(graph, config, 11)
    before = [one async for one in saver.alist(config)]

    await saver.aprune([config["configurable"]["thread_id"]], keep_last=keep_last)

    engine._on.records.caches.forget(config["configurable"]["thread_id"])
    assert (await graph.aget_state(config)).values["trail"] == trail
    left = [one async for one in saver.alist(config)]
    assert keep_last <= len(left) < len(before)
    assert await walk(graph, config, 2) == (await graph.aget_state(config)).values["trail"]


async def test_a_copy_is_rebuilt_too(saver, config):
    graph = walking(saver)
    trail = await walk(graph, config, 7)
    await saver.acopy_thread(config["configurable"]["thread_id"], "copied")
    await saver.adelete_thread(config["configurable"]["thread_id"])

    copied = {"configurable": {"thread_id": "copied"}}
    assert (await graph.aget_state(copied)).values["trail"] == trail


async def test_a_list_that_became_a_delta_later_goes_on(saver, config):
    class Plain(TypedDict, total=False):
        trail: Annotated[list[str], lambda old, new: old + new]

    builder = StateGraph(Plain)
    builder.add_node("step", lambda state: {"trail": ["plain " + "p" * 100]})
    builder.add_edge(START, "step")
    before = builder.compile(checkpointer=saver)
    for _ in range(40):
        state = await before.ainvoke({"trail": []}, config)

    after = walking(saver)
    assert (await after.aget_state(config)).values["trail"] == state["trail"]
    trail = await walk(after, config, 2)
    assert trail[: len(state["trail"])] == state["trail"]
    assert (await after.aget_state(config)).values["trail"] == trail
