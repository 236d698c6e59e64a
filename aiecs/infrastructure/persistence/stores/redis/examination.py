"""What a store finds out about its servers and its connections."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Any

from hiredis import pack_command

from aiecs.core.interface.finding import Finding
from aiecs.infrastructure.persistence.stores.redis.condition import (
    QUESTIONS,
    findings_of,
    share_of_memory,
    worst,
)
from aiecs.infrastructure.persistence.stores.redis.connection import Server
from aiecs.infrastructure.persistence.stores.redis.fleet import Fleet
from aiecs.infrastructure.persistence.stores.redis.gauges import Gauges, gauges_of
from aiecs.infrastructure.persistence.stores.redis.lane import Lane


class Examination:
    """The part of a `RedisStore` that looks at the servers, and changes nothing."""

    _server: Server

    @abstractmethod
    def _deadline(self, timeout: float | None) -> float: ...

    @abstractmethod
    async def _fleet_here(self, deadline: float) -> Fleet: ...

    @abstractmethod
    async def _ask(self, lane: Lane, commands: list[bytes], deadline: float) -> list[Any]: ...

    @abstractmethod
    def lanes(self) -> list[Lane]:
        """Every connection that this store has opened, on every loop."""

    async def examine(self) -> list[Finding]:
        """What the servers that take writes say of themselves; of each check the gravest finding.

        Raises a `StoreError` when one of them does not answer.
        """
        told = await self._tell(QUESTIONS)
        return worst({name: findings_of(replies) for name, replies in told.items()})

    async def usage(self) -> float | None:
        """How full the fullest server that takes writes is: of `maxmemory`, else of its machine.

        None when none of them tells. Raises a `StoreError` when one of them does not answer.
        """
        told = await self._tell((("INFO", "memory"),))
        shares = [one for (reply,) in told.values() if (one := share_of_memory(reply)) is not None]
        return max(shares, default=None)

    async def _tell(self, questions: tuple[tuple[Any, ...], ...]) -> dict[str, list[Any]]:
        """What each server that takes writes answers, by its name."""
        deadline = self._deadline(None)
        lanes = [lanes.small for lanes in (await self._fleet_here(deadline)).primaries()]
        commands = [pack_command(words) for words in questions]
        answers = await asyncio.gather(*(self._ask(lane, commands, deadline) for lane in lanes))
        names = (lane.address.name for lane in lanes)
        return dict(zip(names, answers, strict=True))

    def gauges(self) -> Gauges:
        """How the connections of this process are at this moment."""
        return gauges_of(self.lanes(), self._server.tally)
