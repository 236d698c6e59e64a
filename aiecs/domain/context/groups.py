"""Sessions and threads as groups of keys: what belongs to one, and how one is removed.

The only place that lists the keys of a group. A removal reads the group first (`read_session`,
`read_thread`) and then tries once to remove exactly that (`remove_session`, `remove_thread`): what
was written in between makes the attempt fail, and the caller looks again. So a concurrent write
either goes with the group or survives whole in a new incarnation.

`retire_session` and `retire_thread` remove what nobody uses any more, `make_room` what stands in
the way of a new session. Totals are settled here; entries in the advisory indexes are left to
whoever walks these, for only there their scores are known.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from aiecs.core.erasure import GONE, GONE_BY, GONE_ROWS, name_of
from aiecs.core.events import About
from aiecs.core.interface import store as port
from aiecs.core.keys import session_place, thread_place
from aiecs.domain.context.models import DeletionReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from aiecs.core.erasure import Subject
    from aiecs.core.interface.store import Kind
    from aiecs.core.keys import Place
    from aiecs.domain.context.runtime import Runtime

_CHUNK = 900
_EXPIRED, DELETED = "expired", "deleted"
_RENEW_AFTER = 86_400_000_000
_CONTENT: tuple[tuple[Kind, str], ...] = (
    ("map", "t"),
    ("log", "m"),
    ("map", "a"),
    ("map", "k0"),
    ("map", "k1"),
)
_KEPT_FIELDS = frozenset({"~i", "~x", "u", "hn", "cn", "c", "l"})
_THREAD_KEYS: tuple[tuple[Kind, str], ...] = (
    ("map", "d"),
    ("index", "o"),
    ("map", "w"),
    ("index", "p"),
    ("map", "e"),
)


class Retired(NamedTuple):
    """`gone`: nothing is left, the index entries can go. `removed`: what this call removed.

    `user_id` is the owner of a session that is gone, "" for none or unknown.
    """

    gone: bool
    removed: DeletionReport = DeletionReport()
    user_id: str = ""


class SessionGroup(NamedTuple):
    """What a session's group held when it was read, alive or expired.

    `threads` are the ids of its linked threads (a superset: the thread's head decides), `holds`
    counts what a removal takes, `now` is the store's clock in microseconds.
    """

    session_id: str
    now: int
    head: dict[str, bytes]
    conversations: tuple[str, ...]
    threads: tuple[str, ...]
    holds: DeletionReport

    @property
    def user_id(self) -> str:
        """The owner, "" for none."""
        return self.head.get("u", b"").decode(errors="replace")

    def due(self, idle_before: int | None) -> bool:
        """Whether it has expired, or has had no write since `idle_before` (microseconds)."""
        return _due(self.head, self.now, idle_before)


class ThreadGroup(NamedTuple):
    """What a thread's group held when it was read, alive or expired."""

    thread_id: str
    now: int
    head: dict[str, bytes]
    holds: DeletionReport

    def due(self, idle_before: int | None) -> bool:
        """Whether it has expired, or has had no write since `idle_before` (microseconds)."""
        return _due(self.head, self.now, idle_before)

    def belongs_to(self, session_id: str) -> bool:
        """Whether it is linked to that session; an unlinked one belongs to its namesake."""
        linked = self.head.get("s")
        return self.thread_id == session_id if linked is None else linked == session_id.encode()


def field_of(name: str) -> str:
    """An id as a field of a map: itself, unless it begins like a field of the store's own."""
    return f":{name}" if name[0] in "~:" else name


def id_of(field: str) -> str:
    """The id that `field_of` was given."""
    return field.removeprefix(":")


def conversation_log(conversation: str) -> str:
    """The key of the log of an agent conversation; `conversation` is its field in map `a`."""
    return f"a/{conversation}"


def session_keys(conversations: Iterable[str] = ()) -> tuple[tuple[Kind, str], ...]:
    """Kind and key of everything in a session's group but its head."""
    return (*_CONTENT, ("map", "h"), *_logs(conversations))


def thread_keys() -> tuple[tuple[Kind, str], ...]:
    """Kind and key of everything in a thread's group but its head."""
    return _THREAD_KEYS


# --- sessions -----------------------------------------------------------------------------------


async def read_session(runtime: Runtime, session_id: str) -> SessionGroup | None:
    """What there is of a session, expired or not; None for nothing.

    Its counts leave out logs whose bounds are corrupt. Where the map of conversations or of links
    is no map, there are none that anybody could name.
    """
    place = session_place(session_id)
    parts = (port.Get("a"), port.Get("h"), _length("m"))
    try:
        now, head, records, links, log = await _read(
            runtime, place, (port.Clock(), port.Get(""), *parts)
        )
    except port.CorruptField:
        now, head = await _read(runtime, place, (port.Clock(), port.Get("")))
        records, links, log = [await _sound(runtime, place, part) for part in parts]
    messages = log.next - log.base if log else 0
    if "~i" not in head:
        return None
    conversations = tuple(records)
    threads = tuple(map(id_of, links))
    messages += await _agent_messages(runtime, place, conversations)
    alone = 0 if "gone" in head else 1
    holds = DeletionReport(sessions=alone, messages=messages, conversations=len(conversations))
    return SessionGroup(session_id, now, head, conversations, threads, holds)


async def remove_session(
    runtime: Runtime, group: SessionGroup, *guards: port.Guard, happened: str = DELETED
) -> DeletionReport | None:
    """Remove a session as it was read; None when that failed because it has changed since.

    Guards: incarnation, number of agent conversations and of links, then the caller's. One batch,
    but for sessions with more than 900 conversations: those go first, in chunks. The engine's
    totals follow.
    """
    ends = (port.Delete("h"), port.Delete(""))
    return await _remove(runtime, group, guards, ends, happened)


async def retire_session(
    runtime: Runtime, session_id: str, *, idle_before: int | None = None
) -> Retired:
    """Remove a session that has expired or has had no write since `idle_before` (microseconds).

    Linked threads that are due by the same measure go first. While another one lives, the session
    stays: one that has expired loses its content and keeps its head (owner) and links, any other
    is left alone.
    """
    group = await read_session(runtime, session_id)
    if group is None:
        return Retired(gone=True)
    if not group.due(idle_before):
        return Retired(gone=False)
    removed, lives = await _retire_linked(runtime, group, idle_before)
    if not lives:
        gone = await remove_session(runtime, group, *_untouched(group.head), happened=_EXPIRED)
        removed += gone or DeletionReport()
        return Retired(gone is not None, removed, group.user_id)
    if group.due(None):
        await _keep_owner(runtime, group)
    return Retired(gone=False, removed=removed)


async def _keep_owner(runtime: Runtime, group: SessionGroup) -> None:
    """Let head and links of an expired session outlive its content, marked `gone`."""
    still = port.Expire(1, (("map", "h"),))  # expired as before, its safety net renewed
    if "gone" not in group.head:
        ends = (port.Put("", {"gone": b"1"}), still)
        await _remove(runtime, group, _untouched(group.head), ends, _EXPIRED)
    elif group.now - (_number(group.head.get("~x")) or 0) > _RENEW_AFTER:
        with suppress(port.GuardFailed):
            ops = (*_unchanged(group.head, "~i", "~x"), still)
            await _write(runtime, session_place(group.session_id), ops)


async def make_room(runtime: Runtime, session_id: str) -> None:
    """Do away with what an expired session left, so that its id can be used again.

    It is removed as `retire_session` does. If a linked thread lives on, the session comes back to
    life instead, in the same batch: empty, created now, with its owner and its links.
    """
    group = await read_session(runtime, session_id)
    if group is None or not group.due(None):
        return
    _, lives = await _retire_linked(runtime, group, None)
    if not lives:
        await remove_session(runtime, group, *_untouched(group.head), happened=_EXPIRED)
        return
    old = tuple(name for name in group.head if name not in _KEPT_FIELDS)
    parts = (old[at : at + _CHUNK] for at in range(0, len(old), _CHUNK))
    forget: list[port.Op] = [port.Delete("", part) for part in parts]
    born = port.Put("", {"c": port.NOW, "l": port.NOW})
    ends = (*forget, born, port.Expire(runtime.session_ttl, (("map", "h"),)))
    if await _remove(runtime, group, _untouched(group.head), ends, "emptied") is not None:
        runtime.counters.add("sessions", 1)


async def _remove(
    runtime: Runtime,
    group: SessionGroup,
    guards: Sequence[port.Guard],
    ends: tuple[port.Op, ...],
    happened: str,
) -> DeletionReport | None:
    """Remove a session's content; `ends` is what becomes of head and links."""
    place = session_place(group.session_id)
    checks = (*_unchanged(group.head, "~i", "cn", "hn"), *guards)
    rest = group.conversations
    try:
        while len(rest) > _CHUNK:
            ops = (port.Delete("a", rest[:_CHUNK]), *_deletes(_logs(rest[:_CHUNK])))
            await _write(runtime, place, (*checks, *ops))
            rest = rest[_CHUNK:]
        told = runtime.events.change(group.session_id, happened, {})
        if happened == DELETED:
            told += erased(runtime, "session", group.session_id)
        ops = (*_deletes(_CONTENT), *_deletes(_logs(rest)), *ends, *told)
        results = await _write(runtime, place, (*checks, *ops))
    except port.GuardFailed:
        return None
    contexts = results[len(checks)] if results else 0
    removed = group.holds + DeletionReport(task_contexts=contexts)
    runtime.counters.subtract(removed, ended=removed.sessions if "st" in group.head else 0)
    return removed


async def linked_threads(
    runtime: Runtime, session_id: str, links: tuple[str, ...]
) -> list[ThreadGroup]:
    """A session's threads, expired or not: those of `links` that are its own, and its namesake."""
    found = []
    for thread_id in dict.fromkeys((*links, session_id)):
        thread = await read_thread(runtime, thread_id)
        if thread is not None and thread.belongs_to(session_id):
            found.append(thread)
    return found


async def _retire_linked(
    runtime: Runtime, group: SessionGroup, idle_before: int | None
) -> tuple[DeletionReport, bool]:
    """What was removed, and whether a thread lives on."""
    removed, lives = DeletionReport(), False
    for thread in await linked_threads(runtime, group.session_id, group.threads):
        retired = await _retire(runtime, thread, idle_before)
        removed, lives = removed + retired.removed, lives or not retired.gone
    return removed, lives


async def _agent_messages(runtime: Runtime, place: Place, conversations: Sequence[str]) -> int:
    total = 0
    for start in range(0, len(conversations), _CHUNK):
        names = conversations[start : start + _CHUNK]
        lengths = tuple(_length(conversation_log(name)) for name in names)
        with suppress(port.CorruptField):
            total += sum(log.next - log.base for log in await _read(runtime, place, lengths))
    return total


# --- threads ------------------------------------------------------------------------------------


async def read_thread(runtime: Runtime, thread_id: str) -> ThreadGroup | None:
    """What there is of a thread, expired or not; None for nothing. A corrupt order counts 0."""
    place, ops = thread_place(thread_id), (port.Clock(), port.Get(""))
    try:
        now, head, checkpoints = await _read(runtime, place, (*ops, port.IndexCount("o")))
    except port.CorruptField:
        now, head = await _read(runtime, place, ops)
        checkpoints = 0
    if "~i" not in head:
        return None
    of_graphs, writes = _number(head.get("gn")) or 0, _number(head.get("wn")) or 0
    holds = DeletionReport(threads=1, checkpoints=checkpoints + of_graphs, writes=writes)
    return ThreadGroup(thread_id, now, head, holds)


async def remove_thread(
    runtime: Runtime, thread: ThreadGroup, *guards: port.Guard, happened: str = DELETED
) -> DeletionReport | None:
    """Remove a thread in one batch; None when that failed because it has changed since.

    Guards: incarnation and session, then the caller's. The engine's totals follow.
    """
    checks = (*_unchanged(thread.head, "~i", "s"), *guards)
    told = runtime.events.event(b"{}", About.THREAD, thread.thread_id, happened)
    if happened == DELETED:
        told += erased(runtime, "thread", thread.thread_id)
    ops = (*_deletes(_THREAD_KEYS), port.Delete(""), *told)
    try:
        await _write(runtime, thread_place(thread.thread_id), (*checks, *ops))
    except port.GuardFailed:
        return None
    runtime.counters.subtract(thread.holds)
    return thread.holds


async def retire_thread(
    runtime: Runtime, thread_id: str, *, idle_before: int | None = None
) -> Retired:
    """Remove a thread that has expired or has had no write since `idle_before` (microseconds)."""
    thread = await read_thread(runtime, thread_id)
    return Retired(gone=True) if thread is None else await _retire(runtime, thread, idle_before)


async def _retire(runtime: Runtime, thread: ThreadGroup, idle_before: int | None) -> Retired:
    if not thread.due(idle_before):
        return Retired(gone=False)
    removed = await remove_thread(runtime, thread, *_untouched(thread.head), happened=_EXPIRED)
    return Retired(gone=False) if removed is None else Retired(gone=True, removed=removed)


def erased(runtime: Runtime, subject: Subject, id_: str, owner: str = "") -> tuple[port.Op, ...]:
    """What makes a deletion reach into the archive: everything of before, or of that owner."""
    if not runtime.events.wanted:
        return ()
    name = name_of(subject, id_)
    by = port.Put(GONE_BY, {name: owner.encode()}) if owner else port.Delete(GONE_BY, (name,))
    return (port.Put(GONE, {name: port.NOW}), by, port.Delete(GONE_ROWS, (name,)))


# --- batches ------------------------------------------------------------------------------------


async def _read(runtime: Runtime, place: Place, ops: tuple[port.Op, ...]) -> list[Any]:
    return await runtime.read(port.Batch(*place, ops, raw=True))


async def _sound(runtime: Runtime, place: Place, op: port.Op) -> Any:
    """The result of one operation; nothing for what is corrupt."""
    with suppress(port.CorruptField):
        return (await _read(runtime, place, (op,)))[0]
    runtime.note_corrupt("group", place.group)
    return ()


async def _write(runtime: Runtime, place: Place, ops: tuple[port.Op, ...]) -> list[Any] | None:
    return await runtime.apply(port.Batch(*place, ops, raw=True))


def _unchanged(head: dict[str, bytes], *fields: str) -> list[port.Guard]:
    return [port.RequireEquals("", field, head.get(field)) for field in fields]


def _untouched(head: dict[str, bytes]) -> list[port.Guard]:
    return _unchanged(head, "l", "~x")


def _logs(conversations: Iterable[str]) -> Iterator[tuple[Kind, str]]:
    return (("log", conversation_log(name)) for name in conversations)


def _deletes(keys: Iterable[tuple[Kind, str]]) -> Iterator[port.Op]:
    return (port.Delete(key, kind=kind) for kind, key in keys)


def _length(log: str) -> port.Read:
    return port.Read(log, start=port.MAX_INTEGER, limit=1)


def _due(head: dict[str, bytes], now: int, idle_before: int | None) -> bool:
    expires, last = _number(head.get("~x")), _number(head.get("l"))
    expired = expires is not None and expires <= now
    return expired or (idle_before is not None and last is not None and last <= idle_before)


def _number(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() else None
