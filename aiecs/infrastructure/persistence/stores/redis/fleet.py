"""The lanes of one event loop, and which of them a bucket's batches take."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from aiecs.infrastructure.persistence.stores.redis.confirmed import ConfirmedLane
from aiecs.infrastructure.persistence.stores.redis.connection import Server
from aiecs.infrastructure.persistence.stores.redis.lane import Lane
from aiecs.infrastructure.persistence.stores.redis.redirector import Redirector

LARGE = 64 * 1024


class Lanes(NamedTuple):
    """The connections to one server: ordinary writes, large ones, and reads."""

    small: Lane
    large: Lane
    reading: Lane

    def each(self) -> tuple[Lane, ...]:
        """Every lane once."""
        return tuple(dict.fromkeys(self))


class Fleet(Protocol):
    """All servers that hold the data, as one event loop reaches them."""

    loop: asyncio.AbstractEventLoop

    @property
    def writing(self) -> Sequence[Lanes]:
        """The server that the writes of each bucket go to."""
        ...

    @property
    def reading(self) -> Sequence[Lanes]:
        """The server that the reads of each bucket ask."""
        ...

    async def ready(self, deadline: float) -> None:
        """Return when it is known where every bucket is."""
        ...

    def primaries(self) -> Iterable[Lanes]:
        """Every server that writes go to."""
        ...

    def lanes(self) -> Iterable[Lane]:
        """Every lane that was opened."""
        ...

    def misdirected(self, lane: Lane, replies: Sequence[object]) -> str:
        """The reply that sends a reader elsewhere; "" when all were answered here."""
        ...

    async def follow(
        self, lane: Lane, message: str, bucket: int, tries: int, deadline: float
    ) -> tuple[Lane, bool]:
        """Whom a reader asks that was misdirected `tries` times; and whether it says ASKING."""
        ...

    async def close(self) -> None:
        """Finish what is in flight and disconnect."""
        ...

    def close_now(self) -> None:
        """Disconnect at once; from the fleet's own loop."""
        ...


def lanes_to(server: Server, confirmations: int, redirector: Redirector | None = None) -> Lanes:
    """New lanes to a server; they connect when they are first used."""
    if not confirmations:
        small = Lane(server, "aiecs", redirector)
        return Lanes(small, Lane(server, "aiecs-large", redirector), small)
    return Lanes(
        ConfirmedLane(server, "aiecs", redirector, confirmations),
        ConfirmedLane(server, "aiecs-large", redirector, confirmations),
        Lane(server, "aiecs-reading", redirector),
    )


def lanes_to_replica(server: Server, redirector: Redirector) -> Lanes:
    """Lanes that only read."""
    lane = Lane(replace(server, replica=True), "aiecs-replica", redirector)
    return Lanes(lane, lane, lane)


class OneServer:
    """A fleet of one: a single server, or the primary that sentinels watch."""

    def __init__(self, server: Server, buckets: int, confirmations: int) -> None:
        self.loop = asyncio.get_running_loop()
        self._lanes = lanes_to(server, confirmations)
        self.writing = self.reading = [self._lanes] * buckets

    async def ready(self, deadline: float) -> None:
        """See `Fleet`."""

    def primaries(self) -> Iterable[Lanes]:
        """See `Fleet`."""
        return (self._lanes,)

    def lanes(self) -> Iterable[Lane]:
        """See `Fleet`."""
        return self._lanes.each()

    def misdirected(self, lane: Lane, replies: Sequence[object]) -> str:
        """See `Fleet`."""
        del lane, replies
        return ""

    async def follow(
        self, lane: Lane, message: str, bucket: int, tries: int, deadline: float
    ) -> tuple[Lane, bool]:
        """See `Fleet`."""
        del message, bucket, tries, deadline
        return lane, False

    async def close(self) -> None:
        """See `Fleet`."""
        await asyncio.gather(*(lane.close() for lane in self._lanes.each()))

    def close_now(self) -> None:
        """See `Fleet`."""
        for lane in self._lanes.each():
            lane.close_now()
