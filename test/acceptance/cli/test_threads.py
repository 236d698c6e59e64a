"""`aiecs threads`: a real graph's history looked at, compared, forked and pruned."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from support import servers as real
from support.cli import Calls
from support.graphs import said, talking

from aiecs.cli.tree import branches
from aiecs.integrations.langgraph import ContextEngineSaver

CONFIG: Any = {"configurable": {"thread_id": "trip to Rome"}}


@pytest.fixture(params=["sqlite", *real.names()])
def store(request, servers, prefix, tmp_path, monkeypatch) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("AIECS_KEY_PREFIX", prefix.strip(":"))
    return servers.shared(request.param).url


def talk(store: str, *texts: str, config: Any = CONFIG) -> list[Any]:
    """What a graph has said; its history, the oldest first."""

    async def run() -> list[Any]:
        async with ContextEngineSaver.from_url(store) as saver:
            graph = talking(saver)
            for text in texts:
                await graph.ainvoke({"messages": [HumanMessage(text)]}, config)
            return [state async for state in graph.aget_state_history(config)][::-1]

    return asyncio.run(run())


def name(state: Any) -> str:
    return state.config["configurable"]["checkpoint_id"]


def test_a_history_is_a_tree_with_its_forks(cli: Calls, store: str):
    states = talk(store, "one", "two")
    talk(store, "other", config=states[2].config)

    out, err = cli("threads", "list", "--store", store)
    assert out.splitlines()[1].split("\t") == ["trip to Rome", "9", "-", "just now"]
    out, err = cli("threads", "history", "trip to Rome", "--store", store)
    drawn = [line.partition("  ")[0] for line in out.splitlines()]
    assert drawn[:4] == [f"* {name(state)}" for state in states[:3]] + [f"|-* {name(states[3])}"]
    assert [line[:4] for line in drawn[4:]] == ["| * ", "| * ", "* 1f", "* 1f", "* 1f"]
    assert "input step -1" in out
    assert len(cli.json("threads", "history", "trip to Rome", "--store", store)["checkpoints"]) == 9
    _, err = cli("threads", "history", "nobody", "--store", store, code=1)
    assert "no graph has stored anything in thread 'nobody'" in err


def test_two_states_are_compared(cli: Calls, store: str):
    states = talk(store, "one", "two")
    ids = (name(states[2]), name(states[-1]))

    out, _ = cli("threads", "diff", "trip to Rome", *ids, "--store", store)
    lines = out.splitlines()
    assert lines[:3] == ["changed count", "  - 1", "  + 2"]
    assert lines[3] == "changed messages"
    assert [line[:4] for line in lines[4:]] == ["  + ", "  + "]
    assert '"content": "two"' in lines[4]
    (count, _) = cli.json("threads", "diff", "trip to Rome", *ids, "--store", store)["changes"]
    assert count == {"channel": "count", "what": "changed", "before": [1], "after": [2]}
    _, err = cli("threads", "diff", "trip to Rome", ids[0], ids[0], "--store", store)
    assert err.splitlines()[-1] == "the states are equal"
    _, err = cli("threads", "diff", "trip to Rome", ids[0], "none", "--store", store, code=1)
    assert "has no checkpoint 'none'" in err


def test_a_fork_is_a_thread_of_its_own(cli: Calls, store: str):
    states = talk(store, "one", "two")
    at = name(states[2])

    out, _ = cli("threads", "fork", "trip to Rome", at, "--to", "trip to Oslo", "--store", store)
    assert out == "trip to Oslo: 3 checkpoints\n"
    forked = talk(store, "other", config={"configurable": {"thread_id": "trip to Oslo"}})
    assert said(forked[-1].values) == ["one", "you said one", "other", "you said other"]
    assert [name(state) for state in forked[:3]] == [name(state) for state in states[:3]]
    assert said(talk(store)[-1].values) == ["one", "you said one", "two", "you said two"]
    _, err = cli("threads", "fork", "trip to Rome", at, "--to", "trip to Oslo", "--store", store, code=1)  # fmt: skip  # noqa: E501
    assert "is there already" in err
    cli("threads", "fork", "trip to Rome", "none", "--to", "x", "--store", store, code=2)


def test_a_dry_run_says_what_would_come_free(cli: Calls, store: str):
    talk(store, *(f"{n} " + "x" * 300 for n in range(5)))

    would = cli.json("threads", "prune", "--all", "--dry-run", "--store", store)
    assert len(talk(store)) == 15
    _, err = cli("threads", "prune", "trip to Rome", "--store", store)
    assert err.splitlines()[-1].startswith("14 checkpoints removed, ")
    assert would["checkpoints"] == 14
    assert would["bytes"] > 1000
    (left,) = talk(store)
    assert len(said(left.values)) == 10
    assert cli.json("threads", "prune", "--all", "--store", store)["checkpoints"] == 0
    _, err = cli("threads", "prune", "--store", store, code=2)
    assert "name threads, or give --all" in err


def test_forks_of_forks_are_drawn_beside_them():
    parents = {"a": None, "b": "a", "c": "b", "d": "b", "e": "c", "f": "c", "g": "d", "lone": "x"}
    assert [drawn + name for drawn, name in branches(parents)] == [
        "* a", "* b", "|-* c", "| |-* e", "| * f", "* d", "* g", "* lone",
    ]  # fmt: skip


def test_an_export_says_what_it_leaves_out(cli: Calls, store: str):
    talk(store, "one")

    out, err = cli("export", "--store", store)
    assert len(out.splitlines()) == 2  # its header and its end
    assert "left out 3 checkpoints of graphs: this format does not hold them" in err.splitlines()
