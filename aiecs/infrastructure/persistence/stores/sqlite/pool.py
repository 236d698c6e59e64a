"""Batches on their way to a thread: bounded, in order, each with a deadline.

Callers wait on futures of their own event loops; a thread takes what is there as one group and
hands back its answers with one call per loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from aiecs.core.errors import LifecycleError, StoreOverloadedError, StoreTimeoutError
from aiecs.infrastructure.persistence.stores.sqlite.forks import process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiecs.core.interface import store as port
    from aiecs.infrastructure.persistence.stores.semantics import Program

MAX_WAITING = 4_096
MAX_WAITING_BYTES = 16 * 1024 * 1024

Answer = list[Any] | Exception | None


class Entry:
    """A batch that waits, and who waits for it. `timeout` is in seconds."""

    __slots__ = ("batch", "deadline", "future", "loop", "program", "size")

    def __init__(self, batch: port.Batch, program: Program, size: int, timeout: float) -> None:
        self.batch = batch
        self.program = program
        self.size = size
        self.deadline = monotonic() + timeout
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[list[Any] | None] = self.loop.create_future()


Answers = list[tuple[Entry, Answer]]


class Pool:
    """A queue and the threads that work it off; they start when there is something to do.

    `work` is what each thread runs; it returns when `wait` says that all is done. Entries for
    which there is no room wait outside the queue, and if they are still there at their deadline,
    `StoreOverloadedError` says so.
    """

    def __init__(self, name: str, work: Callable[[Pool], None], *, threads: int = 1) -> None:
        self._name = name
        self._work = work
        self._most = threads
        self._lock = threading.Lock()
        self._queue: deque[Entry] = deque()
        self._outside: deque[Entry] = deque()
        self._bytes = 0
        self._running: list[list[Entry]] = []
        self._threads: list[threading.Thread] = []
        self._alive = 0
        self._sleeping = 0
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._closed = False
        self._closers: list[asyncio.Future[None]] = []
        self._timers: dict[asyncio.AbstractEventLoop, tuple[float, asyncio.TimerHandle]] = {}
        self._generation = process.generation

    # --- callers --------------------------------------------------------------------------------

    def submit(self, entry: Entry) -> None:
        """Queue an entry of the running loop; its future gets the answer.

        `LifecycleError` after `close`, and in a forked child when the threads are its parent's.
        """
        if self._generation != process.generation and not self._adopt():
            raise LifecycleError("the store was in use before this process was forked")
        with self._lock:
            if self._closed:
                raise LifecycleError("the store is closed")
            if self._outside or not self._room():
                self._outside.append(entry)
            else:
                self._queue.append(entry)
                self._bytes += entry.size
            wake = self._sleeping > 0
            if wake:
                self._sleeping -= 1
            elif len(self._threads) < self._most:
                self._start()
        if wake:
            self._wake.put(None)
        timer = self._timers.get(entry.loop)
        if timer is None or timer[0] > entry.deadline:
            self._watch(entry.loop, entry.deadline)

    def _adopt(self) -> bool:
        """Whether this process may use a pool that its parent made: only if it never started."""
        if self._threads:
            return False
        self._generation = process.generation
        return True

    def _room(self) -> bool:
        return len(self._queue) < MAX_WAITING and self._bytes < MAX_WAITING_BYTES

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=f"aiecs-{self._name}", daemon=True)
        self._threads.append(thread)
        self._alive += 1
        thread.start()

    async def close(self) -> None:
        """Refuse new entries, finish those that wait, and end the threads; idempotent."""
        if self._generation != process.generation and not self._adopt():
            return
        closer = asyncio.get_running_loop().create_future()
        with self._lock:
            self._closed = True
            alive = self._alive > 0
            if alive:
                self._closers.append(closer)
            for _ in range(self._sleeping):
                self._wake.put(None)
            self._sleeping = 0
        if alive:
            await closer
        for thread in self._threads:
            thread.join()

    # --- deadlines ------------------------------------------------------------------------------

    def _watch(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        with self._lock:
            for other in [other for other in self._timers if other.is_closed()]:
                del self._timers[other]
            earlier = self._timers.get(loop)
            if earlier is not None:
                earlier[1].cancel()
            timer = loop.call_later(max(0.0, deadline - monotonic()), self._tick, loop)
            self._timers[loop] = (deadline, timer)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._timers.pop(loop, None)
            late = self._withdraw(monotonic())
            open_deadlines = [
                entry.deadline
                for entries in (self._queue, self._outside, *self._running)
                for entry in entries
                if entry.loop is loop and not entry.future.done()
            ]
        deliver(late)
        if open_deadlines:
            self._watch(loop, min(open_deadlines))

    def _withdraw(self, now: float) -> Answers:
        """What to tell those whose deadline has passed; whatever has not begun never will."""
        late: Answers = []
        late.extend((entry, _no_turn()) for entry in _past(self._queue, now))
        late.extend((entry, _no_room()) for entry in _past(self._outside, now))
        if late:
            self._queue = deque(entry for entry in self._queue if entry.deadline > now)
            self._outside = deque(entry for entry in self._outside if entry.deadline > now)
            self._bytes = sum(entry.size for entry in self._queue)
            self._admit()
        for group in self._running:
            late.extend((entry, _no_answer(entry)) for entry in _past(group, now))
        return late

    def _admit(self) -> None:
        while self._outside and self._room():
            entry = self._outside.popleft()
            self._queue.append(entry)
            self._bytes += entry.size

    # --- threads --------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._work(self)
        finally:
            with self._lock:
                self._alive -= 1
                closers = [] if self._alive else self._closers
            for closer in closers:
                with contextlib.suppress(RuntimeError):  # that loop is closed
                    closer.get_loop().call_soon_threadsafe(_release, closer)

    def wait(self) -> bool:
        """Return when there is something to do, or False when the pool is closed and empty."""
        while True:
            with self._lock:
                if self._queue:
                    return True
                if self._closed:
                    return False
                self._sleeping += 1
            self._wake.get()

    def expire(self) -> None:
        """Withdraw what is late; for threads that cannot get on (timers do it for live loops)."""
        now = monotonic()
        with self._lock:
            late = self._withdraw(now) if self._queue and self._queue[0].deadline <= now else []
        deliver(late)

    def take(self, count: int, size: int) -> list[Entry]:
        """The next group: at most `count` entries, and no more once they have `size` bytes."""
        group: list[Entry] = []
        late: Answers = []
        now = monotonic()
        with self._lock:
            while self._queue and len(group) < count and size > 0:
                entry = self._queue.popleft()
                self._bytes -= entry.size
                if entry.deadline <= now:
                    late.append((entry, _no_turn()))
                elif not entry.future.done():
                    size -= entry.size
                    group.append(entry)
            self._admit()
            if group:
                self._running.append(group)
        deliver(late)
        return group

    def finish(self, group: list[Entry], answers: Answers) -> None:
        """Hand back the answers of a group that was taken."""
        with self._lock:
            self._running.remove(group)
        deliver(answers)


def deliver(answers: Answers) -> None:
    """Resolve futures, each in its own loop; from any thread."""
    by_loop: dict[asyncio.AbstractEventLoop, Answers] = {}
    for answer in answers:
        by_loop.setdefault(answer[0].loop, []).append(answer)
    for loop, part in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, part)


def _resolve(answers: Answers) -> None:
    for entry, answer in answers:
        future = entry.future
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def _release(closer: asyncio.Future[None]) -> None:
    if not closer.done():
        closer.set_result(None)


def _past(entries: Iterable[Entry], now: float) -> list[Entry]:
    return [entry for entry in entries if entry.deadline <= now and not entry.future.done()]


def _no_turn() -> StoreTimeoutError:
    return StoreTimeoutError("the batch had no turn before its deadline")


def _no_room() -> StoreOverloadedError:
    return StoreOverloadedError("too many batches wait for this store")


def _no_answer(entry: Entry) -> StoreTimeoutError:
    if entry.program.mutating:
        return StoreTimeoutError("the database did not answer in time", outcome="unknown")
    return StoreTimeoutError("the database did not answer in time")
