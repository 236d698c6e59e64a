"""What a store that runs in this process brings: plain reads and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aiecs.core.interface import store as port


class State(Protocol):
    """The primitives under `execute`; keys are complete and opaque.

    A map, a log or an index exists while it holds something. Nobody calls a method with nothing
    to write.
    """

    def now(self) -> int:
        """The store's clock in microseconds since 1970."""
        ...

    def map_fields(self, key: str, fields: Iterable[str]) -> list[bytes | None]:
        """The values of these fields, None where there is none."""
        ...

    def map_all(self, key: str) -> dict[str, bytes]:
        """A copy of the map, empty when it is absent."""
        ...

    def map_exists(self, key: str) -> bool:
        """Whether the map holds a field."""
        ...

    def map_put(self, key: str, fields: dict[str, bytes]) -> None:
        """Set fields."""
        ...

    def map_remove(self, key: str, fields: Iterable[str]) -> int:
        """Remove fields; how many existed."""
        ...

    def log_count(self, key: str) -> int:
        """How many items the log holds."""
        ...

    def log_append(self, key: str, first: int, items: Sequence[bytes]) -> None:
        """Append items; `first` is the sequence right after the last item of the log."""
        ...

    def log_read(self, key: str, start: int, stop: int) -> list[bytes]:
        """The items with `start <= sequence < stop`, all of which exist."""
        ...

    def log_remove(self, key: str, start: int, stop: int) -> None:
        """Remove the items with `start <= sequence < stop`: a head or a tail of the log."""
        ...

    def log_set(self, key: str, sequence: int, item: bytes) -> None:
        """Replace an item that exists."""
        ...

    def index_put(self, key: str, entries: dict[str, int], *, greater: bool) -> None:
        """Set scores; with `greater` no existing score falls."""
        ...

    def index_range(self, key: str, op: port.IndexRange) -> list[tuple[str, int]]:
        """The (member, score) pairs that `op` asks for."""
        ...

    def index_count(self, key: str, low: int | None, high: int | None) -> int:
        """How many scores lie from `low` to `high`, inclusive."""
        ...

    def index_scores(self, key: str, members: Iterable[str]) -> list[int | None]:
        """The scores of these members, None where there is none."""
        ...

    def index_remove(self, key: str, members: Iterable[str]) -> int:
        """Remove members; how many existed."""
        ...

    def drop(self, kind: port.Kind, key: str) -> bool:
        """Remove a map, a log or an index; whether it existed."""
        ...
