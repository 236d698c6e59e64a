"""Opening stores by URL: a table of names, so that no driver is loaded before it is used.

Others add schemes by entry points of the group `aiecs.stores`: the name is the scheme, the object
is called as `opener(url, settings)` and returns a `Store` that connects when it is first used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from aiecs.core.errors import InvalidInputError
from aiecs.core.interface.store import Store
from aiecs.core.settings import Settings

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

    from aiecs.core.archiving import Archiving
    from aiecs.core.interface.storage_interface import IPermanentStorageBackend

GROUP = "aiecs.stores"

Opener = Callable[[str, Settings], Store]

_OPENERS = "aiecs.infrastructure.persistence.openers"
_SCHEMES = {
    "memory": f"{_OPENERS}:open_memory",
    "sqlite": f"{_OPENERS}:open_sqlite",
    "redis+unix": f"{_OPENERS}:open_redis",
    "unix": f"{_OPENERS}:open_redis",
}
_SCHEMES |= {
    f"{name}{kind}": f"{_OPENERS}:open_redis"
    for name in ("redis", "rediss", "valkey", "valkeys")
    for kind in ("", "+cluster", "+sentinel")
}
_CLIENT = f"{_OPENERS}:redis_client_of"
_ARCHIVE = f"{_OPENERS}:open_archive"


def open_store(url: str, settings: Settings) -> Store:
    """A new store of the URL's kind, with the settings' deadlines and key prefix.

    Nothing is connected yet. `InvalidInputError` for an unknown scheme, listing the known ones.
    """
    return _opener(scheme_of(url))(url, settings)


def scheme_of(url: str) -> str:
    """The part of a URL before `://`, in lower case."""
    if "://" not in url:
        raise InvalidInputError(f"a store is named as scheme://..., known are {schemes()}")
    return url.partition("://")[0].lower()


def schemes() -> list[str]:
    """Every scheme that `open_store` knows, sorted."""
    return sorted({*_SCHEMES, *(entry.name for entry in _third_party())})


def _opener(scheme: str) -> Opener:
    if scheme in _SCHEMES:
        return cast("Opener", _load(_SCHEMES[scheme]))
    for entry in _third_party(name=scheme):
        return cast("Opener", entry.load())
    raise InvalidInputError(f"unknown store {scheme!r}://, known are {schemes()}")


def _load(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def redis_client_of(store: Store) -> Any:
    """A `RedisClient` for the server that a Redis store is on; None for any other store."""
    return _load(_CLIENT)(store) if store.capabilities.name == "redis" else None


def open_archive(
    archive: str | IPermanentStorageBackend, store: Store, settings: Settings
) -> Archiving:
    """What brings a store's events into an archive, by URL, or into an application's own backend.

    Nothing is connected yet. `InvalidInputError`, `MissingExtraError`.
    """
    return cast("Archiving", _load(_ARCHIVE)(archive, store, settings))


# --- stores that a process shares -----------------------------------------------------------------


@dataclass
class _Shared:
    store: Store
    users: int = 0


_lock = threading.Lock()
_shared: dict[tuple[str, float, str], _Shared] = {}
_fallback: list[Store] = []


def share_store(url: str, settings: Settings) -> Store:
    """The process's one store for this URL and these settings; hand it back by `release_store`."""
    key = (url, settings.operation_timeout, settings.key_prefix)
    with _lock:
        shared = _shared.get(key)
        if shared is None:
            shared = _shared[key] = _Shared(open_store(url, settings))
        shared.users += 1
        return shared.store


async def release_store(store: Store) -> None:
    """Close a shared store with its last user."""
    with _lock:
        for key, shared in _shared.items():
            if shared.store is store:
                shared.users -= 1
                if shared.users:
                    return
                del _shared[key]
                break
    await store.close()


def fallback_store(settings: Settings) -> Store:
    """The process's store in memory, for engines that found no Redis at their start; made once."""
    with _lock:
        if not _fallback:
            _fallback.append(open_store("memory://", settings))
        return _fallback[0]


def fallback_in_use() -> Store | None:
    """That store if an engine has fallen back before, else None.

    It stays: engines that start later use it too, so that all of the process see the same data.
    """
    with _lock:
        return _fallback[0] if _fallback else None


def forget_fallback() -> None:
    """Let the next engine try Redis again; what the fallback holds is lost. For tests."""
    with _lock:
        _fallback.clear()


def _third_party(name: str = "") -> EntryPoints:
    from importlib.metadata import entry_points  # a tenth of what importing the engine costs

    found = entry_points(group=GROUP)
    return found.select(name=name) if name else found
