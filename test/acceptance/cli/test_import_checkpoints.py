"""`aiecs import --kind langgraph`: threads of LangGraph's own SQLite saver."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt
from support import servers as real
from support.cli import Calls
from support.graphs import said, talking, walk, walking

from aiecs.integrations.langgraph import ContextEngineSaver

THREADS = [{"configurable": {"thread_id": f"trip {n}"}} for n in range(3)]


@dataclass
class Invoice:
    number: int


class Task(TypedDict, total=False):
    done: Annotated[list[Any], lambda old, new: [*old, *new]]


def asking(saver: Any, values: list[Any]) -> Any:
    """A graph that fans out, asks in each branch, and keeps these values."""
    builder = StateGraph(Task)
    builder.add_node("begin", lambda _: {"done": values})
    builder.add_node("ask", lambda task: {"done": [interrupt(f"go ahead with {task}?")]})
    builder.add_edge(START, "begin")
    builder.add_conditional_edges("begin", lambda _: [Send("ask", n) for n in range(3)])
    return builder.compile(checkpointer=saver)


async def histories(saver: Any) -> list[list[Any]]:
    graphs = (talking(saver), walking(saver), asking(saver, []))
    return [
        [state async for state in graph.aget_state_history(at)]
        for graph, at in zip(graphs, THREADS, strict=True)
    ]


@pytest.fixture
def source(tmp_path) -> str:
    """The file of a saver of LangGraph's, with three threads in it."""
    file = f"{tmp_path}/langgraph.db"

    async def run() -> None:
        async with AsyncSqliteSaver.from_conn_string(file) as saver:
            for text in ("one", "two", "three"):
                await talking(saver).ainvoke({"messages": [HumanMessage(text)]}, THREADS[0])
            first = [one async for one in talking(saver).aget_state_history(THREADS[0])][-2]
            await talking(saver).ainvoke({"messages": [HumanMessage("fork")]}, first.config)
            await walk(walking(saver), THREADS[1], 6)
            await asking(saver, [1, {"a": None}]).ainvoke({}, THREADS[2])

    asyncio.run(run())
    return f"sqlite:///{file}"


@pytest.fixture(params=["sqlite", *real.names()])
def store(request, servers, prefix, tmp_path, monkeypatch) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("AIECS_KEY_PREFIX", prefix.strip(":"))
    return servers.shared(request.param).url


def bring(cli: Calls, source: str, store: str, *more: str, code: int = 0) -> tuple[str, str]:
    return cli(
        "import", "--from", source, "--kind", "langgraph", "--store", store, *more, code=code
    )


def test_all_of_it_arrives_and_goes_on(cli: Calls, source: str, store: str):
    out, _ = bring(cli, source, store)
    again, _ = bring(cli, source, store)
    assert out == again
    assert out.startswith("imported 3 threads, ")

    async def compare() -> None:
        async with (
            AsyncSqliteSaver.from_conn_string(source.removeprefix("sqlite:///")) as old,
            ContextEngineSaver.from_url(store) as new,
        ):
            assert await histories(new) == await histories(old)
            state = await talking(new).ainvoke({"messages": [HumanMessage("four")]}, THREADS[0])
            assert said(state)[-2:] == ["four", "you said four"]
            asked = await asking(new, []).aget_state(THREADS[2])
            answers = {one.id: n for n, one in enumerate(asked.interrupts)}
            ended = await asking(new, []).ainvoke(Command(resume=answers), THREADS[2])
            assert sorted(ended["done"][2:]) == [0, 1, 2]

    asyncio.run(compare())


def test_a_type_that_is_not_allowed_ends_it(cli: Calls, source: str, store: str):
    async def add() -> None:
        async with AsyncSqliteSaver.from_conn_string(source.removeprefix("sqlite:///")) as saver:
            at: Any = {"configurable": {"thread_id": "with an invoice"}}
            await asking(saver, [Invoice(7)]).ainvoke({}, at)

    asyncio.run(add())
    _, err = bring(cli, source, store, code=1)
    assert f"{Invoice.__module__}.Invoice, which may not be decoded" in err.splitlines()[-1]
    out, _ = bring(cli, source, store, "--allow", f"{Invoice.__module__}:Invoice")
    assert out.startswith("imported 4 threads, ")


def test_mistakes(cli: Calls, tmp_path):
    _, err = bring(cli, f"sqlite:///{tmp_path}/none.db", "memory://", code=1)
    assert "none.db does not exist" in err
    assert not list(tmp_path.glob("*.db"))
    (tmp_path / "broken").write_bytes(b"no database, but long enough to be looked at" * 50)
    _, err = bring(cli, f"sqlite:///{tmp_path}/broken", "memory://", code=1)
    assert "broken cannot be read: file is not a database" in err
    bring(cli, "sqlite:///", "memory://", code=2)
    bring(cli, "mongodb://x", "memory://", code=2)
    bring(cli, "sqlite:///x.db", "memory://", "--allow", "nonsense", code=2)
    bring(cli, "sqlite:///x.db", "memory://", "a.jsonl", code=2)
    cli("import", "--from", "sqlite:///x.db", code=2)
    cli("import", code=2)
    _, err = bring(cli, "postgresql://localhost/x", "memory://", code=1)
    assert "pip install langgraph-checkpoint-postgres" in err
