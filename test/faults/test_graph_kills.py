"""A process that is killed in the middle of a run: what goes on where, in each durability."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import servers as real
from support.counting_graph import CONFIG, STEPS, counting

from aiecs.integrations.langgraph import ContextEngineSaver

SUPPORT = Path(__file__).parents[1]
KILLED_IN = 3


@pytest.fixture(params=["sqlite", *real.names()])
def url(request, servers, prefix, tmp_path, monkeypatch):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/graph.db"
    monkeypatch.setenv("AIECS_KEY_PREFIX", prefix.strip(":"))
    return servers.shared(request.param).url


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_it_goes_on_where_it_was(url, durability, way):
    process = subprocess.Popen(
        [sys.executable, SUPPORT / "support/killed_graph.py", url, durability, way],
        env=os.environ | {"PYTHONPATH": str(SUPPORT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        begun = [process.stdout.readline() for _ in range(KILLED_IN + 1)]
        process.kill()

    ran: list[int] = []
    with ContextEngineSaver.from_url(url) as saver:
        graph = counting(saver, ran.append)
        is_begun = saver.get_tuple(CONFIG) is not None
        state = graph.invoke(None if is_begun else {"done": []}, CONFIG)

    assert begun == [f"{number}\n" for number in range(KILLED_IN + 1)]
    # What was stored is not done again: all before the killed step, or what there was time for.
    latest = {"sync": KILLED_IN, "async": KILLED_IN, "exit": 0}[durability]
    earliest = {"sync": KILLED_IN, "async": 0, "exit": 0}[durability]
    assert ran == list(range(ran[0], STEPS))
    assert earliest <= ran[0] <= latest
    assert [text[:6] for text in state["done"]] == [f"step {n}" for n in range(STEPS)]
