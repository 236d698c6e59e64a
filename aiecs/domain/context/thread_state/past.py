"""Checkpoints of graphs that a thread no longer has: in the archive, or on their way there.

A thread may have had several lives. Those that were deleted are never shown, nor is what belonged
to a session of another owner, or to another session than the thread's now.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from aiecs.core.cold import ColdCheckpoint, ColdReader, Life, ThreadLife, WantedCheckpoints
from aiecs.core.errors import ArchiveUnavailableError, CorruptRecordError
from aiecs.core.events import About, Told, parts_in
from aiecs.core.interface.store import Batch, Get
from aiecs.core.keys import session_place, thread_place
from aiecs.domain.context.lives import joined, left, without_erased
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.unshipped import lying_in_outbox, unshipped

Name = tuple[str, str]
"""The namespace of a checkpoint, and its id."""

_GONE = "deleted"
_TOO_MUCH = "more waits for the archive than can be read in time"


class _Waiting(NamedTuple):
    """What has not reached the archive yet; a removed checkpoint has the record None."""

    lives: dict[str, ThreadLife]
    records: dict[Name, tuple[str, bytes | None]]
    writes: dict[Name, list[tuple[str, bytes]]]
    parts: dict[str, bytes]


class Past:
    """What was there of one thread when it was looked at."""

    def __init__(
        self, reader: ColdReader, thread_id: str, waiting: _Waiting, since: int, timeout: float
    ) -> None:
        self._reader = reader
        self._thread_id = thread_id
        self._waiting = waiting
        self._since = since
        self._timeout = timeout
        #: The lives that may be shown.
        self.lives: tuple[str, ...] = ()

    async def checkpoints(self, wanted: WantedCheckpoints) -> list[ColdCheckpoint]:
        """Checkpoints, the greatest id first; the lives are filled in here."""
        if not self.lives:
            return []
        wanted = wanted._replace(thread_id=self._thread_id, lives=self.lives)
        # More than are wanted, for some may turn out to have been removed meanwhile.
        more = wanted._replace(limit=wanted.limit + len(self._waiting.records))
        found = await self._reader.checkpoints(more, self._since, self._timeout)
        known = {one[:2]: one for one in found}
        for name, writes in self._waiting.writes.items():
            if name in known:
                known[name] = _with(known[name], self._shown(writes))
        for name, (life, record) in self._waiting.records.items():
            if record is None:
                known.pop(name, None)
            elif life in self.lives and _is_wanted(wanted, name):
                old = known.get(name, ColdCheckpoint(*name, b"", b""))
                writes = [] if name in known else self._waiting.writes.get(name, [])
                known[name] = _with(old._replace(record=record), self._shown(writes))
        inorder = sorted(known.values(), key=lambda one: one[1::-1], reverse=True)
        return inorder[: wanted.limit]

    async def parts(self, names: Sequence[str]) -> dict[str, bytes]:
        """What records refer to, by name; what is gone is left out."""
        found = {n: self._waiting.parts[n] for n in names if n in self._waiting.parts}
        missing = [name for name in names if name not in found]
        if missing and self.lives:
            found |= await self._reader.parts(self._thread_id, self.lives, missing, self._timeout)
        return found

    def _shown(self, writes: Iterable[tuple[str, bytes]]) -> bytes:
        return b"".join(call for life, call in writes if life in self.lives)


class Pasts:
    """Looks at what threads once had. `timeout`: seconds that the archive has for each answer."""

    def __init__(self, runtime: Runtime, reader: ColdReader, timeout: float) -> None:
        self._runtime = runtime
        self._reader = reader
        self._timeout = timeout

    async def of(self, thread_id: str) -> Past:
        """A thread's; `ArchiveUnavailableError` when that cannot be told."""
        lying = await lying_in_outbox(self._runtime, "thread", thread_id, self._timeout)
        if not lying.whole:
            raise ArchiveUnavailableError(_TOO_MUCH)
        waiting = _sorted(lying.events)
        lives = dict(waiting.lives)
        for life in await self._reader.thread_lives(thread_id, lying.base, self._timeout):
            newer = lives.get(life.incarnation, life)
            session, gone = newer.session_id or life.session_id, newer.gone or life.gone
            lives[life.incarnation] = ThreadLife(life.incarnation, session, gone)
        past = Past(self._reader, thread_id, waiting, lying.base, self._timeout)
        there = [
            life
            for life in sorted(lives.values())
            if not life.gone
            and (lying.erasure is None or not lying.erasure.covers(life.incarnation))
        ]
        past.lives = tuple([life.incarnation for life in await self._visible(thread_id, there)])
        return past

    async def _visible(self, thread_id: str, there: list[ThreadLife]) -> list[ThreadLife]:
        if not there:
            return []
        place = thread_place(thread_id)
        ((current, link),) = await self._runtime.read(Batch(*place, (Get("", ("~i", "s")),)))
        session = there[-1].session_id if current is None else (link or b"").decode()
        mine = [life for life in there if life.session_id in ("", session)]
        return await self._owned(session or thread_id, mine)

    async def _owned(self, session_id: str, there: list[ThreadLife]) -> list[ThreadLife]:
        """Those that were born into a life of the session which may be shown."""
        waiting = await unshipped(self._runtime, session_id, self._timeout)
        if not waiting.whole:
            raise ArchiveUnavailableError(_TOO_MUCH)
        archived = await self._reader.lives(session_id, waiting.base, self._timeout, patient=True)
        lives = await without_erased(self._runtime, joined(waiting.lives, archived))
        head = Batch(*session_place(session_id), (Get("", ("~i", "u")),))
        ((current, user),) = await self._runtime.read(head)
        owner = (user or b"").decode()
        if current is not None:
            lives.setdefault(current.decode(), Life(current.decode(), owner))
        if not lives:
            return there
        shown = {life for life in left(lives, waiting.erasure) if not life.gone}
        owners = [life.user_id for life in sorted(shown) if life.user_id]
        owner = owner or (owners[-1] if owners else "")
        born = [(life, _born_into(life, lives.values())) for life in there]
        return [life for life, into in born if into in shown and into.user_id in ("", owner)]


def _born_into(thread: ThreadLife, lives: Iterable[Life]) -> Life:
    inorder = sorted(lives)
    before = [life for life in inorder if life.incarnation <= thread.incarnation]
    return before[-1] if before else inorder[0]


def _sorted(events: Iterable[Told]) -> _Waiting:
    waiting = _Waiting({}, {}, {}, {})
    for event in events:
        life = waiting.lives.get(event.incarnation, ThreadLife(event.incarnation))
        session, gone = event.session or life.session_id, life.gone
        if event.kind is About.GRAPH:
            waiting.records[_name(event)] = event.incarnation, event.record
        elif event.kind is About.GRAPH_REMOVED:
            waiting.records[_name(event)] = event.incarnation, None
        elif event.kind is About.GRAPH_WRITES:
            call = event.incarnation, event.record
            waiting.writes.setdefault(_name(event), []).append(call)
        elif event.kind is About.GRAPH_PARTS:
            with suppress(CorruptRecordError):  # the shipper sets it aside
                waiting.parts.update(parts_in(event.record))
        elif event.kind is About.THREAD:
            gone = gone or event.ids[1] == _GONE
        waiting.lives[event.incarnation] = ThreadLife(event.incarnation, session, gone)
    return waiting


def _name(event: Told) -> Name:
    return event.ids[1] or "", event.ids[2] or ""


def _with(one: ColdCheckpoint, writes: bytes) -> ColdCheckpoint:
    return one._replace(writes=one.writes + writes)


def _is_wanted(wanted: WantedCheckpoints, name: Name) -> bool:
    return (
        (not wanted.names or name in wanted.names)
        and (wanted.namespace is None or name[0] == wanted.namespace)
        and (not wanted.before or name[1] < wanted.before)
    )
