"""Real graphs on real stores: they stop, go on, branch and look back, by `invoke` and `ainvoke`."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.messages import HumanMessage
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt
from support.clusters import until_now
from support.graphs import Talk, said, talking


@pytest.fixture(params=["invoke", "ainvoke"])
def run(request):
    """Runs a graph by one of its two ways; the blocking one from a thread of its own."""
    if request.param == "ainvoke":
        return lambda graph, *args, **more: graph.ainvoke(*args, **more)
    return lambda graph, *args, **more: asyncio.to_thread(graph.invoke, *args, **more)


async def test_a_conversation_goes_on(saver, config, run):
    graph = talking(saver)
    for text in ("one", "two", "three"):
        state = await run(graph, {"messages": [HumanMessage(text)]}, config)

    assert said(state) == ["one", "you said one", "two", "you said two", "three", "you said three"]
    assert (await graph.aget_state(config)).values["count"] == 3
    assert graph.get_state(config).values["count"] == 3  # from within a running loop


async def test_the_same_saver_by_both_ways_in_turn(saver, config):
    graph = talking(saver)
    await graph.ainvoke({"messages": [HumanMessage("one")]}, config)
    graph.invoke({"messages": [HumanMessage("two")]}, config)
    parts = [part async for part in graph.astream({"messages": [HumanMessage("3")]}, config)]
    parts += list(graph.stream({"messages": [HumanMessage("4")]}, config))

    assert len(parts) == 2
    assert (await graph.aget_state(config)).values["count"] == 4
    assert len([one async for one in graph.aget_state_history(config)]) == 12


async def test_a_fork_leaves_the_original_as_it_was(saver, config, run):
    graph = talking(saver)
    for text in ("one", "two", "three"):
        await run(graph, {"messages": [HumanMessage(text)]}, config)
    before = [(one.config, one.values) async for one in graph.aget_state_history(config)]
    old = before[4][0]

    fork = await graph.aupdate_state(old, {"messages": [HumanMessage("instead")], "count": 40})
    forked = await run(graph, None, fork)
    replayed = await run(graph, None, before[1][0])

    assert said(forked)[-2:] == ["instead", "you said instead"] or said(forked)[-1] == "instead"
    assert said(replayed)[-1] == "you said three"
    for place, values in before:
        assert (await graph.aget_state(place)).values == values


async def test_two_interrupts_one_after_the_other(saver, config, run):
    def ask(state: Talk) -> Talk:
        name = interrupt("name?")
        age = interrupt("age?")
        return {"trail": [f"{name} is {age}"]}

    builder = StateGraph(Talk)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    graph = builder.compile(checkpointer=saver)

    asked = [(await run(graph, {"trail": []}, config))["__interrupt__"][0].value]
    asked.append((await run(graph, Command(resume="ada"), config))["__interrupt__"][0].value)
    done = await run(graph, Command(resume=36), config)

    assert asked == ["name?", "age?"]
    assert done["trail"] == ["ada is 36"]


async def test_what_succeeded_beside_a_failure_is_not_done_again(saver, config, run):
    ran: list[str] = []
    broken = [True]

    def good(state: Talk) -> Talk:
        ran.append("good")
        return {"trail": ["good"]}

    def good_is_stored() -> bool:
        found = saver.get_tuple(config)
        return found is not None and ["good"] in [value for _, _, value in found.pending_writes]

    def bad(state: Talk) -> Talk:
        ran.append("bad")
        if broken[0]:
            # LangGraph cancels what is still under way beside a failure: that would run again.
            until_now(good_is_stored)
            raise ValueError("not yet")
        return {"trail": ["bad"]}

    builder = StateGraph(Talk)
    builder.add_node("good", good)
    builder.add_node("bad", bad)
    builder.add_edge(START, "good")
    builder.add_edge(START, "bad")
    graph = builder.compile(checkpointer=saver)
    with pytest.raises(ValueError, match="not yet"):
        await run(graph, {"trail": []}, config)
    broken[0] = False

    assert sorted((await run(graph, None, config))["trail"]) == ["bad", "good"]
    assert ran.count("good") == 1


async def test_a_fan_out_stops_before_its_branches_and_goes_on(saver, config, run):
    builder = StateGraph(Talk)
    builder.add_node("spread", lambda state: {})
    builder.add_node("leaf", lambda state: {"trail": [f"leaf {state['count']}"]})
    sends = [Send("leaf", {"count": number}) for number in range(20)]
    builder.add_conditional_edges("spread", lambda state: sends, ["leaf"])
    builder.add_edge(START, "spread")
    graph = builder.compile(checkpointer=saver, interrupt_before=["leaf"])

    await run(graph, {"trail": []}, config)
    assert len((await graph.aget_state(config)).next) == 20
    done = await run(graph, None, config)

    assert done["trail"] == [f"leaf {number}" for number in range(20)]


async def test_a_graph_within_a_graph_stops_and_goes_on(saver, config, run):
    inner = StateGraph(Talk)
    inner.add_node("ask", lambda state: {"trail": [f"inner {interrupt('go on?')}"]})
    inner.add_edge(START, "ask")
    outer = StateGraph(Talk)
    outer.add_node("inner", inner.compile())
    outer.add_node("last", lambda state: {"trail": ["last"]})
    outer.add_edge(START, "inner")
    outer.add_edge("inner", "last")
    outer.add_edge("last", END)
    graph = outer.compile(checkpointer=saver)

    await run(graph, {"trail": ["first"]}, config)
    within = await graph.aget_state(config, subgraphs=True)
    done = await run(graph, Command(resume="yes"), config)

    assert within.tasks[0].state.values["trail"] == ["first"]
    assert done["trail"][-2:] == ["inner yes", "last"]
    assert done["trail"].count("inner yes") >= 1


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_every_durability_keeps_the_end(saver, config, run, durability):
    graph = talking(saver)
    await run(graph, {"messages": [HumanMessage("one")]}, config, durability=durability)
    await run(graph, {"messages": [HumanMessage("two")]}, config, durability=durability)

    state = await graph.aget_state(config)
    assert said(state.values) == ["one", "you said one", "two", "you said two"]
    assert state.next == ()


async def test_many_updates_at_once(saver, config):
    from langgraph.types import StateUpdate

    graph = talking(saver)
    steps = [[StateUpdate({"count": n}, "answer")] for n in range(5)]
    await graph.abulk_update_state(config, steps)

    assert (await graph.aget_state(config)).values["count"] == 4
    counts = [one.values.get("count") async for one in graph.aget_state_history(config)]
    assert counts == [4, 3, 2, 1, 0]


async def test_a_thread_of_a_session_goes_with_it(saver, engine, config):
    graph = talking(saver)
    config["configurable"]["session_id"] = "the session"
    await graph.ainvoke({"messages": [HumanMessage("one")]}, config)

    report = await engine.delete_session("the session")

    assert (report.threads, report.checkpoints) == (1, 3)
    assert (await graph.aget_state(config)).values == {}
