"""`aiecs export-user` and `erase-user`."""

from __future__ import annotations

import asyncio
import json
import stat

import pytest
from support.cli import Calls
from support.graphs import talking
from support.transfer import fill

from aiecs import ContextEngine
from aiecs.core.interface.store import Batch, Put
from aiecs.core.keys import session_place
from aiecs.integrations.langgraph import ContextEngineSaver


@pytest.fixture
def url(tmp_path) -> str:
    async def work() -> None:
        async with ContextEngine(
            store=f"sqlite:///{tmp_path}/a.db", operation_timeout=10
        ) as engine:
            await fill(engine)
            await engine.create_session("second", "ada")
            await engine.add_conversation_message("second", "user", "canary-77")
            config = {"configurable": {"thread_id": "g", "session_id": "second"}}
            graph = talking(ContextEngineSaver(engine))
            await graph.ainvoke({"messages": [("user", "to the graph")]}, config)
            await engine.create_session("foreign", "eve")
            await engine.add_conversation_message("foreign", "user", "eve's own")

    asyncio.run(work())
    return f"sqlite:///{tmp_path}/a.db"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_everything_of_a_user_is_written(cli: Calls, url: str, tmp_path):
    file = tmp_path / "ada.jsonl"
    out, _ = cli("export-user", "ada", "-o", file, "--store", url)

    found = lines(file)
    kinds = [one.get("type") for one in found]
    assert (kinds[0], kinds[-1]) == (None, "end")
    assert kinds.count("session") == 2
    assert kinds.count("message") == 10
    assert {"task_context", "agent_conversation", "agent_message", "checkpoint", "writes"} <= {
        *kinds
    }
    states = [one for one in found if one.get("type") == "graph_checkpoint"]
    assert "to the graph" in json.dumps(states[-1]["stored"])
    assert "eve" not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "session 2" in out
    _, err = cli("export-user", "ada", "-o", file, "--store", url, code=2)
    assert "is there already" in err
    assert cli.json("import", file, "--store", f"sqlite:///{tmp_path}/b.db")["mistakes"] == 0


def test_an_export_goes_on_where_it_ended(cli: Calls, url: str, tmp_path, monkeypatch):
    file, whole = tmp_path / "ada.jsonl", tmp_path / "whole.jsonl"
    cli("export-user", "ada", "-o", whole, "--store", url)
    from aiecs.cli.commands import users

    writes = users._Partial.write

    def write(self, line):
        if "canary-77" in line:
            raise KeyboardInterrupt
        writes(self, line)

    monkeypatch.setattr(users._Partial, "write", write)
    cli("export-user", "ada", "-o", file, "--store", url, code=130)
    assert not file.exists()
    monkeypatch.setattr(users._Partial, "write", writes)

    _, err = cli("export-user", "ada", "-o", file, "--store", url)

    assert "going on behind 1 session" in err
    assert lines(file)[1:] == lines(whole)[1:]
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".ada")] == []


def test_a_user_is_erased_and_nothing_of_others(cli: Calls, url: str, tmp_path):
    _, err = cli("erase-user", "ada", "--store", url, code=1)
    assert "--yes says that this is meant" in err

    told = cli.json("erase-user", "ada", "--yes", "--store", url)

    assert (told["sessions"], told["threads"], told["complete"]) == (2, 3, True)
    assert told["scrubbed"] is True
    for file in tmp_path.glob("a.db*"):
        assert b"canary-77" not in file.read_bytes()
        assert b"to the graph" not in file.read_bytes()
    assert "eve's own" in cli("history", "foreign", "--store", url)[0]
    assert cli("erase-user", "ada", "-y", "--no-scrub", "--store", url)[0] == "removed nothing\n"


def test_a_damaged_record_is_told(cli: Calls, url: str, tmp_path):
    async def damage() -> None:
        async with ContextEngine(store=url, operation_timeout=10) as engine:
            put = Put("t", {"d": b"{"})
            await engine._on.runtime.apply(Batch(*session_place("full"), (put,)))

    asyncio.run(damage())
    _, err = cli("export-user", "ada", "-o", tmp_path / "x.jsonl", "--store", url, code=1)
    assert "1 record could not be decoded" in err


def test_items_of_the_users_namespaces_go_too(cli: Calls, url: str, tmp_path):
    from aiecs.integrations.langgraph import ContextEngineStore

    async def remember() -> None:
        async with ContextEngine(store=url, operation_timeout=10) as engine:
            store = ContextEngineStore(engine)
            for number in range(700):
                await store.aput(("users", "a/b", "facts"), f"k{number}", {"n": number})
            await store.aput(("users", "eve"), "k", {"n": "eve's own"})

    asyncio.run(remember())
    file = tmp_path / "ada.jsonl"
    cli("export-user", "ada", "-o", file, "--namespace", "users/a%2Fb", "--store", url)
    items = [one for one in lines(file) if one.get("type") == "item"]
    assert [one["value"]["n"] for one in items] == list(range(700))
    assert items[0]["namespace"] == ["users", "a/b", "facts"]

    told = cli.json("erase-user", "ada", "-y", "--namespace", "users/a%2Fb", "--store", url)

    assert (told["items"], told["sessions"]) == (700, 2)
    again = cli.json("erase-user", "ada", "-y", "--namespace", "users/a%2Fb", "--store", url)
    assert again["items"] == 0
    _, err = cli("erase-user", "ada", "-y", "--namespace", "users//x", "--store", url, code=2)
    assert "a namespace is a sequence of labels" in err

    async def left() -> list[str]:
        async with ContextEngine(store=url, operation_timeout=10) as engine:
            found = await ContextEngineStore(engine).asearch(("users",))
            return [item.value["n"] for item in found]

    assert asyncio.run(left()) == ["eve's own"]
