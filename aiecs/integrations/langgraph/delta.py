"""Channels whose checkpoints hold what was written, not what became of it.

Such a channel's value is that of the nearest ancestor that has one, and the writes of the ancestors
from there on. How far that is, the checkpoint's own metadata tells: so all of it is read at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from langgraph.checkpoint.base import DeltaChannelHistory

from aiecs.core.interface.store import Gather
from aiecs.domain.context.thread_state import records
from aiecs.domain.context.thread_state.cache import ThreadCache
from aiecs.domain.context.thread_state.manifests import Manifest
from aiecs.domain.context.thread_state.names import member_of, space_of
from aiecs.domain.context.thread_state.thread_records import ThreadRecords
from aiecs.integrations.langgraph.codec import Codec
from aiecs.integrations.langgraph.config import Where
from aiecs.integrations.langgraph.values import Decoder, Wanted

_MEMBERS = 10_000
_FORKS = 32
_COUNTERS = "counters_since_delta_snapshot"


class _Ancestor(NamedTuple):
    """What one ancestor contributes: a value where it has one, else what was written to it."""

    values: dict[str, Wanted]
    writes: list[tuple[str, str, Wanted]]


class DeltaHistory:
    """Reads what the ancestors of a checkpoint have contributed to channels."""

    def __init__(self, threads: ThreadRecords, codec: Codec) -> None:
        self._threads = threads
        self._codec = codec

    async def of(self, at: Where, channels: Sequence[str]) -> Mapping[str, DeltaChannelHistory]:
        """For each channel the writes, oldest first, since the nearest value, and that value.

        Three round trips, however long the chain of ancestors is.
        """
        found: dict[str, DeltaChannelHistory] = {channel: {"writes": []} for channel in channels}
        if not channels:
            return found
        cache, target, members = await self._target(at)
        if target is None:
            return found
        decoder = Decoder(self._codec, cache)
        chain = await self._chain(at, target, members, decoder, set(channels))
        if decoder.missing:
            decoder.give(await self._threads.fetch(at.thread_id, list(decoder.missing)))
        for ancestor in reversed(chain):
            for channel, wanted in ancestor.values.items():
                found[channel]["seed"] = decoder.value(wanted)
            for task_id, channel, wanted in ancestor.writes:
                found[channel]["writes"].append((task_id, channel, decoder.value(wanted)))
        return found

    async def _target(self, at: Where) -> tuple[ThreadCache, records.Checkpoint | None, list[str]]:
        """The checkpoint, and the members of all that came before it, the latest first."""
        space = space_of(at.namespace)
        wanted = Gather("p", (), space, 1, reverse=True)
        if at.checkpoint_id is not None:
            wanted = Gather("p", (), members=(member_of(at.namespace, at.checkpoint_id),))
        cache, some, older = await self._threads.before(at.thread_id, wanted, space, _MEMBERS)
        if not some.found:
            return cache, None, []
        return cache, records.unpack(some.found[0].record)[0], older

    async def _chain(
        self,
        at: Where,
        target: records.Checkpoint,
        members: list[str],
        decoder: Decoder,
        missing: set[str],
    ) -> list[_Ancestor]:
        chain: list[_Ancestor] = []
        stored: dict[str, tuple[bytes | None, bytes | None]] = {}
        size, parent = self._distance(target), target.parent
        while parent is not None and missing:
            member = member_of(at.namespace, parent)
            while member not in stored and members:
                stored |= await self._threads.rows(at.thread_id, members[:size])
                members, size = members[size:], _MEMBERS
            found, writes = stored.get(member, (None, None))
            if found is None:
                break
            record, manifests = records.unpack(found)
            # Of a long list that one of the channels was before it became a delta.
            nodes = [n for name in missing & manifests.keys() for n in manifests[name].nodes]
            await self._threads.load_nodes(at.thread_id, decoder.cache.nodes, nodes)
            chain.append(_contribution(decoder, record, manifests, writes, missing))
            missing = missing - chain[-1].values.keys()
            parent = record.parent
        return chain

    def _distance(self, target: records.Checkpoint) -> int:
        """How many ancestors are probably needed, with some that lie on other branches."""
        _, metadata = self._codec.decode(target.kind, self._codec.unseal(target.data))
        steps = [counts[1] for counts in (metadata.get(_COUNTERS) or {}).values()]
        return 2 * max(steps, default=0) + _FORKS


def _contribution(
    decoder: Decoder,
    record: records.Checkpoint,
    manifests: dict[str, Manifest],
    stored: bytes | None,
    missing: set[str],
) -> _Ancestor:
    values = {
        channel: decoder.want(record.channels[channel], manifests.get(channel))
        for channel in missing & record.channels.keys()
    }
    calls = records.unpack_writes(stored) if stored else []
    writes: list[tuple[str, str, Any]] = [
        (task_id, write.channel, decoder.want(write.value))
        for _, task_id, _, write in records.effective(calls)
        if write.channel in missing
    ]
    return _Ancestor(values, writes)
