"""From records to a store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import groupby
from types import TracebackType
from typing import Any, Self

from aiecs.core.errors import ConflictError, ContextEngineError, InvalidInputError, StoreError
from aiecs.domain.context.groups import conversation_log
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.sessions import Sessions
from aiecs.domain.context.transfer.threads import ThreadWriter
from aiecs.domain.context.transfer.units import Counts, Part, Unit, name_of
from aiecs.domain.context.transfer.writing import DifferentLogError, SessionWriter, chunks
from aiecs.domain.context.transfer_records import (
    AgentMessageRecord,
    CheckpointRecord,
    ConversationRecord,
    Record,
    SessionRecord,
    TaskContextRecord,
    WritesRecord,
)

_AT_ONCE = 16
_HELD_BYTES = 4 * 1024 * 1024

Problem = Callable[[Any, ContextEngineError], None]


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
        self._threads = ThreadWriter(runtime)
        self._unit: Unit | None = None
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
            unit.hold(record, place)
        except InvalidInputError as error:
            self._on_problem(place, error)
        else:
            if unit.held > _HELD_BYTES:
                await self._settle(_AT_ONCE, unit.name)
                await self._flush(unit, closing=False)

    # --- which session --------------------------------------------------------------------------

    async def _unit_of(self, record: Record, place: Any) -> Unit:
        name = name_of(record, self._unit)
        begins = isinstance(record, SessionRecord)
        if self._unit is not None and self._unit.name == name and not begins:
            return self._unit
        await self._close()
        unit = self._unit = Unit(name, place)
        unit.refused = True
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
            failed = [error for task in done if (error := task.exception()) is not None]
            if failed:
                raise failed[0]

    # --- writing --------------------------------------------------------------------------------

    async def _flush(self, unit: Unit, *, closing: bool) -> None:
        try:
            if unit.writer is not None:
                await self._write_messages(unit, unit.writer, closing=closing)
            parts, unit.parts = unit.parts, []
            for log, run in groupby(parts, key=_log_of):
                if log is not None and unit.writer is not None:
                    await self._write_log(unit, unit.writer, log, list(run))
                else:
                    for part in run:
                        await self._write_part(unit, part)
            if closing and unit.writer is not None:
                await unit.writer.finish()
                self._tally(unit, unit.writer)
        except StoreError:
            raise
        except DifferentLogError as error:
            self._refuse(unit, unit.messages[error.number].place, error)
        except ContextEngineError as error:
            self._refuse(unit, unit.place, error)
        unit.held = 0

    async def _write_messages(self, unit: Unit, writer: SessionWriter, *, closing: bool) -> None:
        items, written = [one.item for one in unit.messages], 0
        if not unit.opened:
            first = next(chunks(items), ())
            complete = closing and len(first) == len(items) and not unit.parts
            written = await writer.open(first, complete=complete)
            unit.opened = True
        added = written
        try:
            added += await writer.append("m", items[written:], unit.position + written)
        except DifferentLogError as error:
            error.number += written
            raise
        unit.position += len(items)
        unit.messages = []
        unit.added += added
        self.counts.messages += added

    async def _write_log(
        self, unit: Unit, writer: SessionWriter, session_key: str, parts: list[Part]
    ) -> None:
        """Messages of one conversation between agents."""
        digest = session_key.rpartition(":")[2]
        items = [part.item for part in parts if part.item is not None]
        position = unit.positions[digest]
        try:
            added = await writer.append(conversation_log(digest), items, position, session_key)
        except DifferentLogError as error:
            self._on_problem(parts[error.number].place, error)
            return
        unit.positions[digest] = position + len(items)
        unit.added += added
        self.counts.agent_messages += added

    async def _write_part(self, unit: Unit, part: Part) -> None:
        try:
            unit.added += await self._write_record(unit, part.record)
        except ConflictError as error:
            self._on_problem(part.place, error)

    async def _write_record(self, unit: Unit, record: Record) -> bool:
        counts, added = self.counts, False
        if isinstance(record, CheckpointRecord):
            added = await self._threads.checkpoint(record)
            counts.checkpoints += added
        elif isinstance(record, WritesRecord):
            added = await self._threads.writes(record)
            counts.writes += added
        elif unit.writer is not None and isinstance(record, TaskContextRecord):
            added = await unit.writer.task_context(record.stored)
            counts.task_contexts += added
        elif unit.writer is not None and isinstance(record, ConversationRecord):
            digest = record.session_key.rpartition(":")[2]
            added = await unit.writer.conversation(record.session_key, digest, record.stored)
            counts.conversations += added
        return added

    def _refuse(self, unit: Unit, place: Any, error: ContextEngineError) -> None:
        self.counts.skipped += len(unit.messages) + len(unit.parts)
        unit.messages, unit.parts, unit.refused = [], [], True
        self._on_problem(place, error)

    def _tally(self, unit: Unit, writer: SessionWriter) -> None:
        if writer.created:
            self.counts.sessions += 1
        elif unit.added:
            self.counts.extended += 1
        else:
            self.counts.known += 1


def _log_of(part: Part) -> str | None:
    if isinstance(part.record, AgentMessageRecord):
        return part.record.session_key
    return None
