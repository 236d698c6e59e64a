"""A store that is written to by engines which leave the shipping to others, and its archive."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiecs import ContextEngine
from aiecs.core.interface.store import Batch, Put, Store
from aiecs.infrastructure.persistence.archive import ClickHouseArchive
from aiecs.infrastructure.persistence.archive.leases import GROUPS, home_of

MESSAGES = "SELECT content, session_id, event_id FROM context_conversations ORDER BY version"
NO_POISON = "CONSTRAINT no_poison CHECK position(content, 'poison') = 0"


async def write(store: str | Store, archive: str, texts: Iterable[str], *sessions: str) -> None:
    """Messages in each session ("s"), from an engine that is open for no longer."""
    async with ContextEngine(store=store, archive=archive, operation_timeout=10) as engine:
        for text in texts:
            for session in sessions or ("s",):
                await engine.add_conversation_message(session, "user", text)


def messages(url: str) -> list[tuple[Any, ...]]:
    """Every raw row of a message in the archive: content, session, event id."""
    return opened(url, lambda archive: archive.select(MESSAGES))


def texts(url: str) -> list[str]:
    """The contents of all messages in the archive."""
    return [row[0] for row in messages(url)]


def keep_raw(url: str) -> None:
    """Let the archive merge no messages: of two rows that are the same event, both stay."""
    opened(url, lambda archive: archive.execute("SYSTEM STOP MERGES context_conversations"))


def poison(url: str) -> None:
    """Let the archive refuse messages with "poison" in them."""
    opened(
        url, lambda archive: archive.execute(f"ALTER TABLE context_conversations ADD {NO_POISON}")
    )


def heal(url: str) -> None:
    """Let the archive take them again."""
    statement = "ALTER TABLE context_conversations DROP CONSTRAINT no_poison"
    opened(url, lambda archive: archive.execute(statement))


def opened(url: str, work: Any) -> Any:
    """What `work` returns of the archive, which is open for no longer."""
    archive = ClickHouseArchive.from_url(url)
    archive.open()
    try:
        return work(archive)
    finally:
        archive.close()


async def let_leases_run_out(store: Store) -> None:
    """As if their time had passed since whoever had them was killed."""
    for home in map(home_of, range(GROUPS)):
        await store.apply(Batch(home, "", (Put("_ship", {"until": b"0"}),)))
