"""What an engine is constructed with, before anything is opened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aiecs.core.errors import InvalidInputError, LifecycleError
from aiecs.core.interface.storage_interface import IPermanentStorageBackend
from aiecs.core.interface.store import MAX_INTEGER, Store
from aiecs.domain.context.arguments import listed
from aiecs.domain.context.observation import Observer

if TYPE_CHECKING:
    from aiecs.core.settings import Settings

DAY = 86_400
SESSION_TTL = float(DAY)
CHECKPOINT_TTL = 7.0 * DAY
_MIN_TTL = 0.000_001
_MAX_TTL = 30 * 365 * DAY

_SETTINGS = ("max_messages_per_session", "strict_sessions", "operation_timeout")

Ttl = float | None
AskedTtl = Any
"""Seconds, None for never, or `...` for what the store's kind does."""
Asked = Any
"""What the caller gave, or `...` for what the settings say."""


@dataclass(frozen=True, slots=True)
class Config:
    """What an engine was constructed with; `...` gives way to the settings. Times in seconds."""

    session_ttl: AskedTtl = ...
    checkpoint_ttl: AskedTtl = ...
    max_messages_per_session: Asked = ...
    strict_sessions: Asked = ...
    operation_timeout: Asked = ...
    observers: tuple[Observer, ...] = ()

    def __post_init__(self) -> None:
        for name in ("session_ttl", "checkpoint_ttl"):
            _check_ttl(getattr(self, name), name)
        keep = self.max_messages_per_session
        if keep not in (..., None) and (type(keep) is not int or not 1 <= keep <= MAX_INTEGER):
            raise InvalidInputError(
                f"max_messages_per_session is 1 or more, or None to keep all, got {keep!r}"
            )
        strict = self.strict_sessions
        if strict is not ... and type(strict) is not bool:
            raise InvalidInputError(f"strict_sessions is True or False, got {strict!r}")
        timeout = self.operation_timeout
        number = type(timeout) in (int, float)
        if timeout is not ... and not (number and 0 < timeout <= DAY):
            raise InvalidInputError(f"operation_timeout is seconds above 0, got {timeout!r}")

    def with_settings(self, settings: Settings) -> Config:
        """The configuration where `AIECS_*` variables fill in what the caller left open."""
        asked = {name: getattr(self, name) for name in _SETTINGS}
        return replace(
            self,
            session_ttl=_ttl_setting(self.session_ttl, "session_ttl", settings),
            checkpoint_ttl=_ttl_setting(self.checkpoint_ttl, "checkpoint_ttl", settings),
            **{n: getattr(settings, n) if given is ... else given for n, given in asked.items()},
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


def ttl_of(asked: AskedTtl, default: float, *, expires: bool = True) -> Ttl:
    """Seconds, or None for never, of what was asked for."""
    if asked is ...:
        return default if expires else None
    return None if asked is None else float(asked)


class _NotOpen:
    """Stands for the services while there are none."""

    def __getattr__(self, name: str) -> Any:
        raise LifecycleError("the engine is not open: await initialize() first")


NOT_OPEN: Any = _NotOpen()


def checked_observers(observers: Iterable[Observer]) -> tuple[Observer, ...]:
    """The observers as a tuple; `InvalidInputError` for what cannot be one."""
    found = tuple(listed(observers, "observers"))
    for one in found:
        if not callable(getattr(one, "operation", None)):
            name = type(one).__name__
            raise InvalidInputError(f"an observer has a method operation, {name} has none")
    return found


def checked_store(store: str | Store | None) -> str | Store | None:
    """`store` itself; `InvalidInputError` for what names no store and is none."""
    if store == "":
        raise InvalidInputError("store names no store: give its URL, or leave store= out")
    if store is None or isinstance(store, str):
        return store
    methods = (getattr(store, name, None) for name in ("apply", "ping", "close"))
    if isinstance(store, type) or not all(map(callable, methods)):
        raise InvalidInputError(f"store is a URL or a Store, got {type(store).__name__}")
    return store


def checked_archive(archive: Any, backend: Any) -> str | IPermanentStorageBackend | None:
    """The archive that was named; `InvalidInputError` for what names none, and for two."""
    if archive is not None and backend is not None:
        raise InvalidInputError("give archive= or permanent_backend=, not both")
    if backend is not None:
        if not isinstance(backend, IPermanentStorageBackend):
            name = type(backend).__name__
            raise InvalidInputError(f"permanent_backend is an IPermanentStorageBackend, got {name}")
        return backend
    if archive is None or (isinstance(archive, str) and "://" in archive):
        return archive
    raise InvalidInputError("archive is clickhouse://host:port/database or chdb:///directory")
