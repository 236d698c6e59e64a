"""Stores that earlier versions wrote are read whole by this one, and can be written on."""

from __future__ import annotations

import gzip
import json

import pytest
from support import servers as real
from support.golden import GOLDEN, TALK, load_keys, told
from support.graphs import said, talking

from aiecs import ContextEngine
from aiecs.domain.context.migration import migrate
from aiecs.integrations.langgraph import ContextEngineSaver

FORMATS = sorted(path.stem for path in GOLDEN.glob("*.json"))


def expected(name):
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


async def is_whole(url, name):
    async with ContextEngine(store=url, session_ttl=None, operation_timeout=10) as engine:
        assert await told(engine) == expected(name)
        before = len(await engine.get_conversation_history("full", None))
        await engine.add_conversation_message("full", "user", "later")
        history = await engine.get_conversation_history("full", None)
        assert [m.content for m in history][before:] == ["later"]
        state = await talking(ContextEngineSaver(engine)).ainvoke(
            {"messages": [("user", "later")]}, TALK
        )
        assert said(state)[:-2] == expected(name)["talk"]
        assert (await engine.recount()).drift == {}
        async with ContextEngine(store="memory://", operation_timeout=10) as target:
            assert (await migrate(engine, target)).complete
        assert (await engine.delete_user("ada")).sessions == 1


@pytest.mark.parametrize("name", FORMATS)
async def test_a_file(tmp_path, name):
    path = tmp_path / "store.db"
    path.write_bytes(gzip.decompress((GOLDEN / f"{name}.db.gz").read_bytes()))
    await is_whole(f"sqlite:///{path}", name)


@pytest.mark.parametrize("server_name", real.names())
@pytest.mark.parametrize("name", FORMATS)
async def test_a_server(servers, name, server_name):
    server = servers.start(server_name)
    keys = json.loads(gzip.decompress((GOLDEN / f"{name}.redis.json.gz").read_bytes()))
    await load_keys(server.url, keys)
    await is_whole(server.url, name)
    server.close()


def test_there_are_some():
    assert FORMATS[0] == "1"
