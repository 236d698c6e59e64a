"""Messages of a session, put in and taken out in a few words."""

from __future__ import annotations

from aiecs import ContextEngine, ConversationMessage
from aiecs.core.interface.store import Batch, Op, Store
from aiecs.core.keys import session_place


def contents(history: list[ConversationMessage]) -> list[str]:
    """What the messages say."""
    return [message.content for message in history]


async def fill(engine: ContextEngine, session_id: str, count: int, start: int = 0) -> None:
    """Add so many messages: `m0`, `m1` and so on, counted from `start`."""
    for number in range(start, start + count):
        await engine.add_conversation_message(session_id, "user", f"m{number}")


async def plant(store: Store, session_id: str, *ops: Op) -> None:
    """Write to a session's keys past the engine, as a bug or another program would."""
    await store.apply(Batch(*session_place(session_id), ops))
