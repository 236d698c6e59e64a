"""One side of `faults.py`, in a process and, where it needs one, an environment of its own.

    python fault_side.py SIDE URL TASKS

Reads commands from its input and answers each with one line of JSON: `start` begins to add
numbered messages, `stop` ends that and tells what each call was told, `read` gives the histories,
`probe` reads and writes a few times and tells what was said.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

SESSIONS = 8
_PAUSE = 0.05  # few enough messages that no side's own limit (1,000 a session) is met
_TICK = 0.002
_PROBES = 5
_PATIENCE = 20.0


class Ours:
    """ContextEngine, as it comes."""

    def __init__(self, url: str) -> None:
        from aiecs.domain.context import ContextEngine

        self._engine = ContextEngine(store=url)

    async def open(self) -> None:
        await self._engine.initialize()

    async def add(self, session: str, text: str) -> object:
        return await self._engine.add_conversation_message(session, "user", text)

    async def history(self, session: str) -> list[str]:
        found = await self._engine.get_conversation_history(session, limit=0)
        return [message.content for message in found]


class RedisPy:
    """redis-py, as `Redis(host, port)` comes (it retries; `from_url` does not): a list of JSON."""

    def __init__(self, url: str) -> None:
        from redis.asyncio import Redis

        place = urlsplit(url)
        self._client = Redis(host=str(place.hostname), port=place.port or 6379)

    async def open(self) -> None:
        await self._client.ping()

    async def add(self, session: str, text: str) -> object:
        return await self._client.rpush(session, json.dumps({"role": "user", "content": text}))

    async def history(self, session: str) -> list[str]:
        return [json.loads(item)["content"] for item in await self._client.lrange(session, 0, -1)]


class Reference:
    """PyPI's aiecs 2.2.0, as it comes."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        os.environ.update(
            REDIS_URL=url, REDIS_HOST=str(place.hostname), REDIS_PORT=str(place.port), REDIS_DB="0"
        )
        from aiecs.domain.context.context_engine import ContextEngine

        self._engine = ContextEngine()

    async def open(self) -> None:
        await self._engine.initialize()

    async def add(self, session: str, text: str) -> object:
        return await self._engine.add_conversation_message(session, "user", text)

    async def history(self, session: str) -> list[str]:
        found = await self._engine.get_conversation_history(session, limit=1_000)
        return [message.content for message in found]


SIDES: dict[str, Callable[[str], Any]] = {"ours": Ours, "redis-py": RedisPy, "aiecs": Reference}


class Load:
    """Tasks that add numbered messages, and what each call was told."""

    def __init__(self, side: Any, tasks: int) -> None:
        self._side = side
        self._tasks = tasks
        self._done = False
        self._running: list[asyncio.Task[None]] = []
        self.told: dict[str, Any] = {
            "acknowledged": [],
            "failed": [],
            "moments": [],  # of each acknowledgement, on the clock that all processes share
            "slowest": 0.0,
            "gap": 0.0,
        }

    def start(self) -> None:
        self._running = [asyncio.create_task(self._add(task)) for task in range(self._tasks)]
        self._running.append(asyncio.create_task(self._watch()))

    async def _watch(self) -> None:
        """How long the event loop was held at most."""
        last = time.monotonic()
        while not self._done:
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            self.told["gap"], last = max(self.told["gap"], now - last - _TICK), now

    async def stop(self) -> dict[str, Any]:
        self._done = True
        await asyncio.gather(*self._running)
        return self.told

    async def _add(self, task: int) -> None:
        for number in itertools.count():
            if self._done:
                return
            name = f"{task}.{number}"
            started = time.monotonic()
            try:
                said = await self._side.add(f"chat-{task % SESSIONS}", name)
            except Exception as error:  # noqa: BLE001 - each side has errors of its own
                self._note_failure(name, error, time.monotonic() - started)
            else:
                self.told["acknowledged" if said else "failed"].append(name)
                self.told["moments"].append(time.monotonic())
            await asyncio.sleep(_PAUSE)

    def _note_failure(self, name: str, error: Exception, took: float) -> None:
        unknown = getattr(error, "outcome", "unknown") == "unknown"
        if not unknown:
            self.told["failed"].append(name)
        self.told["slowest"] = max(self.told["slowest"], took)


async def probe(side: Any) -> dict[str, Any]:
    """How many reads and writes claim success or emptiness now, and how long the others took."""
    wrong, slowest = 0, 0.0
    for number in range(_PROBES):
        for act in (side.history("chat-0"), side.add("chat-0", f"probe.{number}")):
            started = time.monotonic()
            try:
                async with asyncio.timeout(_PATIENCE):
                    await act
            except Exception:  # noqa: BLE001 - as above
                slowest = max(slowest, time.monotonic() - started)
            else:
                wrong += 1
    return {"wrong": wrong, "slowest": slowest}


async def main(name: str, url: str, tasks: int) -> None:
    side = SIDES[name](url)
    await side.open()
    load = Load(side, tasks)
    loop = asyncio.get_running_loop()
    _say({"ready": True})
    while command := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        if command == "start":
            load.start()
            _say({})
        elif command == "stop":
            _say(await load.stop())
        elif command == "probe":
            _say(await probe(side))
        else:
            _say({"read": {n: await side.history(f"chat-{n}") for n in range(SESSIONS)}})
    os._exit(0)  # closing is not what is measured


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(f"@{json.dumps(answer)}\n")  # libraries may print too
    sys.stdout.flush()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
