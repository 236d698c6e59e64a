"""What a store may also tell of itself; one that does not have these methods need not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from aiecs.core.interface.finding import Finding


@runtime_checkable
class Examined(Protocol):
    """A store with servers of its own."""

    async def examine(self) -> Sequence[Finding]:
        """What the servers say of themselves; a `StoreError` when one does not answer."""
        ...


@runtime_checkable
class Gauged(Protocol):
    """A store with connections."""

    def gauges(self) -> Any:
        """How they are at this moment, as a named tuple of numbers; `down`: who does not answer."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """A store with room that can run out."""

    async def usage(self) -> float | None:
        """The share of it that is taken, 0.0 to 1.0; None when that cannot be told."""
        ...


@runtime_checkable
class Scrubbed(Protocol):
    """A store whose medium keeps what was deleted, until it is written anew."""

    async def scrub(self) -> None:
        """Write it anew; a `StoreError` when that cannot be done now."""
        ...


def gauges_of(store: object) -> Mapping[str, Any]:
    """The gauges of a store's connections; empty for one without."""
    return dict(store.gauges()._asdict()) if isinstance(store, Gauged) else {}
