"""What the archive of the target is told of a group that is moved there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aiecs.core.events import About, Events
from aiecs.core.interface.store import Op
from aiecs.core.keys import unescape
from aiecs.domain.context.groups import id_of
from aiecs.domain.context.migration.parts import Fields, Group, Part
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.session_record import read_session
from aiecs.domain.context.thread_state.names import space_of
from aiecs.domain.context.thread_state.telling import Telling as ThreadTelling
from aiecs.domain.context.transfer.heads import told_session
from aiecs.domain.context.transfer_records import key_of

_GRAPHS = space_of(None)
_AGENTS = "a/"


class Telling:
    """The events of one group; none without an archive."""

    def __init__(
        self, runtime: Runtime, events: Events, group: Group, head: Mapping[str, bytes]
    ) -> None:
        self._runtime = runtime
        self._events = events
        self._threads = ThreadTelling(events)
        self._group = group
        self._head = head
        session = head.get("s")
        self._session = None if session is None else session.decode(errors="replace")

    def begin(self, *, is_new: bool) -> tuple[Op, ...]:
        """The session, as it is."""
        if not self._events.wanted or self._group.kind != "session" or "gone" in self._head:
            return ()
        found = read_session(self._runtime, self._group.name, dict(self._head))
        happened = "created" if is_new else "updated"
        return self._events.change(self._group.name, happened, told_session(found))

    def parts(self, part: Part) -> Iterator[tuple[tuple[Op, ...], int]]:
        """The events of what stands in maps, and about how many bytes each has."""
        if not self._events.wanted or not isinstance(part, Fields):
            return
        tell = {
            "session": self._of_session,
            "thread": self._of_thread,
            "namespace": _of_items,
        }[self._group.kind]
        for name, value in part.fields.items():
            yield tell(part.key, name, value), len(value) + len(name) + 100

    def ids(self, log: str) -> tuple[str, ...]:
        """What the events of a log's items name."""
        name = self._group.name
        if log.startswith(_AGENTS):
            return name, key_of(name, log.removeprefix(_AGENTS))
        return (name,)

    def _of_session(self, key: str, name: str, value: bytes) -> tuple[Op, ...]:
        session = self._group.name
        if key == "t":
            return self._events.event(value, About.CONTEXT, session)
        if key == "a":
            return self._events.event(value, About.CONVERSATION, session, key_of(session, name))
        return ()

    def _of_thread(self, key: str, name: str, value: bytes) -> tuple[Op, ...]:
        thread, event = self._group.name, self._events.event
        if key == "e":
            return self._threads.parts(thread, {name: value})
        if name.startswith(_GRAPHS):
            row = (name, value, None) if key == "d" else (name, None, value)
            return tuple(self._threads.copied(thread, [row], self._session))
        if key == "d":
            return event(value, About.CHECKPOINT, thread, id_of(name), self._session)
        checkpoint_id, _, task_id = id_of(name).partition("/")
        return event(value, About.WRITES, thread, unescape(checkpoint_id), unescape(task_id))


def _of_items(key: str, name: str, value: bytes) -> tuple[Op, ...]:
    """Items are not archived."""
    del key, name, value
    return ()
