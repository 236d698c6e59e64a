"""What the archive is told of a thread: each record with whatever is new in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from aiecs.core.events import About, Events, packed_parts
from aiecs.core.interface.store import Op
from aiecs.domain.context.thread_state import records
from aiecs.domain.context.thread_state.names import parts_of

_BYTES_AT_ONCE = 1024 * 1024
_PARTS_AT_ONCE = 500

Row = tuple[str, bytes | None, bytes | None]


class Telling:
    """The events that go with the writes to threads; none without an archive."""

    def __init__(self, events: Events) -> None:
        self._events = events

    def checkpoint(
        self, thread_id: str, member: str, content: records.Content, session_id: str | None
    ) -> tuple[Op, ...]:
        """A checkpoint, and what is new in it."""
        if not self._events.wanted:
            return ()
        ids = (thread_id, *parts_of(member), session_id, content.origin)
        event = self._events.event(content.record, About.GRAPH, *ids)
        return (*self.parts(thread_id, content.parts), *event)

    def writes(self, thread_id: str, member: str, content: records.Content) -> tuple[Op, ...]:
        """Writes for a checkpoint, and what is new in them."""
        if not self._events.wanted:
            return ()
        ids = (thread_id, *parts_of(member), content.origin or "")
        event = self._events.event(content.record, About.GRAPH_WRITES, *ids)
        return (*self.parts(thread_id, content.parts), *event)

    def copied(
        self, thread_id: str, rows: Sequence[Row], session_id: str | None = None
    ) -> Iterator[Op]:
        """Checkpoints and writes that come from another thread; their parts were told before."""
        for member, record, writes in rows if self._events.wanted else ():
            ids = (thread_id, *parts_of(member))
            if record is not None:
                parent = records.unpack(record)[0].parent
                yield from self._events.event(record, About.GRAPH, *ids, session_id, parent)
            if writes is not None:
                yield from self._events.event(writes, About.GRAPH_WRITES, *ids, "")

    def removed(self, thread_id: str, members: Sequence[str]) -> Iterator[Op]:
        """Checkpoints that somebody wanted gone; those that only make room are not told."""
        for member in members if self._events.wanted else ():
            ids = (thread_id, *parts_of(member))
            yield from self._events.event(b"{}", About.GRAPH_REMOVED, *ids)

    def parts(self, thread_id: str, parts: Mapping[str, bytes]) -> tuple[Op, ...]:
        """What records refer to."""
        if not self._events.wanted:
            return ()
        return tuple(
            op
            for some in of_size(parts, _BYTES_AT_ONCE, _PARTS_AT_ONCE)
            for op in self._events.event(packed_parts(some), About.GRAPH_PARTS, thread_id)
        )


def of_size(parts: Mapping[str, bytes], size: int, count: int) -> Iterator[dict[str, bytes]]:
    """The parts in groups of about so many bytes, and at most so many parts."""
    some: dict[str, bytes] = {}
    total = 0
    for name, content in parts.items():
        if some and (total + len(content) > size or len(some) >= count):
            yield some
            some, total = {}, 0
        some[name] = content
        total += len(content)
    if some:
        yield some
