"""The calls of the engine that are about checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aiecs.domain.context.lifecycle import Lifecycle
from aiecs.domain.context.observation import operation


class CheckpointCalls(Lifecycle):
    """The part of the engine that workflows keep their state with."""

    @operation
    async def store_checkpoint(
        self,
        thread_id: str,
        checkpoint_id: str,
        checkpoint_data: Any,
        metadata: dict[str, Any] | None = None,
        *,
        session_id: str | None = None,
    ) -> bool:
        """Store a checkpoint as the thread's latest, replacing one of the same id; True.

        `session_id` ties the thread to a session, which is created if unknown and takes the thread
        with it when it is deleted; `ConflictError` if the thread belongs to another one.
        At most 8 MiB less 8 KiB when encoded. What JSON cannot hold comes back as it was, objects
        of classes known by `register_type` too; `InvalidInputError` for other classes and for more.
        """
        return await self._on.checkpoints.store(
            thread_id, checkpoint_id, checkpoint_data, metadata, session_id=session_id
        )

    @operation
    async def put_checkpoint(
        self,
        thread_id: str,
        checkpoint_id: str,
        checkpoint_data: Any,
        metadata: dict[str, Any] | None = None,
    ) -> bool:
        """As `store_checkpoint`."""
        return await self._on.checkpoints.store(thread_id, checkpoint_id, checkpoint_data, metadata)

    @operation
    async def get_checkpoint(
        self, thread_id: str, checkpoint_id: str | None = None
    ) -> dict[str, Any] | None:
        """A checkpoint, the latest stored one without an id; None if there is none.

        A dict of checkpoint_id, thread_id, data, metadata and created_at (ISO 8601, UTC).
        `CorruptRecordError` if it cannot be decoded, or holds a class not registered here.
        """
        return await self._on.checkpoints.get(thread_id, checkpoint_id)

    @operation
    async def list_checkpoints(
        self, thread_id: str, limit: int | None = 10
    ) -> list[dict[str, Any]]:
        """The latest `limit` checkpoints, as `get_checkpoint` gives them, newest first.

        All of them for None or less than 1; [] if the thread is unknown. What cannot be decoded is
        left out and counted in `health_check`.
        """
        return await self._on.checkpoints.list(thread_id, limit)

    @operation
    async def put_writes(
        self,
        thread_id: str,
        checkpoint_id: str,
        task_id: str,
        writes_data: Iterable[Sequence[Any]],
    ) -> bool:
        """Keep what a task has written, (channel, value) pairs, for a checkpoint; True.

        Replaces what the same task had written for it. The checkpoint need not be stored yet.
        Values and limit as for `store_checkpoint`.
        """
        return await self._on.checkpoints.put_writes(thread_id, checkpoint_id, task_id, writes_data)

    @operation
    async def get_writes(self, thread_id: str, checkpoint_id: str) -> list[tuple[str, Any]]:
        """The (channel, value) pairs kept for a checkpoint, by task id, then as they were put.

        [] if there are none. What cannot be decoded is left out and counted in `health_check`.
        """
        return await self._on.checkpoints.get_writes(thread_id, checkpoint_id)
