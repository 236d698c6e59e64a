"""The services of one engine, built on one store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from aiecs.core.archiving import Archiving
from aiecs.core.errors import StoreError
from aiecs.core.interface.store import Store
from aiecs.domain.context.agent_conversations import AgentConversations
from aiecs.domain.context.asked import patience
from aiecs.domain.context.checkpoints import Checkpoints
from aiecs.domain.context.cold import Cold
from aiecs.domain.context.configuration import (
    CHECKPOINT_TTL,
    SESSION_TTL,
    Config,
    Ttl,
    ttl_of,
)
from aiecs.domain.context.conversations import Conversations
from aiecs.domain.context.deletions import Deletions
from aiecs.domain.context.diagnosis import Diagnosis
from aiecs.domain.context.earlier import Earlier
from aiecs.domain.context.erasures import Erasures
from aiecs.domain.context.maintenance import Maintenance
from aiecs.domain.context.observation import Monitor
from aiecs.domain.context.recurring import Recurring
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.session_listing import SessionListing
from aiecs.domain.context.sessions import Sessions
from aiecs.domain.context.tail_cache import TailCache
from aiecs.domain.context.task_contexts import TaskContexts
from aiecs.domain.context.thread_state.cache import Caches
from aiecs.domain.context.thread_state.listing import GraphCheckpoints
from aiecs.domain.context.thread_state.past import Pasts
from aiecs.domain.context.thread_state.thread_records import ThreadRecords
from aiecs.domain.context.thread_state.with_past import WithPast
from aiecs.domain.context.threads import Threads
from aiecs.domain.context.transfer.of_user import Exports

logger = logging.getLogger("aiecs")

_THREAD_CACHE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that one engine delegates to."""

    runtime: Runtime
    sessions: Sessions
    listing: SessionListing
    conversations: Conversations
    task_contexts: TaskContexts
    checkpoints: Checkpoints
    records: ThreadRecords
    past: Callable[[], ThreadRecords] | None
    agents: AgentConversations
    exports: Exports
    deletions: Deletions
    maintenance: Maintenance
    recurring: tuple[Recurring, ...]
    diagnosis: Diagnosis
    cold: Cold

    def start(self) -> None:
        """Begin what comes again and again, and let the observers know how things are."""
        self.runtime.counters.on_beat = tuple(work.arm for work in self.recurring)
        for work in self.recurring:
            work.arm()
        self.runtime.tasks.spawn(self.diagnosis.tell())

    async def close(self, seconds: float) -> int:
        """End what runs in the background and bring the totals to the store.

        Waits at most `seconds` for each; how many tasks had to be cancelled.
        """
        for work in self.recurring:
            work.stop()
        left = await self.runtime.tasks.drain(seconds)
        try:
            async with asyncio.timeout(seconds):
                await self.runtime.counters.close()
        except (StoreError, TimeoutError) as error:
            logger.warning("the last totals did not reach the store: %s", error)
        return left


def build(
    store: Store,
    config: Config,
    monitor: Monitor,
    *,
    cache_bytes: int,
    archiving: Archiving | None = None,
    archived: bool = False,
    cold_seconds: float = 0.25,
    concerns: tuple[str, ...] = (),
) -> Services:
    """The services on `store`, whose kind decides what `...` means for a TTL."""
    expires = store.capabilities.expires
    runtime = Runtime(
        store,
        session_ttl=_micros(ttl_of(config.session_ttl, SESSION_TTL, expires=expires)),
        checkpoint_ttl=_micros(ttl_of(config.checkpoint_ttl, CHECKPOINT_TTL, expires=expires)),
        strict_sessions=config.strict_sessions,
        max_messages=config.max_messages_per_session,
        timeout=config.operation_timeout,
        archived=archived or archiving is not None,
    )
    sessions, cache = Sessions(runtime), TailCache(cache_bytes)
    threads = Threads(runtime, sessions)
    records = ThreadRecords(runtime, threads, Caches(_THREAD_CACHE_BYTES))
    reader = None if archiving is None else archiving.reader
    earlier = None if reader is None else Earlier(runtime, reader, cold_seconds)
    erasures = None if archiving is None else Erasures(runtime, archiving)
    cold = Cold(runtime, archiving, earlier)
    past = None
    if reader is not None:
        pasts = Pasts(runtime, reader, patience(cold_seconds, insist=True))
        past = partial(WithPast, runtime, threads, pasts)
    conversations = Conversations(runtime, sessions, cache, earlier)
    graphs = GraphCheckpoints(records)
    maintenance = Maintenance(runtime)
    diagnosis = Diagnosis(runtime, monitor, cache, cold, concerns=concerns)
    return Services(
        runtime=runtime,
        sessions=sessions,
        listing=SessionListing(runtime),
        conversations=conversations,
        task_contexts=TaskContexts(runtime, sessions),
        checkpoints=Checkpoints(runtime, threads, graphs),
        exports=Exports(runtime, conversations, graphs, archiving),
        records=records,
        past=past,
        agents=AgentConversations(runtime, sessions),
        deletions=Deletions(runtime, erasures),
        maintenance=maintenance,
        recurring=(maintenance.sweeper(), diagnosis.teller()),
        diagnosis=diagnosis,
        cold=cold,
    )


def _micros(seconds: Ttl) -> int | None:
    return None if seconds is None else max(1, round(seconds * 1_000_000))
