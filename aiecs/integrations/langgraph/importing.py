"""Threads of another saver, copied through LangGraph's public interface."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import Any, NamedTuple

from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from aiecs.core.errors import ConflictError, ContextEngineError, InvalidInputError
from aiecs.integrations.langgraph.saver import ContextEngineSaver
from aiecs.integrations.langgraph.strict import refusing

Place = tuple[str, str, str]
"""Thread, namespace and id of a checkpoint."""

Tell = Callable[[int, int], None]
"""Called with how many checkpoints are done, and of how many."""

_SOURCES = {
    "sqlite": (
        "langgraph.checkpoint.sqlite.aio", "AsyncSqliteSaver", "langgraph-checkpoint-sqlite"
    ),
    "postgresql": (
        "langgraph.checkpoint.postgres.aio", "AsyncPostgresSaver", "langgraph-checkpoint-postgres"
    ),
    "redis": ("langgraph.checkpoint.redis.aio", "AsyncRedisSaver", "langgraph-checkpoint-redis"),
}  # fmt: skip


class Imported(NamedTuple):
    """How much there was, all of it read back and found equal."""

    threads: int
    checkpoints: int
    writes: int


class _Refusing:
    """A serializer that raises `BlockedTypeError` where LangGraph's would hand out plain data."""

    def __init__(self, allowed: Iterable[tuple[str, str]]) -> None:
        self._inner = JsonPlusSerializer(allowed_msgpack_modules=tuple(allowed) or None)

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return self._inner.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        with refusing():
            return self._inner.loads_typed(data)


@asynccontextmanager
async def opened(
    url: str, allowed: Iterable[tuple[str, str]] = ()
) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    """The saver of LangGraph's own packages that keeps its checkpoints at a URL.

    `ContextEngineError` when its package is not installed. Decoding is strict, as our saver's is.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in _SOURCES:
        raise InvalidInputError(f"checkpoints come from {', '.join(_SOURCES)}, not {scheme!r}")
    module, name, package = _SOURCES[scheme]
    try:
        kind = getattr(import_module(module), name)
    except ImportError:
        raise ContextEngineError(f"reading {scheme}:// needs: pip install {package}") from None
    place = rest.removeprefix("/") if scheme == "sqlite" else url
    opening: AbstractAsyncContextManager[Any] = kind.from_conn_string(place)
    async with opening as source:
        serde: SerializerProtocol = _Refusing(allowed)
        source.serde = serde
        await source.setup() if hasattr(source, "setup") else await source.asetup()
        yield source


async def import_threads(
    source: BaseCheckpointSaver[Any], target: ContextEngineSaver, tell: Tell
) -> Imported:
    """Copy all threads, the oldest checkpoints first, and compare what was stored with the source.

    Each checkpoint is whole, so it can be interrupted and repeated. `BlockedTypeError` ends it;
    `ConflictError` when a checkpoint does not read back as it was.
    """
    places = sorted([_place(found) async for found in source.alist(None)])
    writes = 0
    for done, place in enumerate(places):
        found = await source.aget_tuple(_config(place))
        if found is None:  # removed meanwhile
            continue
        try:
            await _copy(found, place, target)
        except InvalidInputError as error:
            raise InvalidInputError(f"thread {place[0]!r} cannot be kept: {error}") from None
        writes += len(found.pending_writes or ())
        stored = await target.aget_tuple(_config(place))
        if stored is None or _told(stored) != _told(found):
            raise ConflictError(f"checkpoint {place[2]!r} of {place[0]!r} does not read back as is")
        tell(done + 1, len(places))
    return Imported(len({place[0] for place in places}), len(places), writes)


async def _copy(found: CheckpointTuple, place: Place, target: ContextEngineSaver) -> None:
    before: Any = {"configurable": {"thread_id": place[0], "checkpoint_ns": place[1]}}
    parent = found.parent_config
    if parent is not None:
        before["configurable"]["checkpoint_id"] = parent["configurable"]["checkpoint_id"]
    made = found.checkpoint
    await target.aput(before, made, found.metadata, made["channel_versions"])
    tasks: dict[str, list[tuple[str, Any]]] = {}
    for task_id, channel, value in found.pending_writes or ():
        tasks.setdefault(task_id, []).append((channel, value))
    for number, (task_id, writes) in enumerate(tasks.items()):
        # Nobody tells the path of a task; what it is for, the order, is known.
        await target.aput_writes(_config(place), writes, task_id, f"{number:06}")


def _told(found: CheckpointTuple) -> Any:
    """A checkpoint in a form that can be compared, whatever its values are."""
    serde = JsonPlusSerializer()
    values = found.checkpoint["channel_values"]
    rest = {name: value for name, value in found.checkpoint.items() if name != "channel_values"}
    writes: Sequence[Any] = found.pending_writes or ()
    return (
        rest,
        found.metadata,
        {channel: serde.dumps_typed(value) for channel, value in values.items()},
        sorted((task, channel, serde.dumps_typed(value)) for task, channel, value in writes),
        found.parent_config and found.parent_config["configurable"]["checkpoint_id"],
    )


def _place(found: CheckpointTuple) -> Place:
    named = found.config["configurable"]
    return named["thread_id"], named.get("checkpoint_ns", ""), named["checkpoint_id"]


def _config(place: Place) -> Any:
    names = ("thread_id", "checkpoint_ns", "checkpoint_id")
    return {"configurable": dict(zip(names, place, strict=True))}
