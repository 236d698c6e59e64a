"""Synchronous calls: run on a loop of their own, in a thread of their own, one for each engine.

Whoever calls blocks until the answer is there, also from within a running loop: that other loop
stands still meanwhile, but nothing that the call needs runs on it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from aiecs.core.errors import LifecycleError
from aiecs.domain.context import ContextEngine

T = TypeVar("T")

_portals: WeakKeyDictionary[ContextEngine, Portal] = WeakKeyDictionary()
_lock = threading.Lock()
_CLOSED = "the engine of this saver is closed"


class Portal:
    """A thread with a loop that runs what other threads wait for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_ending = False
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aiecs-langgraph", daemon=True)
        self._thread.start()
        self._started.wait()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._started.set()
        await self._ended.wait()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`; an interrupt of the caller cancels it."""
        if self.is_here:
            work.close()
            raise LifecycleError(
                "a synchronous call cannot wait for its own loop: use the async one"
            )
        with self._lock:  # what is handed over before the end is begun, and cancelled by it
            if self._is_ending:
                work.close()
                raise LifecycleError(_CLOSED)
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            if self._is_ending:
                raise LifecycleError(_CLOSED) from None
            raise
        except BaseException:
            future.cancel()
            raise

    @property
    def is_here(self) -> bool:
        """Whether the caller runs in the portal itself."""
        return threading.current_thread() is self._thread

    def iterate(self, work: AsyncGenerator[T]) -> Iterator[T]:
        """What `work` yields, each when it is asked for."""
        try:
            while True:
                try:
                    yield self.call(work.__anext__())
                except StopAsyncIteration:
                    return
        finally:
            with suppress(LifecycleError):
                self.call(work.aclose())

    def end(self) -> None:
        """Let the thread end, with what it runs; idempotent."""
        with self._lock, suppress(RuntimeError):
            self._is_ending = True
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()


def portal_of(engine: ContextEngine) -> Portal:
    """The one of an engine; it lives until the engine is closed."""
    with _lock:
        found = _portals.get(engine)
        if found is None:
            found = _portals[engine] = Portal()
            engine.on_close(lambda: _end(engine))
    return found


def portal_while_open(engine: ContextEngine, check: Callable[[], object]) -> Portal:
    """The one of an engine that is open: `check` raises `LifecycleError` when it is not."""
    check()
    portal = portal_of(engine)
    try:
        check()  # a portal that was made during the close would be ended by nobody
    except LifecycleError:
        with _lock:
            _portals.pop(engine, None)
        if not portal.is_here:
            portal.end()
        raise
    return portal


def _forget_in_child() -> None:
    """The threads of portals stay behind in the parent, and so may whoever holds the lock."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _portals.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


async def _end(engine: ContextEngine) -> None:
    with _lock:
        found = _portals.pop(engine, None)
    if found is not None and not found.is_here:  # there, who closes the engine ends it too
        await asyncio.to_thread(found.end)
