"""A graph in a process of its own, to be killed in the middle of a step.

    python killed_graph.py URL DURABILITY BLOCKING

Each step prints its number when it begins; the third one then waits to be killed.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from support.counting_graph import CONFIG, counting

from aiecs.integrations.langgraph import ContextEngineSaver


def begin(number: int) -> None:
    print(number, flush=True)  # noqa: T201 - what the test waits for
    if number == 3:
        time.sleep(60)


def blocking(url: str, durability: Any) -> None:
    with ContextEngineSaver.from_url(url) as saver:
        counting(saver, begin).invoke({"done": []}, CONFIG, durability=durability)


async def awaiting(url: str, durability: Any) -> None:
    async with ContextEngineSaver.from_url(url) as saver:
        await counting(saver, begin).ainvoke({"done": []}, CONFIG, durability=durability)


if __name__ == "__main__":
    if sys.argv[3] == "invoke":
        blocking(sys.argv[1], sys.argv[2])
    else:
        asyncio.run(awaiting(sys.argv[1], sys.argv[2]))
