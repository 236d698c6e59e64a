"""Checkpoints and writes on their way into a thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    get_checkpoint_metadata,
)

from aiecs.core.clock import now_micros
from aiecs.core.errors import InvalidInputError
from aiecs.domain.context.thread_state import records
from aiecs.domain.context.thread_state.cache import Held, ThreadCache
from aiecs.domain.context.thread_state.names import member_of
from aiecs.domain.context.thread_state.thread_records import ThreadRecords
from aiecs.integrations.langgraph.codec import Codec
from aiecs.integrations.langgraph.config import Where, where
from aiecs.integrations.langgraph.reading import Reading
from aiecs.integrations.langgraph.values import Encoder, Kept

_APART = frozenset({"id", "channel_values"})
_DELTAS = "counters_since_delta_snapshot"


class Writing:
    """The calls of a saver that store something."""

    def __init__(self, threads: ThreadRecords, codec: Codec, ttl: int | None) -> None:
        self._threads = threads
        self._codec = codec
        self._ttl = ttl

    async def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint; the config that names it."""
        at = where(config)
        member = member_of(at.namespace, checkpoint["id"])
        complete: dict[str, Any] = dict(get_checkpoint_metadata(config, metadata))
        await self._learn(at, checkpoint, new_versions)
        tried: list[tuple[Encoder, dict[str, Kept]]] = []

        def make(cache: ThreadCache) -> records.Content:
            encoder = Encoder(self._codec, cache)
            kept = _kept(encoder, at, checkpoint, new_versions)
            tried.append((encoder, kept))
            record = self._record(at, checkpoint, complete, kept)
            nodes = [n for one in kept.values() if one.manifest for n in one.manifest.nodes]
            return records.Content(records.pack(record, nodes), encoder.parts, at.checkpoint_id)

        ttl = self._ttl if at.ttl is None else at.ttl
        await self._threads.put(at.thread_id, member, make, session_id=at.session_id, ttl=ttl)
        encoder, kept = tried[-1]
        encoder.done()
        encoder.cache.held[at.namespace] = _held(checkpoint, kept)
        self._threads.caches.put(at.thread_id, encoder.cache)
        return at.config(checkpoint["id"])

    def _record(
        self, at: Where, checkpoint: Checkpoint, metadata: dict[str, Any], kept: dict[str, Kept]
    ) -> records.Checkpoint:
        rest = {name: value for name, value in checkpoint.items() if name not in _APART}
        kind, data = self._codec.encode([rest, metadata])
        step = metadata.get("step")
        return records.Checkpoint(
            parent=at.checkpoint_id,
            created=now_micros(),
            run_id=str(metadata.get("run_id") or ""),
            source=str(metadata.get("source") or ""),
            step=step if isinstance(step, int) else None,
            pending=tuple(name for name in metadata.get(_DELTAS) or () if name not in kept),
            channels={channel: one.ref for channel, one in kept.items()},
            kind=kind,
            data=self._codec.seal(data),
        )

    async def _learn(
        self, at: Where, checkpoint: Checkpoint, new_versions: ChannelVersions
    ) -> None:
        """Read the parent, where values of it are to be taken over and it is not remembered."""
        values, names = checkpoint["channel_values"], checkpoint["channel_versions"]
        if at.checkpoint_id is None or all(n in values or n in new_versions for n in names):
            return
        cache = self._threads.caches.get(at.thread_id)
        if cache is None or _before(cache, at) is None:
            await Reading(self._threads, self._codec).get(at)

    async def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task has written for a checkpoint, which may not be stored yet."""
        at = where(config)
        if at.checkpoint_id is None:
            raise InvalidInputError("writes need config['configurable']['checkpoint_id']")
        member = member_of(at.namespace, at.checkpoint_id)
        if not writes:
            return

        def make(cache: ThreadCache) -> records.Content:
            encoder = Encoder(self._codec, cache)
            kept = tuple(
                records.Write(WRITES_IDX_MAP.get(channel, n), channel, encoder.keep(value).ref)
                for n, (channel, value) in enumerate(writes)
            )
            packed = records.pack_writes(records.Writes(task_id, task_path, kept))
            return records.Content(packed, encoder.parts, task_id)

        ttl = self._ttl if at.ttl is None else at.ttl
        await self._threads.add_writes(at.thread_id, member, make, len(writes), ttl=ttl)


def _before(cache: ThreadCache, at: Where) -> Held | None:
    held = cache.held.get(at.namespace)
    return held if held is not None and held.checkpoint_id == at.checkpoint_id else None


def _kept(
    encoder: Encoder, at: Where, checkpoint: Checkpoint, new_versions: ChannelVersions
) -> dict[str, Kept]:
    """References to the values of all channels; those without one have none.

    A channel that has not changed is what it was in the parent, also where it is not handed in.
    """
    before, values = _before(encoder.cache, at), checkpoint["channel_values"]
    kept = {}
    for channel, version in checkpoint["channel_versions"].items():
        same = before is not None and before.versions.get(channel) == version
        same = same and channel not in new_versions
        if before is not None and same and channel in before.channels:
            kept[channel] = Kept(before.channels[channel], before.manifests.get(channel))
        elif channel in values:
            kept[channel] = encoder.keep(values[channel], (at.namespace, channel))
    return kept


def _held(checkpoint: Checkpoint, kept: dict[str, Kept]) -> Held:
    manifests = {name: one.manifest for name, one in kept.items() if one.manifest is not None}
    channels = {name: one.ref for name, one in kept.items()}
    return Held(checkpoint["id"], dict(checkpoint["channel_versions"]), channels, manifests)
