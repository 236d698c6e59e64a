"""What an engine asks of whatever brings its events into an archive, from any event loop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from aiecs.core.cold import ColdReader
from aiecs.core.erasure import Erasure
from aiecs.core.events import Events
from aiecs.core.interface.archive import Archive, Row


class ArchiveState(NamedTuple):
    """How the archive is doing; sizes in bytes, ages in seconds.

    Of the store, as counted by all its processes: `waiting` events of `size` bytes in the
    outboxes, `oldest` the age of the oldest of them, `dead` ones that the archive does not take,
    `dropped` ones ever given up for want of room; `filling` is the share of the room that is
    taken, 0.0 to 1.0 and above. Of this process: `shipped`, `failures`, `breaker` (closed, open,
    recovering, or "off" where it does not ship), `alarm` and `trouble` (what somebody has to
    mend; what went wrong last).
    """

    waiting: int
    size: int
    oldest: float
    dead: int
    dropped: int
    filling: float
    shipped: int
    failures: int
    breaker: str
    alarm: str
    trouble: str


class ArchiveReport(NamedTuple):
    """What a report found: `rows` in the order of `columns`, asked with `parameters`."""

    name: str
    parameters: dict[str, Any]
    columns: tuple[str, ...]
    rows: list[Row]


class Archiving(Protocol):
    """An archive at work beside one store."""

    @property
    def name(self) -> str:
        """Where the archive is, without secrets."""
        ...

    @property
    def archive(self) -> Archive | None:
        """What can be asked; None where there are only copies that nobody can read back."""
        ...

    @property
    def reader(self) -> ColdReader | None:
        """What reads histories back; None where `archive` is."""
        ...

    def start(self, events: Events) -> None:
        """Begin to bring in what these events note. The archive may be down."""
        ...

    async def barrier(self, buckets: Iterable[int] | None, timeout: float) -> None:
        """Return when all that lies in the outboxes of these buckets now (None: of all) is in.

        `ArchiveUnavailableError` after `timeout` seconds, `ArchiveRowError` when events of these
        buckets are set aside because the archive does not take them.
        """
        ...

    async def erase(self, erasures: Sequence[Erasure], timeout: float) -> int | None:
        """Erase what waits for the archive at once, and what is in it as soon as it answers.

        How many rows the archive held; None when it was not done after `timeout` seconds: it will
        be, and no read shows them meanwhile.
        """
        ...

    async def query(
        self, sql: str, parameters: Mapping[str, Any] | None, timeout: float
    ) -> list[Row]:
        """The rows of SQL that only reads; `InvalidInputError` for any other."""
        ...

    async def report(
        self, name: str, parameters: Mapping[str, Any], timeout: float
    ) -> ArchiveReport:
        """One of `reports`; `InvalidInputError` for a name or parameters that there are not."""
        ...

    def reports(self) -> dict[str, str]:
        """The names of the reports, and what each of them tells."""
        ...

    async def state(self) -> ArchiveState:
        """How it is doing now; a `StoreError` when the store does not tell."""
        ...

    async def close(self, seconds: float) -> int:
        """Bring in what is left, for at most so long; how many events wait for the next start."""
        ...
