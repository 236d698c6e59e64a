"""The calls of the engine that keep its store in order, and tell how it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import Any

from aiecs.domain.context.lifecycle import Lifecycle
from aiecs.domain.context.models import DeletionReport, RecountReport
from aiecs.domain.context.observation import operation
from aiecs.domain.context.transfer_records import UserRecord


class MaintenanceCalls(Lifecycle):
    """The part of the engine that whoever runs it needs."""

    @operation
    async def cleanup_expired_sessions(self, max_idle_hours: float = 24) -> int:
        """Remove sessions that expired or had no write for `max_idle_hours`; how many.

        What is written to meanwhile stays. Their threads go too, unless they are still in use.
        """
        return await self._on.maintenance.cleanup(max_idle_hours)

    async def health_check(self) -> dict[str, Any]:
        """How the engine is, within little more than `operation_timeout`; never a `StoreError`.

        `status`: it tries a write. A store that refuses it but can be read is "degraded", as is
        all that `issues` names; one that cannot be read is "unhealthy"; else "healthy".
        `active_sessions`, `total_messages`: as `get_metrics`, None when the store is down.
        `storage_backend`, `storage_mode` (configured or fallback), `redis_connected`, `breaker`
        (open while calls to one of `servers_down` fail at once), `server_version`,
        `memory_usage`, `archive` (what waits for it, how old that is, what it does not take);
        `last_error`: the class, operation and time of this process's last error of a store, an
        archive or a record, or None. `server`: of Redis, what the primaries say of themselves
        (`Finding` as dicts): an eviction policy that loses sessions is an issue, no persistence
        one of the `warnings`.
        """
        return await self._on.diagnosis.health()

    @operation
    async def get_metrics(self) -> dict[str, Any]:
        """Numbers of the whole store, and of this process; all of them finite.

        Of the store, as all its processes count: `total_sessions`, `total_messages`,
        `total_checkpoints` (ever stored), `stored_sessions` and so on (there now),
        `active_sessions` (neither ended nor expired; expired ones leave it at the next sweep, a
        minute later at most). A process that is killed takes up to 250 ms of counts with it:
        `recount` puts them right. `memory_usage`, 0.0 to 1.0: of Redis's `maxmemory` or machine,
        of `max_bytes`, of the disk of a SQLite file; of the machine, for memory without a bound.

        Of this process: `storage_performance` (`avg_response_time`, `p50` and `p99` in seconds;
        `cache_hit_rate` 0.0 to 1.0, and 1.0 before any read), `operations` (calls, latencies and
        errors of each), `transport` (`Gauges` of a Redis store, else empty), `archive`.
        """
        return await self._on.diagnosis.metrics()

    @operation
    async def recount(self) -> RecountReport:
        """Count the whole store anew and put the totals right; what there is, and the drift."""
        return await self._on.maintenance.recount()

    @operation
    async def apply_retention(
        self,
        *,
        max_idle_hours: float | None = None,
        max_message_age_hours: float | None = None,
        max_messages: int | None = None,
        dry_run: bool = False,
    ) -> DeletionReport:
        """Remove what need not be kept, in the whole store; what that was, counted.

        Sessions with all that is in them, and threads, that expired or had no write for
        `max_idle_hours`; of the others, messages older than `max_message_age_hours` (by their own
        timestamps, up to the first that is not), and all but the newest `max_messages` of each
        session and agent conversation. None leaves out that rule. With an archive, trimmed messages
        can still be read from there. `dry_run` counts what would be removed and changes nothing.

        Atomic for each session, not for all: it can end anywhere and be called again.
        `InvalidInputError` for numbers that make no sense.
        """
        return await self._on.maintenance.retain(
            max_idle_hours, max_message_age_hours, max_messages, dry_run=dry_run
        )

    def export_user(
        self,
        user_id: str,
        *,
        namespaces: Iterable[Sequence[str]] = (),
        skip: Collection[str] = (),
    ) -> AsyncIterator[UserRecord]:
        """Everything that is kept of a user, as the records of `aiecs.domain.context.transfer`.

        Sessions, messages (with an archive, those that only it has too), task contexts, agent
        conversations, checkpoints and writes of their threads, and the states of graphs as plain
        data; at last the items of `namespaces`, as for `delete_user`.

        Sessions come oldest activity first, without those of `skip`, by which an export goes
        on that ended early. `ArchiveError` when the archive does not answer.
        """
        return self._on.exports.user(user_id, namespaces, skip)

    @operation
    async def scrub(self) -> bool:
        """Rewrite the store's file, so that no byte of what was deleted is left in it; True.

        False for stores without a file of their own (for Redis: `BGREWRITEAOF`, and snapshots and
        backups made anew). Takes as long as the file is large, and as much room again; writers wait
        meanwhile, until their deadlines. `StoreTimeoutError` when readers keep it from ending.
        """
        return await self._on.maintenance.scrub()
