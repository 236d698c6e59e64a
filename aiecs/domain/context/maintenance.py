"""Keeping a store in order and telling how it is: clean-up, health, metrics."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from aiecs.core.clock import utcnow
from aiecs.core.errors import InvalidInputError
from aiecs.core.interface.finding import Finding
from aiecs.core.interface.store import (
    NOW,
    Batch,
    Clock,
    CorruptField,
    GuardFailed,
    IndexRange,
    Put,
    RequireAtMost,
    RequireEquals,
    now_plus,
)
from aiecs.core.keys import bucket_of
from aiecs.domain.context.archive_health import ArchiveHealth
from aiecs.domain.context.cold import Cold
from aiecs.domain.context.groups import read_session, read_thread
from aiecs.domain.context.indexes import SESSIONS, THREADS, IndexPlace, pages
from aiecs.domain.context.monitoring import Monitor
from aiecs.domain.context.process_memory import process_memory_share
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.sweep import sweep_sessions, sweep_threads
from aiecs.domain.context.tail_cache import TailCache

logger = logging.getLogger("aiecs")
Group = TypeVar("Group")

SWEEP_EVERY = 60.0
WRITES_REFUSED = "writes are refused: "
_LEASE = 50_000_000
_LEASE_BUCKET = bucket_of("lease:sweep")
_HOUR = 3_600_000_000
_MAX_HOURS = 24 * 365 * 30
_PAGE = 500


class Maintenance:
    """Clean-up and diagnosis of one engine's store."""

    def __init__(
        self,
        runtime: Runtime,
        monitor: Monitor,
        cache: TailCache,
        cold: Cold,
        *,
        concerns: tuple[str, ...] = (),
    ) -> None:
        self._runtime = runtime
        self._monitor = monitor
        self._cache = cache
        self._cold = cold
        self._lasting = concerns
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    # --- clean-up -------------------------------------------------------------------------------

    async def cleanup(self, max_idle_hours: float = 24) -> int:
        """Remove idle and expired sessions. See `ContextEngine.cleanup_expired_sessions`."""
        number = type(max_idle_hours) in (int, float)
        if not number or not 0 <= max_idle_hours <= _MAX_HOURS:
            raise InvalidInputError(f"max_idle_hours is 0..{_MAX_HOURS}, got {max_idle_hours!r}")
        removed = await sweep_sessions(self._runtime, round(max_idle_hours * _HOUR))
        await sweep_threads(self._runtime)
        return removed

    def start(self) -> None:
        """Sweep every 60 s on the running loop; on the next loop in use when that one is gone."""
        self._runtime.counters.on_beat = self._arm
        self._arm()

    def _arm(self) -> None:
        if self._closed or (self._loop is not None and not self._loop.is_closed()):
            return
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(SWEEP_EVERY, self._fire)

    def _fire(self) -> None:
        if self._closed or self._loop is None:
            return
        self._runtime.tasks.spawn(self.sweep())
        self._timer = self._loop.call_later(SWEEP_EVERY, self._fire)

    def stop(self) -> None:
        """Sweep no more."""
        self._closed = True
        if self._timer is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._timer.cancel)

    async def sweep(self) -> int:
        """Remove what has expired, unless another process has done so within the last 50 s."""
        if not await self._lease():
            return 0
        removed = await sweep_sessions(self._runtime)
        await sweep_threads(self._runtime)
        return removed

    async def _lease(self) -> bool:
        until = {"until": now_plus(_LEASE)}
        ops = (RequireAtMost("_lease", "until", NOW), Put("_lease", until))
        try:
            await self._runtime.apply(Batch(_LEASE_BUCKET, "", ops))
        except GuardFailed as refusal:
            if refusal.found is not None:
                return await self._took_from_the_future(refusal.found)
            with suppress(GuardFailed):
                first = (Put("_lease", until, if_absent="abort"),)
                await self._runtime.apply(Batch(_LEASE_BUCKET, "", first))
                return True
            return False
        return True

    async def _took_from_the_future(self, until: bytes) -> bool:
        """Whether a lease was taken over that no clock can have given: the clock was ahead once."""
        (now,) = await self._runtime.read(Batch(_LEASE_BUCKET, "", (Clock(),)))
        if not until.isdigit() or int(until) <= now + 2 * _LEASE:
            return False
        ops = (
            RequireEquals("_lease", "until", until),
            Put("_lease", {"until": now_plus(_LEASE)}),
        )
        with suppress(GuardFailed):
            await self._runtime.apply(Batch(_LEASE_BUCKET, "", ops))
            return True
        return False

    async def recount(self) -> dict[str, int]:
        """Count everything again and set the store-wide totals to it; the totals.

        Reads the whole store. What is written meanwhile may be missing from the totals, and what
        is too damaged to be read is.
        """
        totals = {"sessions": 0, "ended": 0, "messages": 0, "checkpoints": 0}
        async for session_id in self._members(SESSIONS):
            session = await self._sound(read_session, session_id)
            if session is not None:
                totals["sessions"] += session.holds.sessions
                totals["ended"] += session.holds.sessions if "st" in session.head else 0
                totals["messages"] += session.holds.messages
        async for thread_id in self._members(THREADS):
            thread = await self._sound(read_thread, thread_id)
            if thread is not None:
                totals["checkpoints"] += thread.holds.checkpoints
        await self._runtime.counters.replace(totals)
        return totals

    async def _sound(
        self, read: Callable[[Runtime, str], Awaitable[Group | None]], name: str
    ) -> Group | None:
        try:
            return await read(self._runtime, name)
        except CorruptField:
            self._runtime.note_corrupt("group", name)
            return None

    async def _members(self, places: tuple[IndexPlace, ...]) -> AsyncIterator[str]:
        seen: set[str] = set()
        async for page in pages(self._runtime, places, IndexRange("_", limit=_PAGE)):
            new = [entry.member for entry in page if entry.member not in seen]
            seen.update(new)
            for member in new:
                yield member

    # --- diagnosis ------------------------------------------------------------------------------

    async def health(self) -> dict[str, Any]:
        """How the engine is, never raising. See `ContextEngine.health_check`."""
        # All at once: together they take no longer than the slowest.
        answered, refused, counted, examined, archive = await asyncio.gather(
            self._runtime.store.ping(),
            self._try_to_write(),
            self._runtime.counters.totals(),
            self._examine(),
            self._cold.health(),
            return_exceptions=True,
        )
        totals = None if isinstance(counted, BaseException) else counted
        # Totals may also fail for what they have to write first.
        readable = answered is None and (totals is not None or refused is not None)
        issues = _issues(answered if answered is not None else counted, refused, readable=readable)
        found = [] if isinstance(examined, BaseException) else examined
        issues += [*self._concerns(), *(str(one) for one in found if one.level == "fail")]
        if isinstance(archive, ArchiveHealth):
            issues += archive.issues
        status = "unhealthy" if not readable else "degraded" if issues else "healthy"
        name = self._runtime.store.capabilities.name
        return {
            "status": status,
            "storage_backend": name,
            "redis_connected": name == "redis" and readable,
            "active_sessions": None if totals is None else _active(totals),
            "total_messages": None if totals is None else totals.get("messages", 0),
            "issues": issues,
            "warnings": [str(one) for one in found if one.level == "warn"],
            "server": [one._asdict() for one in found],
            "archive": archive.state if isinstance(archive, ArchiveHealth) else {},
            "timestamp": utcnow().isoformat(),
        }

    async def _examine(self) -> list[Finding]:
        """What a store with servers finds out about them."""
        examine = getattr(self._runtime.store, "examine", None)
        return [] if examine is None else list(await examine())

    async def _try_to_write(self) -> None:
        """Write a little on, most likely, every server of a cluster; raises why not."""
        batches = (Batch(place.bucket, "", (Put("_probe", {"at": NOW}),)) for place in SESSIONS)
        await asyncio.gather(*map(self._runtime.apply, batches))

    def _concerns(self) -> list[str]:
        found = list(self._lasting)
        if self._runtime.corrupt:
            found.append(f"{self._runtime.corrupt} corrupt records were left out of answers")
        return found

    async def metrics(self) -> dict[str, Any]:
        """Totals and latencies. See `ContextEngine.get_metrics`."""
        totals = await self._runtime.counters.totals()
        latency = self._monitor.latency()
        name = self._runtime.store.capabilities.name
        return {
            "total_sessions": totals.get("sessions", 0),
            "active_sessions": _active(totals),
            "total_messages": totals.get("messages", 0),
            "total_checkpoints": totals.get("checkpoints", 0),
            "memory_usage": process_memory_share(),
            "storage_performance": {
                "avg_response_time": latency.average,
                "p50": latency.p50,
                "p99": latency.p99,
                "cache_hit_rate": self._cache.hit_rate,
            },
            "operations": {
                operation: found._asdict() for operation, found in self._monitor.latencies().items()
            },
            "failed_operations": self._monitor.failures,
            "corrupt_records": self._runtime.corrupt,
            "storage_backend": name,
            "redis_connected": name == "redis",
            "transport": self._transport(),
            "archive": (await self._cold.health()).state,
            "timestamp": utcnow().isoformat(),
        }

    def _transport(self) -> dict[str, Any]:
        """What a store with connections tells of them."""
        gauges = getattr(self._runtime.store, "gauges", None)
        return {} if gauges is None else dict(gauges()._asdict())


def _issues(unread: object, refused: BaseException | None, *, readable: bool) -> list[str]:
    """Why the store cannot be read, or else why it takes no writes."""
    if not readable:
        return [f"{type(unread).__name__}: {unread}"]
    return [f"{WRITES_REFUSED}{type(refused).__name__}: {refused}"] if refused is not None else []


def _active(totals: dict[str, int]) -> int:
    return max(0, totals.get("sessions", 0) - totals.get("ended", 0))
