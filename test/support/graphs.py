"""Graphs for tests: one that talks, and one whose channel stores what was written to it."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages


class Talk(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    count: int
    trail: Annotated[list[str], operator.add]


def answer(state: Talk) -> Talk:
    said = state["messages"][-1].content
    count = state.get("count", 0) + 1
    return {"messages": [AIMessage(f"you said {said}" + "." * 100)], "count": count}


def talking(saver: Any) -> Any:
    builder = StateGraph(Talk)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    return builder.compile(checkpointer=saver)


def said(state: Any) -> list[str]:
    return [message.content.rstrip(".") for message in state["messages"]]


def extend(state: list[Any], writes: list[Any]) -> list[Any]:
    found = list(state)
    for write in writes:
        found.extend(write)
    return found


class Trail(TypedDict, total=False):
    trail: Annotated[list[str], DeltaChannel(extend, snapshot_frequency=4)]
    count: int


def walking(saver: Any) -> Any:
    builder = StateGraph(Trail)
    builder.add_node(
        "step",
        lambda state: {
            "trail": [f"step {state.get('count', 0)} " + "x" * 80],
            "count": state.get("count", 0) + 1,
        },
    )
    builder.add_edge(START, "step")
    return builder.compile(checkpointer=saver)


async def walk(graph, config, steps):
    for number in range(steps):
        state = await graph.ainvoke({"trail": [f"input {number}"]}, config)
    return state["trail"]
