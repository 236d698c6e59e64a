"""The services of one engine, built on one store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from aiecs.core.errors import InvalidInputError, LifecycleError, StoreError
from aiecs.core.interface.store import Store
from aiecs.core.settings import Settings
from aiecs.domain.context.agent_conversations import AgentConversations
from aiecs.domain.context.checkpoints import Checkpoints
from aiecs.domain.context.conversations import Conversations
from aiecs.domain.context.deletions import Deletions
from aiecs.domain.context.maintenance import Maintenance
from aiecs.domain.context.monitoring import Monitor, Observer
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.session_listing import SessionListing
from aiecs.domain.context.sessions import Sessions
from aiecs.domain.context.tail_cache import TailCache
from aiecs.domain.context.task_contexts import TaskContexts

logger = logging.getLogger("aiecs")

DAY = 86_400
SESSION_TTL = float(DAY)
CHECKPOINT_TTL = 7.0 * DAY
_TIMEOUT = 1.0
_MIN_TTL = 0.000_001
_MAX_TTL = 30 * 365 * DAY

Ttl = float | None
AskedTtl = Any
"""Seconds, None for never, or `...` for what the store's kind does."""


@dataclass(frozen=True, slots=True)
class Config:
    """What an engine was constructed with; what has its default gives way to the settings.

    Times in seconds.
    """

    session_ttl: AskedTtl = ...
    checkpoint_ttl: AskedTtl = ...
    max_messages_per_session: int | None = None
    strict_sessions: bool = False
    operation_timeout: float = _TIMEOUT
    observers: tuple[Observer, ...] = ()

    def __post_init__(self) -> None:
        for name in ("session_ttl", "checkpoint_ttl"):
            _check_ttl(getattr(self, name), name)
        keep = self.max_messages_per_session
        if keep is not None and (type(keep) is not int or keep < 1):
            raise InvalidInputError(f"max_messages_per_session is 1 or more, got {keep!r}")
        timeout = self.operation_timeout
        if type(timeout) not in (int, float) or not 0 < timeout <= DAY:
            raise InvalidInputError(f"operation_timeout is seconds above 0, got {timeout!r}")

    def with_settings(self, settings: Settings) -> Config:
        """The configuration where `AIECS_*` variables fill in what the caller left open."""
        keep = self.max_messages_per_session
        given = self.operation_timeout != _TIMEOUT
        return replace(
            self,
            session_ttl=_ttl_setting(self.session_ttl, "session_ttl", settings),
            checkpoint_ttl=_ttl_setting(self.checkpoint_ttl, "checkpoint_ttl", settings),
            max_messages_per_session=settings.max_messages_per_session if keep is None else keep,
            strict_sessions=self.strict_sessions or settings.strict_sessions,
            operation_timeout=self.operation_timeout if given else settings.operation_timeout,
        )


def _ttl_setting(asked: AskedTtl, name: str, settings: Settings) -> AskedTtl:
    if asked is not ... or f"AIECS_{name.upper()}" not in settings.given:
        return asked
    return getattr(settings, name) or None


def _check_ttl(ttl: AskedTtl, name: str) -> None:
    if ttl is None or ttl is ...:
        return
    if type(ttl) not in (int, float) or not _MIN_TTL <= ttl <= _MAX_TTL:
        raise InvalidInputError(f"{name} is seconds above 0 or None for never, got {ttl!r}")


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that one engine delegates to."""

    runtime: Runtime
    sessions: Sessions
    listing: SessionListing
    conversations: Conversations
    task_contexts: TaskContexts
    checkpoints: Checkpoints
    agents: AgentConversations
    deletions: Deletions
    maintenance: Maintenance

    async def close(self, seconds: float) -> int:
        """End what runs in the background and bring the totals to the store.

        Waits at most `seconds` for each; how many tasks had to be cancelled.
        """
        self.maintenance.stop()
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
    )
    sessions, cache = Sessions(runtime), TailCache(cache_bytes)
    return Services(
        runtime=runtime,
        sessions=sessions,
        listing=SessionListing(runtime),
        conversations=Conversations(runtime, sessions, cache),
        task_contexts=TaskContexts(runtime, sessions),
        checkpoints=Checkpoints(runtime, sessions),
        agents=AgentConversations(runtime, sessions),
        deletions=Deletions(runtime),
        maintenance=Maintenance(runtime, monitor, cache, concerns=concerns),
    )


def ttl_of(asked: AskedTtl, default: float, *, expires: bool = True) -> Ttl:
    """Seconds, or None for never, of what was asked for."""
    if asked is ...:
        return default if expires else None
    return None if asked is None else float(asked)


def _micros(seconds: Ttl) -> int | None:
    return None if seconds is None else max(1, round(seconds * 1_000_000))


class _NotOpen:
    """Stands for the services while there are none."""

    def __getattr__(self, name: str) -> Any:
        raise LifecycleError("the engine is not open: await initialize() first")


NOT_OPEN: Any = _NotOpen()


def checked_observers(observers: Iterable[Observer]) -> tuple[Observer, ...]:
    """The observers as a tuple; `InvalidInputError` for what cannot be one."""
    found = tuple(observers)
    for one in found:
        if not callable(getattr(one, "operation", None)):
            raise InvalidInputError(f"an observer has a method operation, {type(one)} has none")
    return found
