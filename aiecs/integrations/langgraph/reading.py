"""Checkpoints on their way out of a thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from langgraph.checkpoint.base import CheckpointTuple

from aiecs.core.errors import CorruptRecordError
from aiecs.core.interface.store import Gather
from aiecs.domain.context.thread_state import records
from aiecs.domain.context.thread_state.cache import Held
from aiecs.domain.context.thread_state.manifests import Manifest
from aiecs.domain.context.thread_state.names import member_of, parts_of, space_of
from aiecs.domain.context.thread_state.thread_records import Found, ThreadRecords
from aiecs.integrations.langgraph.codec import Codec
from aiecs.integrations.langgraph.config import Where
from aiecs.integrations.langgraph.values import Decoder, Wanted

_PAGE = 10
_ATTEMPTS = 3


class Query(NamedTuple):
    """Which checkpoints of a thread are wanted; `namespace` None: of all namespaces."""

    namespace: str | None = ""
    checkpoint_id: str | None = None
    metadata: dict[str, Any] | None = None
    before: str | None = None
    limit: int | None = None

    def matches(self, found: CheckpointTuple) -> bool:
        """Whether a checkpoint is one of them, as far as its index does not say."""
        name, metadata = found.checkpoint["id"], dict[str, Any](found.metadata)
        return (
            (self.before is None or name < self.before)
            and (self.checkpoint_id is None or name == self.checkpoint_id)
            and all(metadata.get(key) == wanted for key, wanted in (self.metadata or {}).items())
        )


class _Looked(NamedTuple):
    """A checkpoint of which the record was read, and the values are wanted."""

    namespace: str
    checkpoint_id: str
    record: records.Checkpoint
    manifests: dict[str, Manifest]
    channels: dict[str, Wanted]
    writes: list[tuple[str, str, Wanted]]


class Reading:
    """The calls of a saver that read."""

    def __init__(self, threads: ThreadRecords, codec: Codec) -> None:
        self._threads = threads
        self._codec = codec

    async def get(self, at: Where) -> CheckpointTuple | None:
        """One checkpoint; without an id the one with the greatest; None if there is none."""
        if at.checkpoint_id is None:
            wanted = Gather("p", (), space_of(at.namespace), 1, reverse=True)
        else:
            wanted = Gather("p", (), members=(member_of(at.namespace, at.checkpoint_id),))
        while True:
            members, tuples = await self._read(at.thread_id, wanted, remember=True)
            if tuples or not members or wanted.members:
                return tuples[0] if tuples else None
            wanted = wanted._replace(after=members[-1])  # that one had writes alone so far

    async def walk(self, thread_id: str, query: Query) -> AsyncIterator[CheckpointTuple]:
        """The checkpoints of a thread that are wanted, the greatest id first."""
        left = query.limit
        pages = self._by_name(thread_id, query) if query.namespace is not None else None
        async for page in pages or self._of_all_namespaces(thread_id):
            for found in page:
                if left is not None and left <= 0:
                    return
                if query.matches(found):
                    yield found
                    left = None if left is None else left - 1
            if left is not None and left <= 0:
                return

    async def _by_name(
        self, thread_id: str, query: Query
    ) -> AsyncIterator[Sequence[CheckpointTuple]]:
        space = space_of(query.namespace)
        after = None if query.before is None else space + query.before
        limit = query.limit
        size = _PAGE if limit is None or query.metadata else max(1, min(limit, _PAGE))
        if query.checkpoint_id is not None:
            only = Gather("p", (), members=(space + query.checkpoint_id,))
            yield (await self._read(thread_id, only))[1]
            return
        while True:
            wanted = Gather("p", (), space, size, reverse=True, after=after)
            members, tuples = await self._read(thread_id, wanted)
            yield tuples
            if len(members) < size:
                return
            after = members[-1]

    async def _of_all_namespaces(self, thread_id: str) -> AsyncIterator[Sequence[CheckpointTuple]]:
        members = await self._threads.members(thread_id)
        members.sort(key=lambda member: parts_of(member)[::-1], reverse=True)
        for start in range(0, len(members), _PAGE):
            wanted = Gather("p", (), members=tuple(members[start : start + _PAGE]))
            yield (await self._read(thread_id, wanted))[1]

    async def _read(
        self, thread_id: str, wanted: Gather, *, remember: bool = False
    ) -> tuple[list[str], list[CheckpointTuple]]:
        """The checkpoints that are found; read again where one was pruned in the meantime."""
        for attempt in range(1, _ATTEMPTS + 1):
            cache, some, _ = await self._threads.gather(thread_id, wanted)
            decoder = Decoder(self._codec, cache)
            looked = [_look(decoder, one) for one in some.found]
            if decoder.missing:
                decoder.give(await self._threads.fetch(thread_id, list(decoder.missing)))
            try:
                tuples = [self._tuple(thread_id, decoder, one) for one in looked]
            except CorruptRecordError:
                if attempt == _ATTEMPTS:
                    raise
                continue
            if remember and looked:
                cache.held[looked[0].namespace] = _held(looked[0], tuples[0])
            self._threads.caches.put(thread_id, cache)
            break
        return some.members, tuples

    def _tuple(self, thread_id: str, decoder: Decoder, looked: _Looked) -> CheckpointTuple:
        record = looked.record
        rest, metadata = self._codec.decode(record.kind, self._codec.unseal(record.data))
        at = Where(thread_id, looked.namespace)
        checkpoint: Any = {**rest, "id": looked.checkpoint_id}
        values = {
            channel: decoder.value(wanted)
            for channel, wanted in looked.channels.items()
            if channel in rest["channel_versions"]
        }
        writes = [(task, channel, decoder.value(wanted)) for task, channel, wanted in looked.writes]
        checkpoint["channel_values"] = values
        return CheckpointTuple(
            at.config(looked.checkpoint_id),
            checkpoint,
            metadata,
            at.config(record.parent) if record.parent else None,
            writes,
        )


def _look(decoder: Decoder, found: Found) -> _Looked:
    namespace, checkpoint_id = parts_of(found.member)
    record, manifests = records.unpack(found.record)
    channels = {
        channel: decoder.want(ref, manifests.get(channel), (namespace, channel))
        for channel, ref in record.channels.items()
    }
    stored = records.unpack_writes(found.writes) if found.writes else []
    writes = [
        (task_id, write.channel, decoder.want(write.value))
        for _, task_id, _, write in records.effective(stored)
    ]
    return _Looked(namespace, checkpoint_id, record, manifests, channels, writes)


def _held(looked: _Looked, found: CheckpointTuple) -> Held:
    versions = dict(found.checkpoint["channel_versions"])
    return Held(looked.checkpoint_id, versions, looked.record.channels, looked.manifests)
