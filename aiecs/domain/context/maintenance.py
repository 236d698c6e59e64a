"""Keeping a store in order: clean-up on demand, and the sweeper in the background."""

from __future__ import annotations

from contextlib import suppress

from aiecs.core.errors import InvalidInputError
from aiecs.core.interface.examined import Scrubbed
from aiecs.core.interface.store import (
    NOW,
    Batch,
    Clock,
    GuardFailed,
    Put,
    RequireAtMost,
    RequireEquals,
    now_plus,
)
from aiecs.core.keys import bucket_of
from aiecs.domain.context.models import DeletionReport, RecountReport
from aiecs.domain.context.recounting import recount
from aiecs.domain.context.recurring import Recurring
from aiecs.domain.context.retention import Policy, apply_policy
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.sweep import sweep_sessions, sweep_threads

SWEEP_EVERY = 60.0
_LEASE = 50_000_000
_LEASE_BUCKET = bucket_of("lease:sweep")
_HOUR = 3_600_000_000
_MAX_HOURS = 24 * 365 * 30


class Maintenance:
    """Clean-up of one engine's store."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def cleanup(self, max_idle_hours: float = 24) -> int:
        """Remove idle and expired sessions. See `ContextEngine.cleanup_expired_sessions`."""
        number = type(max_idle_hours) in (int, float)
        if not number or not 0 <= max_idle_hours <= _MAX_HOURS:
            raise InvalidInputError(f"max_idle_hours is 0..{_MAX_HOURS}, got {max_idle_hours!r}")
        removed = await sweep_sessions(self._runtime, round(max_idle_hours * _HOUR))
        await sweep_threads(self._runtime)
        return removed

    def sweeper(self) -> Recurring:
        """The background sweep, every 60 s."""
        return Recurring(self._runtime.tasks, SWEEP_EVERY, self.sweep)

    async def retain(
        self,
        idle: float | None,
        age: float | None,
        messages: int | None,
        *,
        dry_run: bool,
    ) -> DeletionReport:
        """Keep what the policy keeps. See `ContextEngine.apply_retention`."""
        policy = Policy(idle, age, messages)
        return await apply_policy(self._runtime, policy, dry_run=dry_run)

    async def scrub(self) -> bool:
        """Leave no deleted bytes behind. See `ContextEngine.scrub`."""
        store = self._runtime.store
        if not isinstance(store, Scrubbed):
            return False
        await store.scrub()
        return True

    async def recount(self) -> RecountReport:
        """Put the totals right. See `ContextEngine.recount`."""
        return await recount(self._runtime)

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
