"""The two processes of the demo: one fills a store and is killed, the other finds it all again.

Each writes one JSON object per step on standard output, which the demo shows. The store's URL is in
the environment; neither needs more than the core dependencies.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from aiecs.cli.formats.errors import FormatError
from aiecs.cli.formats.source import Source
from aiecs.cli.formats.values import Defaults
from aiecs.cli.importing import import_file, total
from aiecs.core.clock import utcnow
from aiecs.core.errors import ContextEngineError
from aiecs.domain.task.task_context import TaskContext

if TYPE_CHECKING:
    from aiecs.domain.context import ContextEngine

STORE = "AIECS_STORE_URL"
SESSION = "demo-trip"
THREAD = "demo-trip-plan"
TOKENS = 300
LATEST = 4
_SAMPLES = ("chats.jsonl", "agents.jsonl")

Step = dict[str, Any]


@contextmanager
def _step(name: str) -> Iterator[Step]:
    """Time a step and tell of it; the block fills in what there is to show."""
    step: Step = {"step": name}
    start = time.perf_counter()
    yield step
    step["seconds"] = round(time.perf_counter() - start, 6)
    print(json.dumps(step), flush=True)


async def write(engine: ContextEngine) -> NoReturn:
    """The first process: import, look, store, and die without closing anything."""
    await _import(engine)
    with _step("session") as step:
        await engine.update_session(SESSION, increment_requests=True, add_processing_time=0.8)
        session = await engine.get_session(SESSION)
        step["session"] = session.to_dict() if session else None
    with _step("history") as step:
        messages = await engine.get_conversation_history(SESSION, LATEST)
        step["messages"] = [message.to_dict() for message in messages]
    with _step("window") as step:
        window = await engine.build_context(SESSION, TOKENS)
        step.update(budget=TOKENS, tokens=window.tokens)
        step.update(included=window.included, dropped=window.dropped)
    with _step("store") as step:
        context = {"user_id": "ada", "chat_id": SESSION, "metadata": {"stage": "huts"}}
        await engine.store_task_context(SESSION, TaskContext(context))
        plan = {"day": 4, "budget_eur": 186.5, "open": ["call the huts"]}
        await engine.store_checkpoint(THREAD, "plan-1", plan, {"step": 1}, session_id=SESSION)
        step.update(task_context=context, checkpoint=plan)
    with _step("digest") as step:
        step.update(await _everything(engine))
        # Totals reach the store every 250 ms; asking for them now leaves those of others right.
        await engine.get_metrics()
    _die()


async def read(engine: ContextEngine) -> None:
    """The second process: what is there?"""
    with _step("again") as step:
        step.update(await _everything(engine))
        session = await engine.get_session(SESSION)
        step["session"] = session.to_dict() if session else None
        context = await engine.get_task_context(SESSION)
        step["task_context"] = context.to_dict() if context else None
        step["checkpoint"] = await engine.get_checkpoint(THREAD)


async def _import(engine: ContextEngine) -> None:
    errors: list[FormatError] = []
    with _step("import") as step:
        step["new"] = [
            name for name in _sample().sessions if await engine.get_session(name) is None
        ]
        found = []
        for name in _SAMPLES:
            with files("aiecs.cli").joinpath("sample", name).open("rb") as stream:
                source = Source(stream, name)  # type: ignore[arg-type]  # a binary file
                done = await import_file(engine, source, Defaults(utcnow()), errors.append)
                found.append(done)
        step["counts"] = total(found).to_dict()
        step["errors"] = [str(error) for error in errors]


class _Sample(NamedTuple):
    """The ids of the sample's sessions, and the keys of its conversations between agents."""

    sessions: list[str]
    conversations: list[str]


def _sample() -> _Sample:
    found = _Sample([], [])
    for name in _SAMPLES:
        text = files("aiecs.cli").joinpath("sample", name).read_text(encoding="utf-8")
        for data in map(json.loads, text.splitlines()):
            if "messages" in data:
                found.sessions.append(data["session_id"])
            elif data.get("type") == "session":
                found.sessions.append(data["session"]["session_id"])
            elif data.get("type") == "agent_conversation":
                found.conversations.append(data["session_key"])
    return found


async def _everything(engine: ContextEngine) -> Step:
    """Counts of the demo's data, and a digest over all of it."""
    digest = blake2b(digest_size=8)
    counts = {"sessions": 0, "messages": 0, "agent_messages": 0}
    sample = _sample()
    for session_id in sample.sessions:
        session = await engine.get_session(session_id)
        history = await engine.get_conversation_history(session_id, None)
        context = await engine.get_task_context(session_id)
        # The last activity moves with background work, so it is no part of the comparison.
        about = {**session.to_dict(), "last_activity": ""} if session else None
        parts = [about, [message.to_dict() for message in history], context and context.to_dict()]
        digest.update(json.dumps(parts, sort_keys=True).encode())
        counts["sessions"] += session is not None
        counts["messages"] += len(history)
    for key in sample.conversations:
        talk = await engine.get_agent_conversation_history(key, 0)
        digest.update(json.dumps([message.to_dict() for message in talk], sort_keys=True).encode())
        counts["agent_messages"] += len(talk)
    checkpoint = await engine.get_checkpoint(THREAD)
    digest.update(json.dumps(checkpoint, sort_keys=True).encode())
    return {**counts, "digest": digest.hexdigest()}


def _die() -> NoReturn:
    """End this process the hard way: no clean-up runs, nothing is flushed or closed."""
    kill = getattr(signal, "SIGKILL", None)
    if kill is not None:
        os.kill(os.getpid(), kill)
    os._exit(137)


async def _main(part: str) -> None:
    from aiecs.domain.context import ContextEngine

    async with ContextEngine(store=os.environ[STORE], operation_timeout=5.0) as engine:
        await (write if part == "write" else read)(engine)


if __name__ == "__main__":
    try:
        asyncio.run(_main(sys.argv[1]))
    except ContextEngineError as failure:
        sys.exit(f"error: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
