"""Telling how an engine is: health, metrics, and what observers are told of its state."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from math import isfinite
from typing import Any, TypeVar

from aiecs.core.clock import utcnow
from aiecs.core.errors import ContextEngineError, StoreTimeoutError
from aiecs.core.interface.examined import Bounded, Examined, gauges_of
from aiecs.core.interface.finding import Finding
from aiecs.core.interface.store import NOW, Batch, Put
from aiecs.domain.context.archive_health import ArchiveHealth
from aiecs.domain.context.cold import Cold
from aiecs.domain.context.counters import STORED, gone
from aiecs.domain.context.indexes import SESSIONS
from aiecs.domain.context.observation import Monitor
from aiecs.domain.context.process_memory import process_memory_share
from aiecs.domain.context.recurring import Recurring
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.tail_cache import TailCache

logger = logging.getLogger("aiecs")
Answer = TypeVar("Answer")

WRITES_REFUSED = "writes are refused: "
NEARLY_FULL = 0.9
TELL_EVERY = 10.0
_MARGIN = 1.25
"""How many times the deadline of one store call an answer may take: the calls run side by side."""


class Diagnosis:
    """What one engine and its store say of themselves."""

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

    async def health(self) -> dict[str, Any]:
        """How the engine is, never raising. See `ContextEngine.health_check`."""
        # All at once: together they take no longer than the slowest.
        answered, refused, counted, examined, archive, usage = await asyncio.gather(
            self._within(self._runtime.store.ping()),
            self._within(self._try_to_write()),
            self._within(self._runtime.counters.totals()),
            self._within(self._examine()),
            self._within(self._cold.health()),
            self._within(self._usage()),
            return_exceptions=True,
        )
        totals = None if isinstance(counted, BaseException) else counted
        # Totals may also fail for what they have to write first.
        readable = answered is None and (totals is not None or refused is not None)
        issues = _issues(answered if answered is not None else counted, refused, readable=readable)
        found = [] if isinstance(examined, BaseException) else examined
        issues += [*self._concerns(), *(str(one) for one in found if one.level == "fail")]
        warnings = [str(one) for one in found if one.level == "warn"]
        share = None if isinstance(usage, BaseException) else usage
        if isinstance(archive, ArchiveHealth):
            issues += archive.issues
        if share is not None and share >= NEARLY_FULL and not found:
            (issues if share >= 1 else warnings).append(f"room: {share:.0%} of it is taken")
        status = "unhealthy" if not readable else "degraded" if issues else "healthy"
        name = self._runtime.store.capabilities.name
        down = list(gauges_of(self._runtime.store).get("down", ()))
        fault = self._monitor.last_fault
        return {
            "status": status,
            "storage_backend": name,
            "storage_mode": self._monitor.storage[1],
            "redis_connected": name == "redis" and readable,
            "active_sessions": None if totals is None else _active(totals),
            "total_messages": None if totals is None else _ever(totals, "messages"),
            "issues": issues,
            "warnings": warnings,
            "breaker": "open" if down else "closed",
            "servers_down": down,
            "server_version": next((one.detail for one in found if one.check == "server"), None),
            "server": [one._asdict() for one in found],
            "memory_usage": _share(share),
            "last_error": None if fault is None else fault._asdict(),
            "archive": archive.state if isinstance(archive, ArchiveHealth) else {},
            "timestamp": utcnow().isoformat(),
        }

    async def _within(self, question: Awaitable[Answer]) -> Answer:
        """The answer, or `StoreTimeoutError` when a store does not keep its own deadline."""
        seconds = self._runtime.timeout
        try:
            async with asyncio.timeout(None if seconds is None else seconds * _MARGIN):
                return await question
        except TimeoutError:
            raise StoreTimeoutError(f"no answer within {seconds} s") from None

    async def _examine(self) -> list[Finding]:
        """What a store with servers finds out about them."""
        store = self._runtime.store
        return list(await store.examine()) if isinstance(store, Examined) else []

    async def _usage(self) -> float | None:
        store = self._runtime.store
        return await store.usage() if isinstance(store, Bounded) else None

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
        return {
            **{f"total_{name}": _ever(totals, name) for name in STORED},
            **{f"stored_{name}": totals.get(name, 0) for name in STORED},
            "active_sessions": _active(totals),
            "memory_usage": _share(await self._usage()),
            **self._local(),
            "archive": (await self._cold.health()).state,
        }

    def _local(self) -> dict[str, Any]:
        """What this process knows without asking."""
        latency = self._monitor.latency()
        name = self._runtime.store.capabilities.name
        transport = gauges_of(self._runtime.store)
        return {
            "storage_performance": {
                "avg_response_time": latency.average,
                "p50": latency.p50,
                "p99": latency.p99,
                "cache_hit_rate": self._cache.hit_rate,
            },
            "operations": self._monitor.operations(),
            "failed_operations": self._monitor.failures,
            "corrupt_records": self._runtime.corrupt,
            "storage_backend": name,
            "storage_mode": self._monitor.storage[1],
            "redis_connected": name == "redis" and not transport.get("down"),
            "breaker": "open" if transport.get("down") else "closed",
            "transport": transport,
            "timestamp": utcnow().isoformat(),
        }

    def teller(self) -> Recurring:
        """Tells the observers, every 10 s."""
        return Recurring(self._runtime.tasks, TELL_EVERY, self.tell)

    async def tell(self) -> None:
        """Let the observers know how the engine is; while the store is down, what can be told."""
        if not self._monitor.wants_state:
            return
        try:
            told = await self._within(self.metrics())
        except ContextEngineError:
            unknown = [f"{kind}_{name}" for kind in ("total", "stored") for name in STORED]
            named = dict.fromkeys((*unknown, "active_sessions", "memory_usage"))
            told = {**named, **self._local(), "archive": {}}
        self._monitor.state(told)


def _issues(unread: object, refused: BaseException | None, *, readable: bool) -> list[str]:
    """Why the store cannot be read, or else why it takes no writes."""
    if not readable:
        return [f"{type(unread).__name__}: {unread}"]
    return [f"{WRITES_REFUSED}{type(refused).__name__}: {refused}"] if refused is not None else []


def _active(totals: dict[str, int]) -> int:
    return max(0, totals.get("sessions", 0) - totals.get("ended", 0))


def _ever(totals: dict[str, int], name: Any) -> int:
    """What was ever stored: what is there, and what has gone."""
    return totals.get(name, 0) + totals.get(gone(name), 0)


def _share(usage: float | None) -> float:
    """A share of the store's room; without a store that tells, of the machine's memory."""
    share = process_memory_share() if usage is None or not isfinite(usage) else usage
    return min(1.0, max(0.0, share))
