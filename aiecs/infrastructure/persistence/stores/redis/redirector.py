"""What a lane of a cluster's node tells about its node."""

from __future__ import annotations

from typing import Protocol

from aiecs.infrastructure.persistence.stores.redis.address import Address
from aiecs.infrastructure.persistence.stores.redis.entry import Entry


class Redirector(Protocol):
    """Knows the other nodes of a cluster."""

    def elsewhere(self, refused_by: Address, entry: Entry, message: str) -> None:
        """Take an entry that a node has refused with `message`."""
        ...

    def down(self) -> None:
        """A node does not answer."""
        ...
