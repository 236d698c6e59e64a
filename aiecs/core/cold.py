"""What an archive can tell of sessions and threads that the hot store no longer holds."""

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


class ThreadLife(NamedTuple):
    """One incarnation of a thread, and the session that it named, if any.

    `gone`: it was deleted, and nothing of it may be shown.
    """

    incarnation: str
    session_id: str = ""
    gone: bool = False


class WantedCheckpoints(NamedTuple):
    """Checkpoints of graphs in these lives of a thread, the greatest ids first, at most `limit`.

    `namespace` None: of all namespaces. `before`: only ids below, "" for any. `names`: only these
    (namespace, id), if there are some. `bare`: without their records and writes.
    """

    thread_id: str
    lives: tuple[str, ...]
    namespace: str | None = None
    before: str = ""
    names: tuple[tuple[str, str], ...] = ()
    limit: int = 10_000
    bare: bool = False


class ColdCheckpoint(NamedTuple):
    """A checkpoint of a graph as it was stored, and the writes that belong to it."""

    namespace: str
    checkpoint_id: str
    record: bytes
    writes: bytes


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

    async def thread_lives(self, thread_id: str, since: int, timeout: float) -> list[ThreadLife]:
        """Every incarnation of a thread that the archive knows of, the oldest first."""
        ...

    async def checkpoints(
        self, wanted: WantedCheckpoints, since: int, timeout: float
    ) -> Sequence[ColdCheckpoint]:
        """Checkpoints of graphs, the greatest id first; none that was removed on purpose."""
        ...

    async def parts(
        self, thread_id: str, lives: Sequence[str], names: Sequence[str], timeout: float
    ) -> dict[str, bytes]:
        """What records of these lives refer to, by name; what is not there is left out."""
        ...
