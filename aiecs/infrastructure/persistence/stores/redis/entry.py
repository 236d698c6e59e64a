"""One caller's place in a lane."""

from __future__ import annotations

import asyncio
from typing import Any

from aiecs.core.errors import Outcome
from aiecs.infrastructure.persistence.stores.redis.receipts import Receipt
from aiecs.infrastructure.persistence.stores.redis.scripts import Script


class Entry:
    """What one caller waits for: commands (packed) and their replies, in order.

    A write is one script call: `front` up to its keys, its receipt, then `commands` are its
    arguments. The receipt is filled in when it is first sent.
    """

    __slots__ = (
        "commands", "deadline", "front", "future", "receipt", "redirects", "repeated", "replies",
        "rounds", "script", "size",
    )  # fmt: skip

    replies: list[Any]

    def __init__(  # noqa: PLR0917 - keywords would cost a tenth of a call
        self,
        commands: Any,
        future: asyncio.Future[Any],
        size: int,
        deadline: float,
        script: Script | None = None,
        front: tuple[Any, ...] = (),
    ) -> None:
        self.commands = commands
        self.future = future
        self.size = size
        self.deadline = deadline
        self.script = script
        self.front = front
        self.receipt: Receipt | None = None
        #: Whether it has been sent on a connection that was lost.
        self.repeated = False
        #: How often another node of a cluster was asked at once, and how often after a pause.
        self.redirects = self.rounds = 0

    @property
    def own_receipt(self) -> bool:
        """Whether the caller has chosen the receipt."""
        return self.receipt is not None and self.receipt[0].startswith("r:")

    @property
    def may_be_applied(self) -> bool:
        """Whether it keeps its number, because a try of it may still be on its way."""
        return self.receipt is not None and not self.own_receipt

    @property
    def outcome(self) -> Outcome:
        """What is known of a write that no connection has at present."""
        return "unknown" if self.repeated else "not_applied"

    def fail(self, error: Exception) -> None:
        """Tell the caller, if anybody still waits."""
        if not self.future.done():
            self.future.set_exception(error)


def nobody(loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
    """A future that nobody waits for, for commands that no caller has sent."""
    future: asyncio.Future[Any] = loop.create_future()
    future.cancel()
    return future
