"""A graph of five steps, each of which says when it begins."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

from langgraph.graph import START, StateGraph

CONFIG: Any = {"configurable": {"thread_id": "counted"}}
STEPS = 5


class Count(TypedDict):
    done: Annotated[list[str], operator.add]


def counting(saver: Any, begin: Callable[[int], None]) -> Any:
    """The graph; `begin` is told the number of each step."""

    def step(number: int) -> Callable[[Count], Count]:
        def run(_: Count) -> Count:
            begin(number)
            return {"done": [f"step {number} " + "x" * 200]}

        return run

    builder = StateGraph(Count)
    for number in range(STEPS):
        builder.add_node(f"step {number}", step(number))
        builder.add_edge(START if number == 0 else f"step {number - 1}", f"step {number}")
    return builder.compile(checkpointer=saver)
