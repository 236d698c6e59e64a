"""What an engine is constructed with, before anything is opened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aiecs.core.errors import InvalidInputError, LifecycleError
from aiecs.domain.context.monitoring import Observer

if TYPE_CHECKING:
    from aiecs.core.settings import Settings

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
    found = tuple(observers)
    for one in found:
        if not callable(getattr(one, "operation", None)):
            raise InvalidInputError(f"an observer has a method operation, {type(one)} has none")
    return found
