"""A LangGraph checkpoint saver on an engine's store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from aiecs.core.errors import InvalidInputError
from aiecs.domain.context import ContextEngine
from aiecs.domain.context.graph_threads import Threads, threads_of
from aiecs.domain.context.observation import Monitor, operation
from aiecs.domain.context.thread_state.thread_records import ThreadRecords
from aiecs.integrations.langgraph import versions
from aiecs.integrations.langgraph.codec import Codec
from aiecs.integrations.langgraph.config import micros_of, where
from aiecs.integrations.langgraph.delta import DeltaHistory
from aiecs.integrations.langgraph.loop import Portal, portal_while_open
from aiecs.integrations.langgraph.owned import Owned
from aiecs.integrations.langgraph.reading import Query, Reading
from aiecs.integrations.langgraph.strict import OnBlocked
from aiecs.integrations.langgraph.writing import Writing

AllowedTypes = Iterable[type | tuple[str, str]]


class ContextEngineSaver(BaseCheckpointSaver[str]):
    """Keeps the checkpoints of LangGraph graphs in the store of an open `ContextEngine`.

    Every method is there twice, for `invoke` and for `ainvoke`; both may be used on one instance,
    from any number of threads and event loops. A synchronous call blocks its thread, also one that
    runs a loop; it never deadlocks. Values of lists and large dicts are stored by their parts, each
    once in a thread.

    Decoding is strict: types come from the state of the graphs that are compiled with this saver
    and from `allowed_types`; for any other a read raises `BlockedTypeError`, or with
    `on_blocked="warn"` hands out the type's plain data as LangGraph does. A `serde` of your own
    (`EncryptedSerializer`, say) decides for itself what it allows.

    `ttl`: seconds after its last write at which a thread expires; by default the engine's
    `checkpoint_ttl`. A thread's own time is `configurable["thread_ttl"]`; with `refresh_on_read`,
    `get_tuple` prolongs it as a write does. `include_archived`: what was pruned or has expired is
    read from the engine's archive; `ArchiveUnavailableError` when that does not answer. `compress`
    (extra `zstd`): values and elements of 1 KiB and more are stored compressed where that saves a
    tenth; every reader then needs the extra. What a serializer seals is not compressed.

    Errors are those of `ContextEngine`: a store that is down raises `StoreError`, within the
    engine's deadline, and is never taken for an empty thread.
    """

    def __init__(
        self,
        engine: ContextEngine,
        *,
        serde: SerializerProtocol | None = None,
        allowed_types: AllowedTypes = (),
        on_blocked: OnBlocked = "raise",
        ttl: float | None = None,
        refresh_on_read: bool = False,
        include_archived: bool = False,
        compress: bool = False,
    ) -> None:
        if on_blocked not in ("raise", "warn"):
            raise InvalidInputError(f"on_blocked is 'raise' or 'warn', got {on_blocked!r}")
        strict = JsonPlusSerializer(allowed_msgpack_modules=tuple(allowed_types) or None)
        super().__init__(serde=strict if serde is None else serde)
        self.engine = engine
        self._on_blocked: OnBlocked = on_blocked
        self._ttl = micros_of(ttl, "ttl")
        self._refresh_on_read = refresh_on_read
        self._include_archived = include_archived
        self._codec = Codec(self.serde, on_blocked, compress=compress)

    @classmethod
    def from_url(
        cls, url: str, *, archive: str | None = None, **options: Any
    ) -> Owned[ContextEngineSaver]:
        """A saver with an engine of its own on a store's URL, for `async with` and `with`.

        `archive` is the URL of the engine's archive, `options` are those of the saver. The engine
        is closed at the end of the block.
        """
        engine = ContextEngine(store=url, archive=archive)
        return Owned(cls(engine, **options), engine)

    # --- what the methods below share -----------------------------------------------------------

    @property
    def monitor(self) -> Monitor:
        """What measures the calls: the engine's, so its metrics and observers have them too."""
        return self.engine.monitor

    @property
    def _threads(self) -> Threads:
        return threads_of(self.engine)

    @property
    def _coding(self) -> Codec:
        """The codec of this instance's serializer: LangGraph gives copies another one."""
        if self._codec.serde is not self.serde:
            kept = self._codec
            self._codec = Codec(self.serde, self._on_blocked, compress=kept.compress)
        return self._codec

    @property
    def _reading(self) -> Reading:
        return Reading(self._records_read, self._coding)

    @property
    def _records_read(self) -> ThreadRecords:
        """Where histories are read."""
        threads = self._threads
        return threads.with_past() if self._include_archived else threads.records

    @property
    def _writing(self) -> Writing:
        return Writing(self._threads.records, self._coding, self._ttl)

    @property
    def _portal(self) -> Portal:
        return portal_while_open(self.engine, lambda: threads_of(self.engine))

    def get_next_version(self, current: Any, channel: None) -> Any:
        """A version above `current`, unique among forks; in the form that `current` has."""
        return versions.following(current)

    # --- storing --------------------------------------------------------------------------------

    @operation
    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint whose parent `config` names; the config that names it. Atomic."""
        return await self._writing.put(config, checkpoint, metadata, new_versions)

    @operation
    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task has written for a checkpoint, which need not be there yet. Atomic."""
        await self._writing.put_writes(config, writes, task_id, task_path)

    # --- reading --------------------------------------------------------------------------------

    @operation
    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that `config` names, or the latest of its namespace; None without one."""
        at = where(config)
        found = await Reading(self._threads.records, self._coding).get(at)
        if found is not None and self._refresh_on_read:
            await self._threads.records.used(at.thread_id, self._ttl if at.ttl is None else at.ttl)
        if found is None and self._include_archived:
            return await self._reading.get(at)
        return found

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name for it
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[CheckpointTuple]:
        """Checkpoints, the latest first: of a namespace, of a thread, or of all threads.

        `config=None` goes from thread to thread, the one written to last first. `filter` holds
        metadata that has to be equal, `before` names a checkpoint that has to be later.
        """
        earlier_than = None if before is None else get_checkpoint_id(before)
        query = Query(None, None, filter, earlier_than, limit)
        if config is not None:
            at = where(config)
            everywhere = config["configurable"].get("checkpoint_ns") is None
            query = query._replace(
                namespace=None if everywhere else at.namespace, checkpoint_id=at.checkpoint_id
            )
            async for found in self._reading.walk(at.thread_id, query):
                yield found
            return
        async for thread_id in self._threads.ids():
            async for found in self._reading.walk(thread_id, query):
                if query.limit is not None and query.limit <= 0:
                    return
                yield found
                query = query._replace(limit=None if query.limit is None else query.limit - 1)

    @operation
    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What ancestors have written to channels since their last value, and that value."""
        history = DeltaHistory(self._records_read, self._coding)
        return await history.of(where(config), channels)

    # --- removing and copying -------------------------------------------------------------------

    async def adelete_thread(self, thread_id: str) -> None:
        """Remove a thread with all its checkpoints and writes; nothing happens without one."""
        self._threads.records.caches.forget(str(thread_id))
        await self.engine.delete_thread(str(thread_id))

    @operation
    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove every checkpoint that these runs have made, in all threads, and its writes."""
        runs = {str(run_id) for run_id in run_ids if run_id}
        if runs:
            await self._threads.delete_runs(runs)

    @operation
    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all of a thread into another one, byte for byte; nothing is decoded."""
        await self._threads.copy(str(source_thread_id), str(target_thread_id), ttl=self._ttl)

    @operation
    async def aprune(
        self, thread_ids: Sequence[str], *, strategy: str = "keep_latest", keep_last: int = 1
    ) -> None:
        """Remove old checkpoints ("keep_latest": all but the last ones) or everything ("delete").

        `keep_last` are kept in each namespace, and ancestors from which their state is rebuilt.
        """
        if strategy not in ("keep_latest", "delete"):
            raise InvalidInputError(f"strategy is 'keep_latest' or 'delete', got {strategy!r}")
        if type(keep_last) is not int or keep_last < 1:
            raise InvalidInputError(f"keep_last is 1 or more, got {keep_last!r}")
        for thread_id in map(str, thread_ids):
            if strategy == "delete":
                await self.adelete_thread(thread_id)
            else:
                await self._threads.pruning.keep_latest(thread_id, keep_last)

    # --- the same for whoever cannot await ------------------------------------------------------

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As `aput`."""
        return self._portal.call(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """As `aput_writes`."""
        self._portal.call(self.aput_writes(config, writes, task_id, task_path))

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As `aget_tuple`."""
        return self._portal.call(self.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name for it
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """As `alist`; checkpoints are read as they are asked for."""
        return self._portal.iterate(self.alist(config, filter=filter, before=before, limit=limit))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """As `aget_delta_channel_history`."""
        work = self.aget_delta_channel_history(config=config, channels=channels)
        return self._portal.call(work)

    def delete_thread(self, thread_id: str) -> None:
        """As `adelete_thread`."""
        self._portal.call(self.adelete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As `adelete_for_runs`."""
        self._portal.call(self.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `acopy_thread`."""
        self._portal.call(self.acopy_thread(source_thread_id, target_thread_id))

    def prune(
        self, thread_ids: Sequence[str], *, strategy: str = "keep_latest", keep_last: int = 1
    ) -> None:
        """As `aprune`."""
        self._portal.call(self.aprune(thread_ids, strategy=strategy, keep_last=keep_last))
