"""A look at an archive that changes nothing there."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from aiecs.infrastructure.persistence.archive.connection import connect
from aiecs.infrastructure.persistence.archive.migrations import migrated_to
from aiecs.infrastructure.persistence.archive.tables import LATEST
from aiecs.infrastructure.persistence.archive.url import Address


class Sight(NamedTuple):
    """What is there: the server's version and the schema of its tables.

    `schema` is 0 where there are none yet; `latest` is what this release makes.
    """

    version: str
    schema: int
    latest: int = LATEST


def look_at(address: Address) -> Sight | None:
    """What is at this address; None for the directory of an embedded archive that does not exist.

    Blocks. The `ArchiveError` that an engine would meet there, or `MissingExtraError`.
    """
    if address.path is not None and not Path(address.path).exists():
        return None
    connection = connect(address)
    try:
        return Sight(connection.version, migrated_to(connection))
    finally:
        connection.close()
