"""Opening and closing an engine: the part of it that is not a delegate."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from aiecs.core.interface.store import Store
from aiecs.core.opening import Opening
from aiecs.domain.context.configuration import (
    CHECKPOINT_TTL,
    NOT_OPEN,
    SESSION_TTL,
    Config,
    ttl_of,
)
from aiecs.domain.context.observation import Monitor

if TYPE_CHECKING:
    from aiecs.core.archiving import Archiving
    from aiecs.core.interface.storage_interface import IPermanentStorageBackend
    from aiecs.core.settings import Settings
    from aiecs.domain.context.backend import Backend
    from aiecs.domain.context.services import Services

logger = logging.getLogger("aiecs")

_DRAIN_SECONDS = 5.0


_FALLEN_BACK = "Redis was not reachable at start: data is kept in this process only"


class _Open(NamedTuple):
    backend: Backend
    services: Services
    config: Config
    archiving: Archiving | None


class Lifecycle:
    """An engine that is open between `initialize()` and `close()`."""

    def __init__(
        self,
        store: str | Store | None,
        config: Config,
        *,
        share: bool,
        archive: str | IPermanentStorageBackend | None = None,
    ) -> None:
        self.monitor = Monitor(config.observers)
        self._config = config
        self._named = store
        self._share = share
        self._archive = archive
        self._opening: Opening[_Open] = Opening()
        self._redis: Any = None
        self._closing: list[Callable[[], Awaitable[None]]] = []
        # Services while open; else what raises LifecycleError on any use.
        self._on: Services = NOT_OPEN

    async def initialize(self) -> bool:
        """Open the store and start the background work.

        True on the configured store. False after the fallback to memory: only when no store was
        named (`store=`, `AIECS_STORE_URL`) and Redis cannot be reached; the data is then lost with
        the process, and `health_check()` says "degraded". Once open, the answer stays the same.
        Raises the `StoreError` of a named store that does not answer, and `StoreAuthError` for a
        refused password in any case.
        """
        opened = await self._opening.get(self._open)
        return not opened.backend.fallback

    async def _open(self) -> _Open:
        # Half of what importing the engine would cost; whoever only names it need not pay.
        from aiecs.core.settings import load_settings
        from aiecs.domain.context.backend import open_backend
        from aiecs.domain.context.services import build

        settings = load_settings()
        config = self._config.with_settings(settings)
        settings = replace(settings, operation_timeout=config.operation_timeout)
        backend = await open_backend(self._named, settings, share=self._share)
        try:
            archiving = self._open_archive(backend.store, settings)
        except BaseException:
            await backend.release()
            raise
        services = build(
            backend.store,
            config,
            self.monitor,
            cache_bytes=settings.tail_cache_bytes,
            archiving=archiving,
            cold_seconds=settings.archive_read_timeout,
            concerns=(_FALLEN_BACK,) if backend.fallback else (),
        )
        mode = "fallback" if backend.fallback else "configured"
        self.monitor.opened(backend.store.capabilities.name, mode)
        services.start()
        if archiving is not None:
            archiving.start(services.runtime.events)
        self._on = services
        return _Open(backend, services, config, archiving)

    def _open_archive(self, store: Store, settings: Settings) -> Archiving | None:
        from aiecs.core import registry

        archive = settings.archive_url if self._archive is None else self._archive
        return None if archive is None else registry.open_archive(archive, store, settings)

    async def close(self) -> None:
        """Bring what is pending to the store and give back what this engine opened. Idempotent.

        Waits at most 5 s for background work; what is left then is cancelled and logged. A store
        that was given as an object stays open. `initialize()` opens the engine again.
        """
        opened = self._opening.take()
        if opened is None:
            return
        self._on = NOT_OPEN
        before, self._closing = self._closing, []
        for callback in before:
            await callback()
        left = await opened.services.close(_DRAIN_SECONDS)
        if left:
            logger.warning("closed with %d background tasks unfinished", left)
        redis, self._redis = self._redis, None
        try:
            if redis is not None:
                await redis.close()
            if opened.archiving is not None:
                await _close_archive(opened.archiving)
        finally:
            self.monitor.closed()
            await opened.backend.release()

    def on_close(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Let `callback` be awaited when the engine is closed, once and before anything ends."""
        self._closing.append(callback)

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def redis_client(self) -> Any:
        """A `redis.asyncio.Redis` of the running loop, on the store's server, opened on first use.

        None unless the engine is open on Redis.
        """
        opened = self._opening.value
        if opened is None:
            return None
        if self._redis is None:
            from aiecs.core import registry

            self._redis = registry.redis_client_of(opened.backend.store)
        return None if self._redis is None else self._redis.here()

    @property
    def session_ttl(self) -> float | None:
        """Seconds after the last write at which a session expires; None for never."""
        opened = self._opening.value
        if opened is None:
            return ttl_of(self._config.session_ttl, SESSION_TTL)
        expires = opened.backend.store.capabilities.expires
        return ttl_of(opened.config.session_ttl, SESSION_TTL, expires=expires)

    @property
    def checkpoint_ttl(self) -> float | None:
        """Seconds after the last write at which a thread expires; None for never."""
        opened = self._opening.value
        if opened is None:
            return ttl_of(self._config.checkpoint_ttl, CHECKPOINT_TTL)
        expires = opened.backend.store.capabilities.expires
        return ttl_of(opened.config.checkpoint_ttl, CHECKPOINT_TTL, expires=expires)


async def _close_archive(archiving: Archiving) -> None:
    waiting = await archiving.close(_DRAIN_SECONDS)
    if waiting:
        logger.warning("closed with %d events that wait for the archive", waiting)
