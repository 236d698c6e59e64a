"""A Redis as PyPI's `aiecs` 2.2.0 leaves it: recorded from it, or row by row."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from support.servers import Server

from aiecs.domain.context.transfer import MessageRecord, Record
from aiecs.integrations.aiecs_2 import opened

# Written by tools/record_aiecs_2.py, which runs the real thing.
GOLDEN = Path(__file__).with_suffix(".json")
START = datetime(2026, 3, 4, 5, 6, 7)  # noqa: DTZ001 - 2.2.0 writes UTC without saying so
DATABASE = 9
"""A database of the shared servers that nobody else uses: its keys have fixed names."""

Told = list[tuple[str, str]]


def url_of(server: Server) -> str:
    """Where the old data lies."""
    return server.url.removesuffix("/0") + f"/{DATABASE}"


@asynccontextmanager
async def old_redis(server: Server) -> AsyncIterator[Redis]:
    """The old server, empty."""
    async with Redis.from_url(url_of(server)) as client:
        await client.flushdb()
        yield client


async def load_golden(client: Redis) -> None:
    """Everything that was recorded, with its lifetimes."""
    for key, found in json.loads(GOLDEN.read_text())["keys"].items():
        if found["type"] == "hash":
            await client.hset(key, mapping=found["value"])  # type: ignore[misc]
        else:
            await client.rpush(key, *found["value"])  # type: ignore[misc]
        await client.expire(key, found["ttl"])


async def add_session(client: Redis, session_id: str, **fields: Any) -> None:
    """A row of `sessions`."""
    row = {"session_id": session_id, "user_id": "ada", "status": "active", "request_count": 0}
    row |= {"error_count": 0, "total_processing_time": 0.0}
    times = {"created_at": at(0), "last_activity": at(99)}
    await client.hset("sessions", session_id, json.dumps({**row, **times, **fields}))  # type: ignore[misc]


async def push(client: Redis, name: str, *rows: str | bytes) -> None:
    """Add to a conversation as 2.2.0 does, with its limit of 1,000."""
    await client.lpush(f"conversation:{name}", *rows)  # type: ignore[misc]
    await client.ltrim(f"conversation:{name}", -1000, -1)  # type: ignore[misc]


def row(number: int, content: str | None = None, **metadata: Any) -> str:
    """A message."""
    text = f"m{number}" if content is None else content
    fields = {"role": "user", "content": text, "timestamp": at(number), "metadata": metadata}
    return json.dumps(fields)


def between(number: int, sender: tuple[str, ...], recipient: tuple[str, ...]) -> str:
    """A message between agents; each side is its id, type and role."""
    marks = {"message_id": f"id-{number}", "message_type": "feedback"}
    for side, words in (("sender", sender), ("recipient", recipient)):
        marks |= {f"{side}_{n}": w for n, w in zip(("id", "type", "role"), words, strict=True)}
    return row(number, **marks)


def at(number: int) -> str:
    """The time of the message of that number."""
    return (START + timedelta(seconds=number)).isoformat()


async def records_of(server: Server) -> tuple[list[Record], Told, Told]:
    """What the source gives, what it could not read, and the keys that have changed."""
    problems: Told = []
    keys: Told = []

    async with opened(
        url_of(server), lambda *told: problems.append(told), lambda *told: keys.append(told)
    ) as source:
        return [record async for record in source.records()], problems, keys


def contents(records: list[Record], session_id: str) -> list[str]:
    """What was said in a session, in the order of the records."""
    return [
        one.message.content
        for one in records
        if isinstance(one, MessageRecord) and one.session_id == session_id
    ]


async def state(client: Redis) -> dict[bytes, tuple[Any, int]]:
    """What every key holds and its lifetime in milliseconds.

    Lists in the server's own bytes; those of a hash change when it is moved to a larger table.
    """
    found: dict[bytes, tuple[Any, int]] = {}
    async for key in client.scan_iter():
        of_hash = await client.type(key) == b"hash"
        value = await (client.hgetall(key) if of_hash else client.dump(key))  # type: ignore[misc]
        found[key] = (value, await client.pttl(key))
    return found
