"""Which store an engine is on, and who may close it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiecs.core import registry
from aiecs.core.errors import (
    StoreMisconfiguredError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from aiecs.core.interface.store import Store
from aiecs.core.settings import Settings

logger = logging.getLogger("aiecs")


class Backend(NamedTuple):
    """A store that answers. `fallback`: memory, because no Redis was reachable."""

    store: Store
    release: Callable[[], Awaitable[None]]
    fallback: bool = False


async def open_backend(store: str | Store | None, settings: Settings, *, share: bool) -> Backend:
    """The store that was named: by the caller, by `AIECS_STORE_URL`, by the REDIS_* settings.

    A store named by one of the first two raises its `StoreError` when it does not answer. Only
    when none was named, and Redis cannot be reached, it is the process's store in memory; a wrong
    password and a server that is not what was configured raise even then. `share`: use the
    process's connections to that Redis.
    """
    if store is not None and not isinstance(store, str):
        await _answering(store, _keep_open)
        return Backend(store, _keep_open)
    named = settings.store_url if store is None else store
    if named:
        opened = registry.open_store(named, settings)
        await _answering(opened, opened.close)
        return Backend(opened, opened.close)
    held = registry.fallback_in_use()
    if held is not None:
        return Backend(held, _keep_open, fallback=True)
    opener = registry.share_store if share else registry.open_store
    redis = opener(settings.redis_url, settings)

    async def release() -> None:
        await (registry.release_store(redis) if share else redis.close())

    try:
        await _answering(redis, release)
    except StoreMisconfiguredError:
        raise  # something answers there: a mistake to mend, no outage
    except (StoreUnavailableError, StoreTimeoutError) as error:
        return _fall_back(error, settings)
    return Backend(redis, release)


async def _answering(store: Store, release: Callable[[], Awaitable[None]]) -> None:
    try:
        await store.ping()
    except BaseException:
        await release()
        raise


def _fall_back(error: Exception, settings: Settings) -> Backend:
    logger.warning(
        "REDIS IS NOT REACHABLE (%s): keeping all data in the memory of this process, where it is "
        "lost at its end. Name a store (store=, AIECS_STORE_URL) to get an error instead.",
        error,
    )
    return Backend(registry.fallback_store(settings), _keep_open, fallback=True)


async def _keep_open() -> None:
    """The store is someone else's to close."""
