"""TaskContext: what a task knows about its user, its resources and what it did so far."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from aiecs.core.clock import from_micros, parse_time, utcnow
from aiecs.core.errors import CorruptRecordError, InvalidInputError
from aiecs.domain.record import Record, copied
from aiecs.domain.task.task_file import file_for, read_file, replace_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from os import PathLike

T = TypeVar("T")

_PLAIN = ("user_id", "chat_id", "mode", "service")
_DICTS = ("metadata", "resources", "file_tracker", "metadata_toggles")
_KNOWN = frozenset({*_PLAIN, *_DICTS, "context_history", "model_tracker"})


@dataclass(slots=True)
class ContextUpdate(Record):
    """Something that happened to a task, at an aware UTC time (ISO 8601 text is read)."""

    timestamp: datetime
    update_type: str
    data: Any
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.timestamp = parse_time(self.timestamp, "timestamp")


class TaskContext:
    """The context of one task, made from a dict.

    `data` may hold any of the attributes below by name, and anything else, which is kept;
    `InvalidInputError` if one has the wrong type. Nothing is read or written on disk unless
    `task_dir` is given: then `with` and `async with` load what is saved there for this user
    and chat, and save the context at the end, in a file named by a hash.

    Attributes:
        user_id: Text, "" when not given.
        chat_id: Text, "" when not given.
        mode: As given, else None.
        service: As given, else None.
        metadata: A dict; `aiPreference` of `data` becomes a key of it.
        resources: A dict of name to resource.
        context_history: The list of `ContextUpdate`, oldest first.
        file_tracker: A dict of path to the list of operations on that file.
        model_tracker: The list of model uses, oldest first.
        metadata_toggles: A dict of metadata key to whether that key is active.
        task_dir: The directory for the file, None for none.
    """

    def __init__(
        self, data: Mapping[str, Any], task_dir: str | PathLike[str] | None = None
    ) -> None:
        if not hasattr(data, "items"):
            raise InvalidInputError("TaskContext needs a dict")
        given: dict[str, Any] = copied(dict(data))
        self.task_dir = None if task_dir is None else Path(task_dir)
        self.user_id: str = _a(str, given, "user_id")
        self.chat_id: str = _a(str, given, "chat_id")
        self.mode: Any = given.get("mode")
        self.service: Any = given.get("service")
        self.metadata: dict[str, Any] = _a(dict, given, "metadata")
        self.resources: dict[str, Any] = _a(dict, given, "resources")
        self.context_history = [_update(one) for one in _a(list, given, "context_history")]
        self.file_tracker: dict[str, list[dict[str, Any]]] = _a(dict, given, "file_tracker")
        self.model_tracker: list[dict[str, Any]] = _a(list, given, "model_tracker")
        self.metadata_toggles: dict[str, bool] = _a(dict, given, "metadata_toggles")
        if "aiPreference" in given:
            self.metadata["aiPreference"] = given.pop("aiPreference")
        self._others = {name: given[name] for name in given if name not in _KNOWN}

    def to_dict(self) -> dict[str, Any]:
        """A dict that `from_dict` turns back into an equal context; dicts and lists are copies.

        Holds every attribute but `task_dir`, and every other key that the context was made
        from. Times of the history are ISO 8601 text; other values stay what they are.
        """
        known = {name: copied(getattr(self, name)) for name in (*_PLAIN, *_DICTS)}
        known["context_history"] = [update.to_dict() for update in self.context_history]
        known["model_tracker"] = copied(self.model_tracker)
        known.update(copied(self._others))
        return known

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], task_dir: str | PathLike[str] | None = None
    ) -> Self:
        """The context that `data` describes."""
        return cls(data, task_dir)

    def add_context_update(
        self, update_type: str, data: Any, metadata: dict[str, Any] | None = None
    ) -> None:
        """Append to the history, with the time of now."""
        self.context_history.append(ContextUpdate(utcnow(), update_type, data, metadata or {}))

    def add_resource(self, name: str, resource: Any) -> None:
        """Set the resource of this name."""
        self.resources[name] = resource

    def track_file_operation(self, file_path: str, operation: str, source: str = "task") -> None:
        """Note an operation (read, write, ...) on a file, with the time of now."""
        entry = {"operation": operation, "source": source, "timestamp": utcnow().isoformat()}
        self.file_tracker.setdefault(file_path, []).append(entry)

    def track_model_usage(
        self, model_id: str, provider_id: str | None = None, mode: str | None = None
    ) -> None:
        """Note the use of a model, with the time of now."""
        used = {"model_id": model_id, "provider_id": provider_id, "mode": mode}
        self.model_tracker.append(used | {"timestamp": utcnow().isoformat()})

    def get_active_metadata(self) -> dict[str, Any]:
        """The metadata without the keys that `metadata_toggles` switches off."""
        return {k: v for k, v in self.metadata.items() if self.metadata_toggles.get(k, True)}

    def truncate_context_history(self, max_updates: int = 100) -> int:
        """Keep the latest `max_updates` of the history; how many were dropped."""
        if max_updates < 0:
            raise InvalidInputError("max_updates must not be negative")
        dropped = self.context_history[: max(0, len(self.context_history) - max_updates)]
        del self.context_history[: len(dropped)]
        return len(dropped)

    def optimize_context(self, max_updates: int = 100) -> int:
        """Drop updates that a later one repeats, then all but the latest; how many in all.

        Repeats: the same type, data and metadata at another time.
        """
        seen: set[tuple[str, str, str]] = set()
        kept: list[ContextUpdate] = []
        for update in reversed(self.context_history):
            what = (update.update_type, repr(update.data), repr(update.metadata))
            if what not in seen:
                seen.add(what)
                kept.append(update)
        repeated = len(self.context_history) - len(kept)
        self.context_history[:] = reversed(kept)
        return repeated + self.truncate_context_history(max_updates)

    @property
    def file(self) -> Path | None:
        """Where the context is saved, None without `task_dir`."""
        if self.task_dir is None:
            return None
        return file_for(self.task_dir, self.user_id, self.chat_id)

    def load(self) -> bool:
        """Take over what is saved for this user and chat; False if nothing is.

        Keys that this context has already win over saved ones; the saved history comes
        first. Blocks for the disk. `CorruptRecordError` for a file that is no context.
        """
        if self.file is None:
            return False
        from aiecs.core.codec import MAX_BYTES, decode  # costs half as much as the engine's import

        data = read_file(self.file, MAX_BYTES)
        if data is None:
            return False
        try:
            self._take_over(TaskContext(decode(data)))
        except InvalidInputError as error:
            raise CorruptRecordError(f"{self.file} holds no task context") from error
        return True

    def save(self) -> None:
        """Replace the saved context by this one, at once or not at all; blocks for the disk.

        `InvalidInputError` without `task_dir`, for values that cannot be stored and above
        8 MiB; `OSError` if the disk refuses. Of several writers the last one wins.
        """
        if self.file is None:
            raise InvalidInputError("a TaskContext without task_dir cannot be saved")
        from aiecs.core.codec import encode  # as above

        replace_file(self.file, encode(self.to_dict(), what="task context"))

    def _take_over(self, saved: TaskContext) -> None:
        self.mode = saved.mode if self.mode is None else self.mode
        self.service = saved.service if self.service is None else self.service
        for name in (*_DICTS, "_others"):
            setattr(self, name, getattr(saved, name) | getattr(self, name))
        for name in ("context_history", "model_tracker"):
            old, new = getattr(saved, name), getattr(self, name)
            new[:0] = [one for one in old if one not in new]

    def __enter__(self) -> Self:
        self.load()
        return self

    def __exit__(self, *_: object) -> None:
        if self.task_dir is not None:
            self.save()

    async def __aenter__(self) -> Self:
        if self.task_dir is not None:
            await asyncio.to_thread(self.load)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.task_dir is not None:
            await asyncio.to_thread(self.save)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskContext) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # it can change, as a dict can

    def __repr__(self) -> str:
        return f"TaskContext(user_id={self.user_id!r}, chat_id={self.chat_id!r}, ...)"


def build_context(data: Mapping[str, Any]) -> dict[str, Any]:
    """The dict form of the context that `data` makes, with every attribute present."""
    return TaskContext(data).to_dict()


@asynccontextmanager
async def task_context(
    data: Mapping[str, Any], task_dir: str | PathLike[str] | None = None
) -> AsyncIterator[TaskContext]:
    """A `TaskContext` for the time of an `async with` block, loaded and saved as it says."""
    async with TaskContext(data, task_dir) as context:
        yield context


def _a(kind: type[T], given: dict[str, Any], name: str) -> T:
    value = given.get(name)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise InvalidInputError(f"TaskContext {name} must be a {kind.__name__}")
    return value


def _update(value: Any) -> ContextUpdate:
    if isinstance(value, ContextUpdate):
        value = value.to_dict()
    if not isinstance(value, dict):
        raise InvalidInputError("TaskContext context_history must hold dicts")
    when = value.get("timestamp")
    if isinstance(when, (int, float)) and isfinite(when):  # aiecs 2: seconds since 1970
        value = value | {"timestamp": from_micros(round(when * 1_000_000))}
    return ContextUpdate.from_dict(value)
