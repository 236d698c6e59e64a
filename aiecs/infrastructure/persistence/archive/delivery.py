"""One manifest's way into the archive: an insert for each table, halved around rows it refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from aiecs.core.errors import ArchiveError, ArchiveRowError, ArchiveUnavailableError
from aiecs.core.interface.archive import Archive
from aiecs.infrastructure.persistence.archive.rows import Life, Made, Shipped, columns_of, rows_of

MOST_ROWS, MOST_BYTES = 2_000, 4 * 1024 * 1024


class Dead(NamedTuple):
    """An item that the archive will not take, and why; the reason holds nothing of its content."""

    shipped: Shipped
    table: str
    reason: str


class Delivery:
    """Delivers the same items under the same tokens, however often it is asked to."""

    def __init__(self, archive: Archive, store_id: str) -> None:
        self._archive = archive
        self._store_id = store_id

    def deliver(
        self,
        token: str,
        items: Sequence[Shipped],
        owners: Mapping[Life, str] | None = None,
        *,
        suspect: bool = False,
    ) -> list[Dead]:
        """Insert everything, and return what cannot be; blocks.

        `suspect`: a refusal that is not known to pass is taken for a fault of the rows. Raises the
        `ArchiveError` of any other failure; the whole call can then be repeated.
        """
        # Whoever goes on after a crash reads them in another order than they were gathered in.
        rows = rows_of(sorted(items), self._store_id, owners)
        dead = [Dead(shipped, "", "it is no event") for shipped in rows.corrupt]
        for table, made in sorted(rows.by_table.items()):
            for part in _parts(made):
                dead += self._insert(table, part, token, suspect=suspect)
        return list({one.shipped: one for one in dead}.values())

    def _insert(self, table: str, made: list[Made], token: str, *, suspect: bool) -> list[Dead]:
        try:
            self._send(table, made, f"{token}:{table}:{_digest(made)}")
        except ArchiveError as error:
            if not is_of_rows(error, suspect=suspect):
                raise
            if len(made) == 1:
                return [Dead(made[0].shipped, table, str(error))]
        else:
            return []
        half = len(made) // 2
        halves = (made[:half], made[half:])
        return [
            dead for part in halves for dead in self._insert(table, part, token, suspect=suspect)
        ]

    def _send(self, table: str, made: list[Made], token: str) -> None:
        try:
            self._archive.insert(table, columns_of([one.row for one in made]), token=token)
        except ArchiveError:
            raise
        except Exception as error:
            # Whatever it is, the rest has to get there: what stays the same is put down to a row.
            name = type(error).__name__
            raise ArchiveUnavailableError(f"{table}: {name}", unexpected=True) from error


def _digest(made: list[Made]) -> str:
    """Of the rows that there are: what was erased since the last try has moved the others."""
    ids = b"".join(one.row["event_id"].bytes for one in made)
    return blake2b(ids, digest_size=8).hexdigest()


def is_of_rows(error: ArchiveError, *, suspect: bool) -> bool:
    """Whether rows of an insert are the cause; with `suspect` also where nothing says so."""
    unexpected = isinstance(error, ArchiveUnavailableError) and error.unexpected
    return isinstance(error, ArchiveRowError) or (suspect and unexpected)


def _parts(made: list[Made]) -> list[list[Made]]:
    """In pieces that an insert takes gladly; a single large row makes a piece of its own."""
    parts: list[list[Made]] = [[]]
    size = 0
    for one in made:
        if parts[-1] and (len(parts[-1]) >= MOST_ROWS or size + one.size > MOST_BYTES):
            parts.append([])
            size = 0
        parts[-1].append(one)
        size += one.size
    return parts
