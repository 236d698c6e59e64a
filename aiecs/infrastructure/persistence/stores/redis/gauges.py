"""How the connections of a store are at this moment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aiecs.infrastructure.persistence.stores.redis.connection import Tally
from aiecs.infrastructure.persistence.stores.redis.lane import Lane


class Gauges(NamedTuple):
    """Over all servers and event loops of this process."""

    connections: int
    """That are open."""
    in_flight: int
    """Calls that were sent or wait for a connection; at most 4,096 for each connection."""
    in_flight_bytes: int
    """What those calls bring; at most 16 MiB for each connection, and one call more."""
    waiting: int
    """Calls that found no room and wait for it."""
    reconnects: int
    """Connections lost since the store was made."""
    unknown_outcomes: int
    """Writes of which the caller was told that they may have been applied."""
    down: tuple[str, ...]
    """Servers that do not answer: calls to them fail at once."""


def gauges_of(lanes: Iterable[Lane], tally: Tally) -> Gauges:
    """The sum over lanes, and what was counted over those that are gone as well."""
    every = list(lanes)
    under_way = [lane.under_way for lane in every]
    return Gauges(
        connections=sum(lane.connected for lane in every),
        in_flight=sum(calls for calls, _ in under_way),
        in_flight_bytes=sum(size for _, size in under_way),
        waiting=sum(lane.in_line for lane in every),
        reconnects=tally.reconnects,
        unknown_outcomes=tally.unknown_outcomes,
        down=tuple(sorted({lane.address.name for lane in every if lane.is_down})),
    )
