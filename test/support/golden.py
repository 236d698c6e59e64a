"""Stores that an earlier version wrote, and what has to be read out of them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from support.graphs import said, talking, walk, walking
from support.transfer import exported, fill

from aiecs import ContextEngine
from aiecs.cli.formats.export import record_line
from aiecs.integrations.langgraph import ContextEngineSaver, ContextEngineStore

GOLDEN = Path(__file__).parents[1] / "golden"
TALK: Any = {"configurable": {"thread_id": "talk", "session_id": "full"}}
TRAIL: Any = {"configurable": {"thread_id": "trail"}}
ITEMS = ("users", "ada")


async def fill_golden(engine: ContextEngine) -> None:
    """Some of everything that a store can hold."""
    await fill(engine)
    await engine.add_conversation_message("keyed", "user", "once", idempotency_key="k")
    graph = talking(ContextEngineSaver(engine))
    for number in range(6):
        await graph.ainvoke({"messages": [("user", f"question {number}")]}, TALK)
    await walk(walking(ContextEngineSaver(engine)), TRAIL, 5)
    for number in range(5):
        await ContextEngineStore(engine).aput(ITEMS, f"k{number}", {"n": number})


async def told(engine: ContextEngine) -> dict[str, Any]:
    """Everything that can be read, as plain data."""
    talk = await talking(ContextEngineSaver(engine)).aget_state(TALK)
    trail = await walking(ContextEngineSaver(engine)).aget_state(TRAIL)
    history = [one async for one in talking(ContextEngineSaver(engine)).aget_state_history(TALK)]
    items = await ContextEngineStore(engine).asearch(ITEMS)
    return {
        "records": sorted(map(record_line, await exported(engine))),
        "talk": said(talk.values),
        "steps": len(history),
        "trail": trail.values["trail"],
        "items": {item.key: item.value for item in items},
    }


async def keys_of(url: str) -> dict[str, Any]:
    """Everything on a server, by key, without its lifetimes."""
    found: dict[str, Any] = {}
    async with Redis.from_url(url) as client:
        async for key in client.scan_iter():
            kind = (await client.type(key)).decode()
            found[_text(key)] = [kind, await _value(client, kind, key)]
    return found


async def _value(client: Any, kind: str, key: bytes) -> list[Any]:
    if kind == "hash":
        return [[_text(f), _text(v)] for f, v in (await client.hgetall(key)).items()]
    if kind == "zset":
        pairs = await client.zrange(key, 0, -1, withscores=True)
        return [[_text(member), score] for member, score in pairs]
    return [_text(item) for item in await client.lrange(key, 0, -1)]


async def load_keys(url: str, keys: dict[str, Any]) -> None:
    """Put them on a server."""
    async with Redis.from_url(url) as client:
        for name, (kind, value) in keys.items():
            key: Any = _bytes(name)
            if kind == "hash":
                await client.hset(key, mapping={_bytes(f): _bytes(v) for f, v in value})
            elif kind == "zset":
                await client.zadd(key, {_bytes(member): score for member, score in value})
            else:
                await client.rpush(key, *map(_bytes, value))


def _text(value: bytes) -> str:
    return base64.b85encode(value).decode()


def _bytes(text: str) -> bytes:
    return base64.b85decode(text)
