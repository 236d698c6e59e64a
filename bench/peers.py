"""The designs that ContextEngine is compared with on Redis, each as it is meant to be used."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from harness import Server
from redis.asyncio import Redis

CONNECTIONS = 128
TTL = 86_400


def pool(server: Server) -> Redis:
    """A redis-py client that never makes one of 64 tasks wait for a connection."""
    return Redis(host="127.0.0.1", port=server.port, max_connections=CONNECTIONS)


@dataclass
class Message:
    """The specification's own ConversationMessage."""

    role: str
    content: str
    timestamp: datetime
    metadata: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "content": self.content,
            "timestamp": self.timestamp.isoformat(),
            "metadata": self.metadata or {},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Message:
        data = data.copy()
        data["timestamp"] = datetime.fromisoformat(data["timestamp"])
        return cls(**data)


@dataclass
class Session:
    """The specification's own SessionMetrics."""

    session_id: str
    user_id: str
    created_at: datetime
    last_activity: datetime
    request_count: int = 0
    error_count: int = 0
    total_processing_time: float = 0.0
    status: str = "active"

    def to_dict(self) -> dict[str, Any]:
        times = {"created_at": self.created_at, "last_activity": self.last_activity}
        return {**asdict(self), **{name: time.isoformat() for name, time in times.items()}}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Session:
        data = data.copy()
        for name in ("created_at", "last_activity"):
            data[name] = datetime.fromisoformat(data[name])
        return cls(**data)


class SpecDesign:
    """The specification's design: a pool, json, LPUSH + EXPIRE, GET-modify-SETEX.

    Less than ContextEngine: two round trips that are not atomic, no session touched by a message,
    no indexes, no receipts, and concurrent updates lose increments.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def create_session(self, session_id: str, user_id: str) -> None:
        now = datetime.now(UTC)
        await self._store(Session(session_id, user_id, now, now))

    async def add_message(self, session_id: str, role: str, content: str) -> None:
        data = json.dumps(Message(role, content, datetime.now(UTC)).to_dict())
        key = f"conversation:{session_id}"
        await self._client.lpush(key, data)
        await self._client.expire(key, TTL)

    async def history(self, session_id: str, limit: int) -> list[Message]:
        found = await self._client.lrange(f"conversation:{session_id}", 0, limit - 1)
        return [Message.from_dict(json.loads(item)) for item in found]

    async def update_session(self, session_id: str, seconds: float) -> None:
        data = await self._client.get(f"session:{session_id}")
        if data is not None:
            session = Session.from_dict(json.loads(data))
            session.request_count += 1
            session.total_processing_time += seconds
            session.last_activity = datetime.now(UTC)
            await self._store(session)

    async def _store(self, session: Session) -> None:
        data = json.dumps(session.to_dict())
        await self._client.setex(f"session:{session.session_id}", TTL, data)


def agents_sessions(client: Redis, count: int) -> list[Any] | None:
    """OpenAI Agents' RedisSession, one per session; None where it is not installed.

    Less than ContextEngine: no counters, no listing, no expiry unless asked for. More: it checks
    key types under WATCH first, in round trips of its own.
    """
    try:
        from agents.extensions.memory import RedisSession
    except ImportError:
        return None
    return [RedisSession(f"session-{n}", redis_client=client) for n in range(count)]
