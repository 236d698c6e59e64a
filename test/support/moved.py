"""Everything that a migration moves, and what a store holds of it."""

from __future__ import annotations

from typing import Any

from langgraph.store.base import PutOp
from support import servers as real
from support.graphs import talking, walk, walking
from support.transfer import fill

from aiecs import ContextEngine
from aiecs.core.interface.store import IndexRange
from aiecs.domain.context.indexes import SESSIONS, THREADS, pages
from aiecs.domain.context.item_places import Directory
from aiecs.domain.context.migration import parts
from aiecs.domain.context.migration.comparing import digest_of
from aiecs.domain.context.migration.reading import Reader
from aiecs.integrations.langgraph import ContextEngineSaver, ContextEngineStore

STORES = ["memory", "sqlite", *real.names()]
TALK = {"configurable": {"thread_id": "talk", "session_id": "full"}}
TRAIL = {"configurable": {"thread_id": "trail"}}
ITEMS = ("users", "ada/ü")


async def fill_all(engine: ContextEngine) -> None:
    """Sessions with everything, states of graphs, items."""
    await fill(engine)
    await engine.add_conversation_messages(
        "long", [{"role": "user", "content": f"m{n} " + "x" * 300} for n in range(900)]
    )
    await engine.add_conversation_messages(
        "long", [{"role": "user", "content": "y" * 900_000} for _ in range(4)]
    )
    await engine.add_conversation_message("keyed", "user", "once", idempotency_key="k")
    graph = talking(ContextEngineSaver(engine))
    for number in range(12):
        await graph.ainvoke({"messages": [("user", f"q{number} " + "z" * 200)]}, TALK)
    await walk(walking(ContextEngineSaver(engine)), TRAIL, 9)
    store = ContextEngineStore(engine)
    puts = [PutOp(ITEMS, f"k{n}", {"n": n, "text": "t" * 50}) for n in range(250)]
    await store.abatch(puts)
    await store.aput(("other",), "~:k", {"x": [1, None]}, ttl=60)


async def state_of(engine: ContextEngine) -> list[str]:
    """What graphs see of their threads."""
    talk = await talking(ContextEngineSaver(engine)).aget_state(TALK)
    trail = await walking(ContextEngineSaver(engine)).aget_state(TRAIL)
    return [*(str(message) for message in talk.values["messages"]), *trail.values["trail"]]


async def digests(engine: ContextEngine) -> dict[tuple[str, str], bytes]:
    """Of everything in a store, by kind and name."""
    runtime = engine._on.runtime
    reader = Reader(runtime)
    found: dict[tuple[str, str], bytes] = {}
    groups: list[Any] = []
    for places, group_of in ((SESSIONS, parts.session), (THREADS, parts.thread)):
        async for page in pages(runtime, places, IndexRange("_")):
            groups += [group_of(entry.member) for entry in page]
    groups += [parts.namespace(labels) for labels in await Directory(runtime).under(())]
    for group in groups:
        found[group.kind, group.name] = await digest_of(reader, group)
    return found
