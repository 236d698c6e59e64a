"""What the archive is told: an event in the batch of each write, so neither is without the other.

Each bucket has a log of its own for them, its outbox, which no expiry and no deletion of a session
touches. An event is a line of stamps, filled in by the store, and below it the record as it is
stored. The stamps: the incarnation of the session or thread, the sequence of what is told of (0 for
what has none), the store's time, and a header, a JSON list of the kind and the ids. Where a batch
appends several items to a log, the record of each has its place among them in front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from aiecs.core.errors import CorruptRecordError, StoreFullError
from aiecs.core.interface.store import INCARNATION, NOW, Append, Arg, Op, Result
from aiecs.core.keys import session_place

OUTBOX = "_out"

_NO_SEQUENCE = b"0"
_NO_LIFE = b"-"
_STAMPS = 4
_STAMP_BYTES = 60
#: What ends something is never refused: it makes room, and somebody may have a right to it.
_ENDS = frozenset({"deleted", "expired", "emptied"})
_json = msgspec.json.Encoder().encode
_header = msgspec.json.Decoder(tuple[str | None, ...]).decode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(dict[str, bytes]).decode


class About(StrEnum):
    """What an event tells of, and which ids follow in its header."""

    MESSAGE = "m"
    """A message: session."""
    AGENT_MESSAGE = "am"
    """A message between agents: session, the conversation's key."""
    SEVERAL = "+"
    """One of several messages of a batch: as one or the other, read back as such."""
    SESSION = "s"
    """A change of a session: session, what happened."""
    CONTEXT = "t"
    """A task context: session."""
    CONVERSATION = "a"
    """Who takes part in a conversation between agents: session, its key."""
    CHECKPOINT = "c"
    """A checkpoint: thread, checkpoint, session or null."""
    WRITES = "w"
    """The writes of a task: thread, checkpoint, task."""
    GRAPH = "g"
    """A checkpoint of a graph: thread, namespace, checkpoint, session or null, parent or null."""
    GRAPH_WRITES = "gw"
    """The writes of a task of a graph: thread, namespace, checkpoint, task."""
    GRAPH_PARTS = "gp"
    """What checkpoints and writes of graphs refer to, by name: thread."""
    GRAPH_REMOVED = "gx"
    """A checkpoint of a graph that was removed on purpose: thread, namespace, checkpoint."""
    THREAD = "x"
    """The end of a thread: thread, what happened."""
    USER = "u"
    """The deletion of all that a user owned: user, what happened. It has no record."""


#: The first id of these is a thread's.
OF_THREADS = frozenset(
    {
        About.CHECKPOINT,
        About.WRITES,
        About.THREAD,
        About.GRAPH,
        About.GRAPH_WRITES,
        About.GRAPH_PARTS,
        About.GRAPH_REMOVED,
    }
)
_SESSION_AT = {About.CHECKPOINT: 2, About.GRAPH: 3}
_ENDINGS = frozenset({About.THREAD, About.USER, About.GRAPH_REMOVED})


class Told(NamedTuple):
    """An event, read back; `sequence` is that of its record, 0 for none, `now` in microseconds."""

    kind: About
    ids: tuple[str | None, ...]
    incarnation: str
    sequence: int
    now: int
    record: bytes

    @property
    def thread(self) -> str:
        """The thread that it is about, "" for none."""
        return (self.ids[0] or "") if self.kind in OF_THREADS else ""

    @property
    def session(self) -> str:
        """The session that it is about, "" for none: of a thread's, the one that it names."""
        at = _SESSION_AT.get(self.kind, -1 if self.kind in OF_THREADS else 0)
        return (self.ids[at] or "") if at >= 0 else ""


@lru_cache(maxsize=65_536)
def header(kind: About, *ids: str | None) -> bytes:
    """The header of an event: one line, whatever the ids hold."""
    return _json([kind, *ids])


class Noted(NamedTuple):
    """How much has been written to a bucket's outbox, or was about to be."""

    events: int = 0
    size: int = 0


class Events:
    """The operations that an engine adds to its writes; none without an archive.

    `refusal`, when it is set, says why no more events are taken: writes then end in
    `StoreFullError` before they begin, but for those that remove something.
    """

    def __init__(self, *, wanted: bool = False) -> None:
        self.wanted = wanted
        self.refusal = ""
        self._noted: dict[int, list[int]] = {}

    def event(
        self, record: bytes, kind: About, *ids: str | None, of: Result | None = None
    ) -> tuple[Op, ...]:
        """One event; `of` is the record's place in its log."""
        return (_event((record,), self._head(record, kind, *ids), of),) if self.wanted else ()

    def several(self, items: Sequence[bytes], of: Result, *ids: str) -> tuple[Op, ...]:
        """An event for each message that one operation appends."""
        if not self.wanted:
            return ()
        if self.refusal:
            raise StoreFullError(self.refusal)
        head = header(About.SEVERAL, *ids)
        size = sum(map(len, items)) + len(items) * (len(head) + _STAMP_BYTES)
        self._note(ids[0], len(items), size)
        numbered = tuple(b"%d %s" % pair for pair in enumerate(items))
        return (_event(numbered, head, of),)

    def change(self, session_id: str, happened: str, values: dict[str, Any]) -> tuple[Op, ...]:
        """What happened to a session, with the values that it brought."""
        if not self.wanted:
            return ()
        return self.event(_json(values), About.SESSION, session_id, happened)

    def loose(self, record: bytes, kind: About, *ids: str) -> tuple[Op, ...]:
        """An event of what has no life in the store."""
        if not self.wanted:
            return ()
        stamps = (_NO_LIFE, _NO_SEQUENCE, NOW, self._head(record, kind, *ids))
        return (Append(OUTBOX, (record,), stamps),)

    # --- for plans ------------------------------------------------------------------------------

    def planned(self, record: Arg, head: Arg, of: Result | None = None) -> tuple[Op, ...]:
        """An event of which each call brings the record and the header."""
        return (_event((record,), head, of),) if self.wanted else ()

    def heads(self, record: bytes, kind: About, *ids: str | None) -> tuple[bytes, ...]:
        """The header for a call of such a plan."""
        return (self._head(record, kind, *ids),) if self.wanted else ()

    def changed(self, session_id: str, happened: str, values: dict[str, Any]) -> tuple[bytes, ...]:
        """The record and the header of a change."""
        if not self.wanted:
            return ()
        record = _json(values)
        return record, self._head(record, About.SESSION, session_id, happened)

    # --- for whoever ships them -----------------------------------------------------------------

    @property
    def has_noted(self) -> bool:
        """Whether anything was noted since `take_noted`."""
        return bool(self._noted)

    def take_noted(self) -> dict[int, Noted]:
        """What was noted since the last call, by bucket. The write itself may not be done yet."""
        noted, self._noted = self._noted, {}
        return {bucket: Noted(*sums) for bucket, sums in noted.items()}

    def _head(self, record: bytes, kind: About, *ids: str | None) -> bytes:
        head = header(kind, *ids)
        if self.refusal and not _ends(kind, ids):
            raise StoreFullError(self.refusal)
        self._note(ids[0] or "", 1, len(record) + len(head) + _STAMP_BYTES)
        return head

    def _note(self, name: str, events: int, size: int) -> None:
        noted, bucket = self._noted, session_place(name)[0]
        known = noted.get(bucket)
        if known is None:
            noted[bucket] = [events, size]
        else:
            known[0] += events
            known[1] += size


def _ends(kind: About, ids: tuple[str | None, ...]) -> bool:
    return kind in _ENDINGS or (kind is About.SESSION and ids[-1] in _ENDS)


def _event(records: tuple[bytes | Arg, ...], head: bytes | Arg, of: Result | None) -> Append:
    return Append(OUTBOX, records, (INCARNATION, of or _NO_SEQUENCE, NOW, head))


def told(item: bytes) -> Told:
    """The event of an item of an outbox; `CorruptRecordError` for anything else."""
    line, _, record = item.partition(b"\n")
    try:
        incarnation, sequence, now, head = line.split(b" ", _STAMPS - 1)
        kind, ids = _read_header(head)
        place = 0
        if kind is About.SEVERAL:
            kind = About.MESSAGE if len(ids) == 1 else About.AGENT_MESSAGE
            counted, _, record = record.partition(b" ")
            place = int(counted)
        number, moment = int(sequence) + place, int(now)
        return Told(kind, ids, incarnation.decode(), number, moment, record)
    except ValueError:
        raise CorruptRecordError("stored value is no event") from None


def packed_parts(parts: Mapping[str, bytes]) -> bytes:
    """The record of an event that tells of parts, by name."""
    return _pack(parts)


def parts_in(record: bytes) -> dict[str, bytes]:
    """The parts in such a record; `CorruptRecordError` for anything else."""
    try:
        return _unpack(record)
    except msgspec.MsgspecError:
        raise CorruptRecordError("stored value holds no parts") from None


@lru_cache(maxsize=65_536)
def _read_header(head: bytes) -> tuple[About, tuple[str | None, ...]]:
    name, *ids = _header(head)
    return About(name or ""), tuple(ids)
