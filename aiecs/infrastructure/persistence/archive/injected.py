"""Shipping to a backend of the application's own, instead of to the archive's tables."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiecs.core.erasure import Erasure
from aiecs.core.errors import (
    ArchiveAuthError,
    ArchiveError,
    ArchiveRowError,
    ArchiveSchemaError,
    ArchiveUnavailableError,
    CorruptRecordError,
)
from aiecs.core.events import told
from aiecs.core.interface.storage_interface import IPermanentStorageBackend
from aiecs.core.interface.store import Store
from aiecs.infrastructure.persistence.archive.delivery import Dead, is_of_rows
from aiecs.infrastructure.persistence.archive.retold import Append, retold
from aiecs.infrastructure.persistence.archive.rows import Shipped

logger = logging.getLogger("aiecs.archive")

_TIMEOUT = 30.0
_REMEMBERED = 16
_TELLING = (ArchiveAuthError, ArchiveSchemaError, ArchiveRowError)
#: What code raises that meets a value it was not made for.
_OF_VALUES = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)

#: By bucket and sequence, why an event was refused; None: it was accepted. No content is kept.
_Settled = dict[tuple[int, int], str | None]


class InjectedDestination:
    """Brings events into any `IPermanentStorageBackend`, one call each, in the order of `items`.

    The backend is opened, called and closed on the event loop of whoever ships. Each call may take
    `timeout` seconds. Errors name the method and the type of what it raised: the text could hold
    what the call was about.
    """

    def __init__(
        self, backend: IPermanentStorageBackend, store: Store, *, timeout: float = _TIMEOUT
    ) -> None:
        self._backend = backend
        self._store = store
        self._timeout = timeout
        self._begun = False
        self._opened = False
        #: What became of the events of the latest deliveries.
        self._settled: OrderedDict[str, _Settled] = OrderedDict()

    async def open(self) -> None:
        """Initialize the backend, unless it has said that it is.

        `ArchiveUnavailableError` when it says that this cannot be now, or raises.
        """
        if self._opened:
            return
        self._begun = True
        self._opened = await self._call("initialize", self._backend.initialize)
        if not self._opened:
            raise ArchiveUnavailableError("initialize() of the backend says that it cannot be")

    async def deliver(
        self, token: str, items: Sequence[Shipped], *, suspect: bool = False
    ) -> list[Dead]:
        """Call the backend for each event, and return those that it refuses for good.

        A failure ends the delivery with an `ArchiveError` or a `StoreError`; the next one under
        the same token goes on behind what was accepted. `suspect`: an error that a value may have
        caused is a refusal of that event.
        """
        settled = self._settled_of(token)
        for shipped in items:
            place = (shipped.bucket, shipped.number)
            if place not in settled:
                settled[place] = await self._bring(shipped.item, suspect=suspect)
        return [
            Dead(shipped, "", reason)
            for shipped in items
            if (reason := settled[shipped.bucket, shipped.number]) is not None
        ]

    async def erase(self, erasures: Sequence[Erasure]) -> dict[str, int]:
        """Nothing: the backend has been told that they were deleted, what it does is its own."""
        return {one.name: 0 for one in erasures}

    async def close(self) -> None:
        """Close the backend, if it was ever opened; a failure of that is logged."""
        if not self._begun:
            return
        self._begun = self._opened = False
        try:
            async with asyncio.timeout(self._timeout):
                await self._backend.close()
        except Exception as error:  # noqa: BLE001 - the engine closes all the same
            logger.warning("close() of the backend: %s", type(error).__name__)

    def _settled_of(self, token: str) -> _Settled:
        settled = self._settled.setdefault(token, {})
        self._settled.move_to_end(token)
        while len(self._settled) > _REMEMBERED:
            self._settled.popitem(last=False)
        return settled

    async def _bring(self, item: bytes, *, suspect: bool) -> str | None:
        try:
            append = await self._append_of(item)
        except CorruptRecordError:
            return "it is no event"
        if append is None:
            return None
        method, arguments = append
        try:
            accepted = await self._call(method, getattr(self._backend, method), *arguments)
        except ArchiveError as error:
            if is_of_rows(error, suspect=suspect):
                return str(error)
            raise
        return None if accepted else f"{method} refused it"

    async def _append_of(self, item: bytes) -> Append | None:
        return await retold(told(item), self._store) if item else None

    async def _call(
        self, name: str, method: Callable[..., Awaitable[bool]], *arguments: Any
    ) -> bool:
        try:
            async with asyncio.timeout(self._timeout):
                answer: object = await method(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, the event is not safe
            failed = _failure(name, error)
        else:
            if isinstance(answer, bool):
                return answer
            failed = ArchiveUnavailableError(
                f"{name} answered {type(answer).__name__} instead of True or False"
            )
        # Out here, so that nothing of what the backend said hangs on to it.
        raise failed


def _failure(name: str, error: Exception) -> ArchiveError:
    kind = type(error).__name__
    for known in _TELLING:
        if isinstance(error, known):
            return known(f"{name} raised {kind}")
    unexpected = isinstance(error, _OF_VALUES) or getattr(error, "unexpected", False) is True
    return ArchiveUnavailableError(f"{name} raised {kind}", unexpected=unexpected)
