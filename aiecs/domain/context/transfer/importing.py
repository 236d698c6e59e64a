"""From records to a store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, NoReturn, Self

from aiecs.core.codec import dump_json
from aiecs.core.errors import ConflictError, ContextEngineError, InvalidInputError, StoreError
from aiecs.core.ids import check_id
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.sessions import Sessions
from aiecs.domain.context.transfer.heads import GONE, Incoming, incoming_message
from aiecs.domain.context.transfer.records import (
    CheckpointRecord,
    MessageRecord,
    Record,
    SessionRecord,
    TaskContextRecord,
    WritesRecord,
)
from aiecs.domain.context.transfer.threads import ThreadWriter
from aiecs.domain.context.transfer.writing import DifferentLogError, SessionWriter, chunks

_AT_ONCE = 16
_HELD_BYTES = 4 * 1024 * 1024
_WIDEST_GAP = 1_000

Problem = Callable[[Any, ContextEngineError], None]


@dataclass(slots=True)
class Counts:
    """What an import has written.

    `known` are sessions in which everything was there already, `extended` those that were there
    and got something new; `skipped` are records whose session could not be imported.
    """

    sessions: int = 0
    extended: int = 0
    known: int = 0
    messages: int = 0
    task_contexts: int = 0
    checkpoints: int = 0
    writes: int = 0
    skipped: int = 0

    def to_dict(self) -> dict[str, int]:
        """Every count by name."""
        return asdict(self)


@dataclass(slots=True)
class _Unit:
    """One session, or one thread that has none, and what is still to be written of it."""

    name: tuple[str, str]
    writer: SessionWriter | None = None
    place: Any = None
    messages: list[Incoming] = field(default_factory=list)
    places: list[Any] = field(default_factory=list)
    others: list[tuple[Record, Any]] = field(default_factory=list)
    held: int = 0
    next_seq: int | None = None
    position: int = 0
    opened: bool = False
    refused: bool = False
    added: int = 0


class Importer:
    """Takes up records, one after the other; several sessions are written at the same time.

    A record that cannot be imported is told to `on_problem`, with the `place` that was given with
    it; the rest goes on, unless `on_problem` raises. A `StoreError` ends the import. Use it as a
    context manager: leaving it waits until all is written.
    """

    def __init__(self, runtime: Runtime, sessions: Sessions, on_problem: Problem) -> None:
        self.counts = Counts()
        self._runtime = runtime
        self._sessions = sessions
        self._on_problem = on_problem
        self._threads = ThreadWriter(runtime, sessions)
        self._unit: _Unit | None = None
        self._running: dict[asyncio.Task[None], tuple[str, str]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self._close()
                await self._settle(0)
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def add(self, record: Record, place: Any = None) -> None:
        """Take up the next record. What belongs to a session stands behind it."""
        try:
            unit = await self._unit_of(record, place)
            if unit.refused:
                self.counts.skipped += 1
                return
            self._hold(unit, record, place)
        except ConflictError as error:
            self._on_problem(place, error)
        except InvalidInputError as error:
            self._on_problem(place, error)
        else:
            if unit.held > _HELD_BYTES:
                await self._settle(_AT_ONCE, unit.name)
                await self._flush(unit, closing=False)

    # --- which session --------------------------------------------------------------------------

    async def _unit_of(self, record: Record, place: Any) -> _Unit:
        name = _name(record, self._unit)
        if (
            self._unit is not None
            and self._unit.name == name
            and not isinstance(record, SessionRecord)
        ):
            return self._unit
        await self._close()
        unit = self._unit = _Unit(name, place=place, refused=True)
        if isinstance(record, SessionRecord):
            unit.writer = SessionWriter(self._runtime, self._sessions, record.session)
        elif name[0] == "session":
            raise InvalidInputError(f"session {name[1]!r} does not stand before what belongs to it")
        unit.refused = False
        return unit

    async def _close(self) -> None:
        """Let the present unit be written in the background."""
        unit, self._unit = self._unit, None
        if unit is None or unit.refused:
            return
        await self._settle(_AT_ONCE - 1, unit.name)
        self._running[asyncio.create_task(self._flush(unit, closing=True))] = unit.name

    async def _settle(self, most: int, name: tuple[str, str] | None = None) -> None:
        """Wait until at most `most` units are being written, and none of that name."""
        while len(self._running) > most or name in self._running.values():
            done, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                del self._running[task]
            for task in done:
                task.result()

    def _hold(self, unit: _Unit, record: Record, place: Any) -> None:
        if isinstance(record, MessageRecord):
            self._hold_message(unit, incoming_message(record.message), place)
        elif not isinstance(record, SessionRecord):
            unit.held += _check_stored(record)
            unit.others.append((record, place))

    def _hold_message(self, unit: _Unit, one: Incoming, place: Any) -> None:
        if unit.position == 0 and not unit.messages:
            unit.next_seq = one.seq
        if unit.next_seq is not None:
            seq = unit.next_seq if one.seq is None else one.seq
            gap = seq - unit.next_seq
            if not 0 <= gap <= _WIDEST_GAP:
                raise InvalidInputError(f"seq {seq} does not follow {unit.next_seq - 1}")
            gone = (GONE._replace(seq=unit.next_seq + n) for n in range(gap))
            unit.messages += [*gone, one._replace(seq=seq)]
            unit.places += [place] * (gap + 1)
            unit.next_seq = seq + 1
        else:
            unit.messages.append(one._replace(seq=None))
            unit.places.append(place)
        unit.held += len(one.item) + 100

    # --- writing --------------------------------------------------------------------------------

    async def _flush(self, unit: _Unit, *, closing: bool) -> None:
        try:
            if unit.writer is not None:
                await self._write_messages(unit, unit.writer, closing=closing)
            others, unit.others = unit.others, []
            for record, place in others:
                await self._write_other(unit, record, place)
            if closing and unit.writer is not None:
                await unit.writer.finish()
                self._tally(unit, unit.writer)
        except StoreError:
            raise
        except DifferentLogError as error:
            self._refuse(unit, unit.places[error.number], error)
        except ContextEngineError as error:
            self._refuse(unit, unit.place, error)
        unit.held = 0

    async def _write_messages(self, unit: _Unit, writer: SessionWriter, *, closing: bool) -> None:
        rest, written = unit.messages, 0
        if not unit.opened:
            first = next(chunks(rest), ())
            complete = closing and len(first) == len(rest) and not unit.others
            written = await writer.open(first, complete=complete)
            unit.opened = True
        added = written
        if written < len(rest):
            added += await self._append(unit, writer, written)
        unit.position += len(rest)
        self.counts.messages += added
        unit.added += added
        unit.messages, unit.places = [], []

    async def _append(self, unit: _Unit, writer: SessionWriter, done: int) -> int:
        try:
            return await writer.append("m", unit.messages[done:], unit.position + done)
        except DifferentLogError as error:
            error.number += done
            raise

    async def _write_other(self, unit: _Unit, record: Record, place: Any) -> None:
        try:
            added = await self._other(unit, record)
        except ConflictError as error:
            self._on_problem(place, error)
        else:
            unit.added += added

    async def _other(self, unit: _Unit, record: Record) -> int:
        if isinstance(record, CheckpointRecord):
            added = await self._threads.checkpoint(record)
            self.counts.checkpoints += added
        elif isinstance(record, WritesRecord):
            added = await self._threads.writes(record)
            self.counts.writes += added
        elif isinstance(record, TaskContextRecord) and unit.writer is not None:
            added = await unit.writer.put("t", "d", record.stored, what="task context")
            self.counts.task_contexts += added
        else:
            _refuse_kind(record)
        return int(added)

    def _refuse(self, unit: _Unit, place: Any, error: ContextEngineError) -> None:
        self.counts.skipped += len(unit.messages) + len(unit.others)
        unit.messages, unit.places, unit.others, unit.refused = [], [], [], True
        self._on_problem(place, error)

    def _tally(self, unit: _Unit, writer: SessionWriter) -> None:
        if writer.created:
            self.counts.sessions += 1
        elif unit.added:
            self.counts.extended += 1
        else:
            self.counts.known += 1


def _name(record: Record, unit: _Unit | None) -> tuple[str, str]:
    """The unit that a record belongs to: a session, or a thread by itself."""
    if isinstance(record, SessionRecord):
        return ("session", record.session.session_id)
    if record.session_id is not None:
        return ("session", record.session_id)
    namesake = ("session", record.thread_id)
    return namesake if unit is not None and unit.name == namesake else ("thread", record.thread_id)


def _check_stored(record: Any) -> int:
    """The size of what lies in the store; `InvalidInputError` when it is not what it should be."""
    stored = record.stored
    if isinstance(record, WritesRecord):
        check_id(record.thread_id, "thread_id")
        shape = isinstance(stored, list) and len(stored) == 2 and isinstance(stored[1], list)  # noqa: PLR2004 - task id and pairs
    elif isinstance(record, CheckpointRecord):
        check_id(record.thread_id, "thread_id")
        shape = isinstance(stored, dict) and {"data", "metadata", "created_at"} <= stored.keys()
    else:
        shape = isinstance(stored, dict)
    if not shape:
        raise InvalidInputError(f"is no {type(record).__name__.removesuffix('Record')}")
    return len(dump_json(stored)[0])


def _refuse_kind(record: Record) -> NoReturn:
    raise TypeError(f"{type(record).__name__} is no record of a session")
