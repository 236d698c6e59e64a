"""Bounds what is under way on one connection; who finds no room waits in line."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from aiecs.core.errors import StoreOverloadedError

MAX_ENTRIES = 4_096
MAX_BYTES = 16 * 1024 * 1024


class Room:
    """How many calls and bytes are under way, and the line of those that wait to be."""

    def __init__(self) -> None:
        self._entries = 0
        self._bytes = 0
        self._line: OrderedDict[asyncio.Future[None], int] = OrderedDict()

    @property
    def under_way(self) -> tuple[int, int]:
        """Calls and bytes, those included that were let in this very moment."""
        return self._entries, self._bytes

    @property
    def in_line(self) -> int:
        """Calls that found no room."""
        return len(self._line)

    def _full(self) -> bool:
        return self._entries >= MAX_ENTRIES or self._bytes >= MAX_BYTES

    async def _wait_in_line(self, size: int, deadline: float) -> None:
        """Return when it is this caller's turn; it takes its room without waiting again."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line[turn] = size
        try:
            async with asyncio.timeout_at(deadline):
                await turn
        except BaseException as error:
            self._line.pop(turn, None)
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._free(size)
            if isinstance(error, TimeoutError):
                raise StoreOverloadedError(
                    f"{self._entries} calls are waiting for Redis; this one found no room in time"
                ) from None
            raise
        self._entries -= 1
        self._bytes -= size

    def _call_next(self) -> None:
        """Let in who is in front while there is room, which is theirs from now on."""
        while self._line and not self._full():
            turn, size = self._line.popitem(last=False)
            if not turn.done():
                self._entries += 1
                self._bytes += size
                turn.set_result(None)

    def _free(self, size: int) -> None:
        self._entries -= 1
        self._bytes -= size
        if self._line:
            self._call_next()

    def _turn_away(self, error: Exception) -> None:
        """Fail everybody in line."""
        line, self._line = self._line, OrderedDict()
        for turn in line:
            if not turn.done():
                turn.set_exception(type(error)(str(error)))
