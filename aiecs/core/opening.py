"""One value for a whole process or object, opened once however many ask for it at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Opening(Generic[T]):
    """A value that the first caller opens while the others, on any loop or thread, wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._future: Future[T] | None = None
        self.value: T | None = None
        """What is open; None before, after, and while it is being opened."""

    async def get(self, opener: Callable[[], Awaitable[T]]) -> T:
        """The value; `opener` makes it if there is none yet.

        What `opener` raises goes to everyone who waited for it, and the next call tries again.
        """
        while True:
            with self._lock:
                if self.value is not None:
                    return self.value
                waiting = self._future
                mine = self._future = waiting or Future()
            if waiting is None:
                return await self._open(mine, opener)
            # A shield: a waiter that is cancelled must not cancel the opening.
            done = await asyncio.shield(asyncio.wrap_future(_outcome(waiting)))
            if done is not None:
                raise done

    async def _open(self, mine: Future[T], opener: Callable[[], Awaitable[T]]) -> T:
        try:
            value = await opener()
        except BaseException as error:
            self._settle(mine, None)
            if isinstance(error, Exception):
                mine.set_exception(error)
            else:  # cancelled: whoever waits opens it instead
                mine.cancel()
            raise
        self._settle(mine, value)
        mine.set_result(value)
        return value

    def _settle(self, mine: Future[T], value: T | None) -> None:
        with self._lock:
            self.value = value
            if self._future is mine:
                self._future = None

    def take(self) -> T | None:
        """The value, which is then no longer held; None when there is none (yet)."""
        with self._lock:
            value, self.value = self.value, None
            return value


def _outcome(future: Future[T]) -> Future[Exception | None]:
    """Settles as `future` does, with its error as the result."""
    outcome: Future[Exception | None] = Future()

    def settle(done: Future[T]) -> None:
        error = None if done.cancelled() else done.exception()
        outcome.set_result(error if isinstance(error, Exception) else None)

    future.add_done_callback(settle)
    return outcome
