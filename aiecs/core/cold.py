"""What an archive can tell of sessions that the hot store no longer holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Life(NamedTuple):
    """One incarnation of a session. `gone`: it was deleted, and nothing of it may be shown."""

    incarnation: str
    user_id: str = ""
    gone: bool = False


class ColdMessage(NamedTuple):
    """A message as it lay in the session's log."""

    incarnation: str
    sequence: int
    record: bytes


class Wanted(NamedTuple):
    """Messages with `start <= sequence < stop` of these incarnations of a session (None: of all).

    Only those before (`end_life`, `end_sequence`) in the order of incarnation and sequence; of
    them the newest `limit`, or the oldest.
    """

    session_id: str
    lives: tuple[str, ...] | None
    end_life: str
    end_sequence: int
    start: int
    stop: int
    limit: int
    newest: bool = True


class ColdReader(Protocol):
    """Reads what is in the archive; from any event loop.

    Callers that ask the same at the same time share one query, if they have seen the outbox at the
    same place, `since`: of a query that began before its events were shipped, they would miss
    those. Everything raises `ArchiveUnavailableError` after `timeout` seconds; `patient=False`
    raises it at once while the archive is known not to answer.
    """

    async def lives(
        self, session_id: str, since: int, timeout: float, *, patient: bool
    ) -> list[Life]:
        """Every incarnation that the archive knows of, the oldest first."""
        ...

    async def sessions_of(self, user_id: str, timeout: float) -> list[str]:
        """Every session of which the archive has a life that this user owned."""
        ...

    async def messages(
        self, wanted: Wanted, since: int, timeout: float, *, patient: bool
    ) -> Sequence[ColdMessage]:
        """Messages, the oldest first."""
        ...
