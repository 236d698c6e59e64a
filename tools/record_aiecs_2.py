"""Write test/support/aiecs_2.json: the keys that PyPI's `aiecs` 2.2.0 leaves in a Redis.

It needs that package and so an environment of its own, in which this repository is not installed:

    python3 -m venv /tmp/aiecs-2 && /tmp/aiecs-2/bin/pip install aiecs==2.2.0
    redis-server --port 7777 --save "" &
    REDIS_PORT=7777 /tmp/aiecs-2/bin/python tools/record_aiecs_2.py test/support/aiecs_2.json
"""

# ruff: noqa: INP001 - a script

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PARTIES = {
    "ada": {"id": "ada", "type": "user"},
    "mc": {"id": "mc-1", "type": "master_controller", "role": "planner"},
    "w1": {"id": "w-1", "type": "agent", "role": "writer", "metadata": {"model": "m"}},
    "w2": {"id": "w-2", "type": "agent", "role": "writer"},
    "c1": {"id": "c-1", "type": "agent", "role": "critic"},
    "c2": {"id": "c-2", "type": "agent", "role": "critic"},
}


class _Model:
    """A model that always says the same."""

    provider_name = "test"

    async def generate_text(self, *_: Any, **__: Any) -> Any:
        """The answer to any question."""
        return SimpleNamespace(content="<summary>what was said</summary>", usage=None)


def _engine_of(**options: Any) -> Any:
    module = import_module("aiecs.domain.context.context_engine")
    config = module.CompressionConfig(strategy="truncate", keep_recent=4)
    return module.ContextEngine(compression_config=config, llm_client=_Model(), **options)


async def _talk(engine: Any, session_id: str, start: int, stop: int) -> None:
    for number in range(start, stop):
        role = "assistant" if number % 2 else "user"
        await engine.add_conversation_message(session_id, role, f"m{number}", {"n": number})


async def _tell(engine: Any, key: str, sender: str, recipient: str, content: str) -> None:
    ends = [PARTIES[name] for name in (sender, recipient)]
    words = [end.get(name) for end in ends for name in ("id", "type", "role")]
    await engine.add_agent_communication_message(
        key, *words, content, "feedback", {"said by": sender}
    )


async def _sessions(engine: Any) -> None:
    await engine.create_session("long", "ada", {"source": "web", "tags": ["a", {"b": None}]})
    await _talk(engine, "long", 0, 60)
    await engine.update_session("long", increment_requests=True, add_processing_time=1.25)
    await engine.update_session("long", mark_error=True)
    context = await engine.get_task_context("long")
    context.add_context_update("message", {"text": "hi"}, {"source": "user"})
    context.track_file_operation("a/b.py", "read", "tool")
    context.track_model_usage("m", "p", "chat")
    await engine.store_task_context("long", context)
    await engine.create_session("odd: *[x]? {y} é", "bob:1")
    await _talk(engine, "odd: *[x]? {y} é", 0, 3)
    await engine.create_session("ended", "bob:1")
    await engine.end_session("ended", "failed")
    await engine.create_session("cancelled", "bob:1")
    await engine.end_session("cancelled", "cancelled")
    await _talk(engine, "without a session", 0, 2)


async def _compressed(engine: Any) -> None:
    await engine.create_session("truncated", "ada")
    await _talk(engine, "truncated", 0, 12)
    await engine.compress_conversation("truncated")
    await _talk(engine, "truncated", 12, 14)
    await engine.create_session("summarized", "ada")
    await _talk(engine, "summarized", 0, 12)
    await engine.compress_conversation("summarized", strategy="summarize")
    await _talk(engine, "summarized", 12, 14)
    policy = import_module("aiecs.domain.context.compression.policy").CompressionPolicy(
        context_window_tokens=100, buffer_tokens=0, auto_compact_threshold_tokens=1, chain=("llm",),
        preserve_recent=3,
    )  # fmt: skip
    await engine.create_session("compressed on append", "ada")
    await _talk(engine, "compressed on append", 0, 8)
    engine.compression_policy, engine.compress_on_append = policy, True
    await engine.add_conversation_message("compressed on append", "user", "m8", {"n": 8})
    engine.compress_on_append = False
    await _talk(engine, "compressed on append", 9, 11)


async def _agents(engine: Any) -> None:
    async def begin(kind: str, *names: str) -> str:
        parties = [PARTIES[name] for name in names]
        key: str = await engine.create_conversation_session("team", parties, kind, {"for": kind})
        return key

    await engine.create_session("team", "ada")
    await engine.add_conversation_message("team", "user", "plain")
    own = await begin("user_to_mc", "ada", "mc")
    await _tell(engine, own, "ada", "mc", "write it")
    await _tell(engine, own, "mc", "ada", "it is written")
    there = await begin("agent_to_agent", "w1", "c1")
    await _tell(engine, there, "w1", "c1", "here")
    back = await begin("agent_to_agent", "c1", "w1")
    await _tell(engine, back, "c1", "w1", "no")
    await _tell(engine, there, "w1", "c1", "and now?")
    same = await begin("agent_to_agent", "w2", "c2")  # the key of `there`
    await _tell(engine, same, "w2", "c2", "ours")
    to_agent = await begin("mc_to_agent", "mc", "w1")
    await _tell(engine, to_agent, "mc", "w1", "hurry")
    await engine.add_conversation_message(to_agent, "user", "plain, in a conversation's list")
    await engine.create_session("forgotten", "ada")
    parties = [PARTIES["ada"], PARTIES["w1"]]
    lost = await engine.create_conversation_session("forgotten", parties, "user_to_agent")
    await _tell(engine, lost, "ada", "w1", "who are we?")
    # As after a day in which no conversation was created: the hash's own lifetime does it.
    await engine.redis_client.hdel("conversation_sessions", lost)


async def _threads(engine: Any) -> None:
    data = {"channel_values": {"n": (1, [2, {"~": "no tag"}]), "big": 2**70}, "v": 1.5}
    for number in range(3):
        await engine.store_checkpoint("t/1", f"c{2 - number}", {**data, "at": number}, {"step": 1})
    await engine.store_checkpoint("long", "own", {"thread": "of the session"})
    await engine.put_writes("t/1", "c0", "task:1", [("ch", {"x": [1]}), ("other", None)])
    await engine.put_writes("t/1", "c0", "task 2", [("ch", "text")])
    await engine.put_writes("only writes", "c", "t", [("ch", 1)])


async def _dump(client: Any) -> dict[str, Any]:
    found = {}
    for key in sorted([key async for key in client.scan_iter()]):
        kind = await client.type(key)
        value = await (client.hgetall(key) if kind == "hash" else client.lrange(key, 0, -1))
        found[key] = {"type": kind, "ttl": await client.ttl(key), "value": value}
    return found


async def _recorded() -> dict[str, Any]:
    engine = _engine_of()
    if not await engine.initialize() or await engine.redis_client.dbsize():
        sys.exit("needs an empty Redis at REDIS_HOST and REDIS_PORT")
    for fill in (_sessions, _compressed, _agents, _threads):
        await fill(engine)
    keys = await _dump(engine.redis_client)
    await engine.close()
    return keys


if __name__ == "__main__":
    target = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)  # 2.2.0 makes a directory `tasks` where it runs
        found = asyncio.run(_recorded())
    target.write_text(json.dumps({"written_by": "aiecs 2.2.0", "keys": found}, indent=1) + "\n")
