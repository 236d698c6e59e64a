"""An archive at work beside a store: a thread of its own that ships, counts and bounds."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from aiecs.core.archiving import ArchiveReport, ArchiveState
from aiecs.core.erasure import Erasure
from aiecs.core.errors import ArchiveError, LifecycleError, StoreError
from aiecs.core.events import Events, Noted
from aiecs.core.interface.archive import Archive, Row
from aiecs.core.interface.store import Batch, Get, Put, Store
from aiecs.core.keys import bucket_of
from aiecs.infrastructure.persistence.archive import backlog, erasing, reports
from aiecs.infrastructure.persistence.archive.backlog import Backlog
from aiecs.infrastructure.persistence.archive.barrier import wait_until_in
from aiecs.infrastructure.persistence.archive.destination import Destination
from aiecs.infrastructure.persistence.archive.gate import Gate
from aiecs.infrastructure.persistence.archive.leases import group_of, home_of
from aiecs.infrastructure.persistence.archive.outboxes import leave_hints
from aiecs.infrastructure.persistence.archive.reading import Reader
from aiecs.infrastructure.persistence.archive.shipper import Progress, Shipper

logger = logging.getLogger("aiecs.archive")

LINGER = 2.0
"""Seconds between the rounds of a shipper that nobody hurries."""

_BEAT, _SHORTEST = 0.25, 0.01
_CALM_BEATS = 20
_STORE_SECONDS = 10.0
_CLOSING_SECONDS = 1.0
_WARN_AT = 0.8
_KEY, _FIELD = "_archive", "store"


class Bounds(NamedTuple):
    """How much may wait: bytes, and seconds (0: for ever); and what happens beyond.

    `drop`: the oldest events are given up; else new writes are refused.
    """

    size: int = 1024 * 1024 * 1024
    seconds: float = 0.0
    drop: bool = False

    def filling(self, waiting: Backlog) -> float:
        """The share of the room that is taken."""
        age = waiting.oldest / self.seconds if self.seconds else 0.0
        return max(waiting.size / self.size, age)


class ArchiveService:
    """Brings the events of one store into one destination; see `Archiving`.

    `make` makes the destination for a store's id. `ship`: whether this process ships itself, or
    only counts and leaves hints for one that does.
    """

    def __init__(
        self,
        store: Store,
        make: Callable[[Store, str], Destination],
        *,
        name: str,
        archive: Archive | None = None,
        bounds: Bounds = Bounds(),  # noqa: B008 - it cannot be changed
        ship: bool = True,
        linger: float = LINGER,
    ) -> None:
        self._store = store
        self._make = make
        self._name = name
        self._archive = archive
        self._reader = None if archive is None else Reader(archive)
        self._bounds = bounds
        self._ship = ship
        self._linger = linger
        self._events = Events()
        self._shipper: Shipper | None = None
        self._waiting = Backlog()
        self._recent: dict[int, Noted] = {}
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()

    @property
    def name(self) -> str:
        """Where the archive is, without secrets."""
        return self._name

    @property
    def archive(self) -> Archive | None:
        """What can be asked; None where there are only copies that nobody can read back."""
        return self._archive

    @property
    def reader(self) -> Reader | None:
        """What reads histories back; None where `archive` is."""
        return self._reader

    # --- from the engine's side -----------------------------------------------------------------

    def start(self, events: Events) -> None:
        """Begin, in a thread of its own."""
        self._events = events
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._run, args=(self._loop,), name="aiecs-archive-shipper", daemon=True
        )
        self._thread.start()

    async def close(self, seconds: float, *, drain: bool = True) -> int:
        """Bring in what is left, for at most so long; how many events wait for the next start.

        Without `drain` only what is under way.
        """
        thread, loop = self._thread, self._loop
        if thread is None or loop is None:
            return 0
        self._thread = None
        if self._reader is not None:
            self._reader.end()
        with suppress(RuntimeError):  # it has ended by itself
            loop.call_soon_threadsafe(partial(self._close_here, seconds, drain=drain))
        await asyncio.to_thread(thread.join)
        if self._reader is not None:
            await asyncio.to_thread(self._reader.close)
        return self._waiting.events

    async def barrier(self, buckets: Iterable[int] | None, timeout: float) -> None:
        """Wait until all that lies in outboxes now is in; see `Archiving.barrier`."""
        await wait_until_in(self._store, buckets, timeout, self._hurry)

    async def erase(self, erasures: Sequence[Erasure], timeout: float) -> int | None:
        """Erase what waits, then wait for the archive; see `Archiving.erase`."""
        await erasing.forget(self._store, erasures)
        self._hurry({bucket_of(one.id) for one in erasures})
        rows, left, pause = 0, list(erasures), _SHORTEST
        deadline = time.monotonic() + timeout
        while left:
            found = await erasing.rows_of(self._store, left)
            rows += sum(count for count in found.values() if count)
            left = [one for one, count in found.items() if count is None]
            if left and (time.monotonic() >= deadline or self._is_down()):
                return None
            if left:
                self._hurry()
                await asyncio.sleep(pause)
                pause = min(_BEAT, pause * 1.5)
        return rows

    def _is_down(self) -> bool:
        return self._shipper is not None and self._shipper.gate.is_open

    async def query(
        self, sql: str, parameters: Mapping[str, Any] | None, timeout: float
    ) -> list[Row]:
        """The rows of SQL that only reads; see `reports.query`."""

        def ask(archive: Archive) -> list[Row]:
            return reports.query(archive, sql, parameters, timeout=timeout)

        return await self._readable().run(ask, timeout)

    async def report(
        self, name: str, parameters: Mapping[str, Any], timeout: float
    ) -> ArchiveReport:
        """One of `reports`; see `reports.run_report`."""

        def ask(archive: Archive) -> ArchiveReport:
            found = reports.run_report(archive, name, parameters, timeout=timeout)
            columns = tuple(column.name for column in found.columns)
            return ArchiveReport(found.report, found.parameters, columns, found.rows)

        return await self._readable().run(ask, timeout)

    def reports(self) -> dict[str, str]:
        """The names of the reports, and what each of them tells."""
        return {name: report.about for name, report in reports.REPORTS.items()}

    def _readable(self) -> Reader:
        if self._reader is None:
            raise LifecycleError(f"{self._name} takes copies, and cannot be asked")
        return self._reader

    async def state(self) -> ArchiveState:
        """How it is doing now."""
        waiting = await backlog.waiting(self._store)
        shipper = self._shipper
        done = Progress() if shipper is None else shipper.progress
        state = "starting" if shipper is None else shipper.gate.state
        return ArchiveState(
            waiting=waiting.events,
            size=waiting.size,
            oldest=waiting.oldest,
            dead=waiting.dead,
            dropped=waiting.dropped,
            filling=self._bounds.filling(waiting),
            shipped=done.shipped,
            failures=done.failures,
            breaker=state if self._ship else "off",
            alarm=done.alarm,
            trouble=done.trouble,
        )

    def _hurry(self, buckets: Collection[int] = ()) -> None:
        loop = self._loop
        with suppress(RuntimeError):
            if loop is not None:
                loop.call_soon_threadsafe(self._hurry_here, buckets)

    # --- in the thread --------------------------------------------------------------------------

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(self._work())

    async def _work(self) -> None:
        twin = getattr(self._store, "twin", None)
        store = self._store if twin is None else await twin(_STORE_SECONDS)
        try:
            await self._work_on(store)
        finally:
            if store is not self._store:
                await store.close()

    async def _work_on(self, store: Store) -> None:
        self._store_here = store
        destination = await self._destination(store)
        if destination is None:
            return
        shipper = Shipper(store, destination, linger=self._linger, excess=self._has_excess)
        self._shipper = shipper if self._ship else None
        working = asyncio.create_task(shipper.run() if self._ship else self._open(destination))
        try:
            await self._beat_until_closed(store)
            if self._ship:
                (shipper.finish if self._drains else shipper.stop)()
                await asyncio.wait([working], timeout=self._drain_seconds)
        finally:
            shipper.stop()
            await _ended(working, _CLOSING_SECONDS if self._ship else 0.0)
            await destination.close()
            with suppress(StoreError):
                self._waiting = await backlog.waiting(store)

    async def _destination(self, store: Store) -> Destination | None:
        """The destination, when the store has said which one it is; None if it never did."""
        told = ""
        while True:
            try:
                return self._make(store, await store_id(store))
            except StoreError as error:
                if str(error) != told:
                    told = str(error)
                    logger.warning("the store does not answer the archive: %s", told)
            if self._closing.is_set():
                return None
            await self._next_beat()

    async def _open(self, destination: Destination) -> None:
        """For those who read, where no shipper opens it."""
        gate = Gate()
        while self._archive is not None:
            try:
                await destination.open()
            except ArchiveError as error:
                logger.warning("the archive cannot be read: %s", error)
            else:
                return
            gate.failed()
            await asyncio.sleep(gate.pause)

    async def _beat_until_closed(self, store: Store) -> None:
        calm = 0
        while not self._closing.is_set():
            await self._next_beat()
            calm = 0 if self._events.has_noted or self._recent else calm + 1
            try:
                await self._tell(store)
                if self._events.refusal or calm % _CALM_BEATS == 0:
                    await self._measure(store)
            except StoreError as error:
                logger.warning("what waits for the archive cannot be counted: %s", error)
        with suppress(StoreError):
            await self._tell(store)

    async def _next_beat(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_BEAT):
                await self._closing.wait()

    async def _tell(self, store: Store) -> None:
        """Count what was noted, and say where to look: twice, for a write may be under way."""
        noted = self._events.take_noted()
        buckets = {*noted, *self._recent}
        if not buckets:
            return
        before, self._recent = self._recent, noted
        try:
            shipper = self._shipper
            await leave_hints(store, buckets if shipper is None else shipper.note(buckets))
            for group, sums in _by_group(noted).items():
                await backlog.add(store, group, sums)
        except StoreError:
            self._recent = before | self._recent
            raise
        await self._measure(store)

    async def _measure(self, store: Store) -> None:
        """How much waits; and whether that is too much."""
        self._waiting = await backlog.waiting(store)
        filling = self._bounds.filling(self._waiting)
        refusal = ""
        if filling >= 1.0 and not self._bounds.drop:
            refusal = (
                f"{self._waiting.events} events wait for the archive, which is as much as may: "
                "mend the archive, or allow more by AIECS_ARCHIVE_OUTBOX_BYTES"
            )
        if refusal and not self._events.refusal:
            logger.error("%s", refusal)
        self._events.refusal = refusal

    async def _has_excess(self) -> bool:
        if not self._bounds.drop or self._bounds.filling(self._waiting) < 1.0:
            return False
        self._waiting = await backlog.waiting(self._store_here)
        return self._bounds.filling(self._waiting) >= 1.0

    def _close_here(self, seconds: float, *, drain: bool) -> None:
        self._drain_seconds, self._drains = seconds, drain
        self._closing.set()

    def _hurry_here(self, buckets: Collection[int]) -> None:
        left = buckets if self._shipper is None else self._shipper.note(buckets)
        self._recent = dict.fromkeys(left, Noted()) | self._recent
        if self._shipper is not None:
            self._shipper.hurry()


async def store_id(store: Store) -> str:
    """The name that a store has in archives; it gets one with the first archive."""
    home = home_of(0)
    ops = (Put(_KEY, {_FIELD: secrets.token_hex(8).encode()}, if_absent="skip"),)
    await store.apply(Batch(home, "", ops))
    results = await store.apply(Batch(home, "", (Get(_KEY, (_FIELD,)),)))
    ((name,),) = results or ((b"",),)
    return str(name.decode())


async def was_archived(store: Store) -> bool:
    """Whether a store ever had an archive."""
    results = await store.apply(Batch(home_of(0), "", (Get(_KEY, (_FIELD,)),)))
    return bool(results and results[0][0])


def _by_group(noted: dict[int, Noted]) -> dict[int, Noted]:
    sums: dict[int, Noted] = {}
    for bucket, (events, size) in noted.items():
        known = sums.get(group_of(bucket), Noted())
        sums[group_of(bucket)] = Noted(known.events + events, known.size + size)
    return sums


async def _ended(task: asyncio.Task[None], seconds: float) -> None:
    """Let it end what is under way, but not for long."""
    await asyncio.wait([task], timeout=seconds)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
