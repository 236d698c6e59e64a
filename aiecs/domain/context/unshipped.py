"""What the outbox of a session's bucket holds of it: acknowledged, and not in the archive yet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from aiecs.core.cold import ColdMessage, Life
from aiecs.core.erasure import GONE, GONE_BY, Erasure, Subject, erasure_of, name_of
from aiecs.core.errors import CorruptRecordError
from aiecs.core.events import OUTBOX, About, Told, told
from aiecs.core.interface.store import Batch, Get, LogSlice, Read
from aiecs.core.keys import bucket_of
from aiecs.domain.context.runtime import Runtime

_FIRST_PAGE, _PAGE, _PAGE_BYTES = 100, 2_000, 4 * 1024 * 1024
_BORN, _GONE = "created", "deleted"
_values = msgspec.json.Decoder(dict[str, Any]).decode


class Unshipped(NamedTuple):
    """`next` is the outbox's next sequence; as long as it is the same, nothing has happened.

    `base` is its first one: whatever came before has left it. `whole`: it holds nothing older than
    what was looked at. `erasure`: what was deleted of the session lately. `sure`: the lives whose
    owner, or that they have none, stands in these events; of others only the archive knows it.
    """

    next: int
    base: int
    whole: bool
    erasure: Erasure | None
    lives: dict[str, Life]
    sure: set[str]
    messages: list[ColdMessage]


async def unshipped(runtime: Runtime, session_id: str, seconds: float) -> Unshipped:
    """The newest events of the bucket, as far as they are about this session.

    Page by page backwards, and no further page after so many seconds. What is shipped meanwhile is
    in the archive for whoever looks there afterwards.
    """
    lying = await lying_in_outbox(runtime, "session", session_id, seconds)
    found = Unshipped(lying.next, lying.base, lying.whole, lying.erasure, {}, set(), [])
    for event in lying.events:
        _take(found, event)
    return found


class Lying(NamedTuple):
    """What the outbox holds of a session or thread, the oldest first; see `Unshipped`."""

    next: int
    base: int
    whole: bool
    erasure: Erasure | None
    events: list[Told]


async def lying_in_outbox(runtime: Runtime, subject: Subject, id_: str, seconds: float) -> Lying:
    """The newest events of the bucket of a session or thread, as far as they are about it."""
    name, bucket = name_of(subject, id_), bucket_of(id_)
    ops = (Read(OUTBOX, limit=_FIRST_PAGE), Get(GONE, (name,)), Get(GONE_BY, (name,)))
    log: LogSlice
    log, (gone,), (owner,) = await runtime.read(Batch(bucket, "", ops))
    erasure = None if gone is None else erasure_of(name, gone, owner)
    items, next_, deadline = log.items, log.next, _now() + seconds
    while log.first > log.base and log.items and _now() < deadline:
        read = Read(OUTBOX, stop=log.first, limit=_next_size(log.items))
        (log,) = await runtime.read(Batch(bucket, "", (read,)))
        items = log.items + items
    whole = log.first <= log.base or not log.items
    return Lying(next_, log.base, whole, erasure, list(_events_of(subject, id_, items)))


def _events_of(subject: Subject, id_: str, items: Iterable[bytes]) -> Iterator[Told]:
    of_thread = subject == "thread"
    for item in items:
        with suppress(CorruptRecordError):  # the shipper sets it aside
            event = told(item)
            if event.ids[0] == id_ and event.record and bool(event.thread) == of_thread:
                yield event


async def erased_user(runtime: Runtime, user_id: str) -> Erasure | None:
    """The deletion of a user, if it was lately."""
    name = name_of("user", user_id)
    ((gone,),) = await runtime.read(Batch(bucket_of(user_id), "", (Get(GONE, (name,)),)))
    return None if gone is None else erasure_of(name, gone, None)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _next_size(items: list[bytes]) -> int:
    """How many events a page of about 4 MiB holds, going by the page before."""
    average = sum(map(len, items)) // len(items) + 1
    return max(1, min(_PAGE, _PAGE_BYTES // average))


def _take(found: Unshipped, event: Told) -> None:
    life = found.lives.get(event.incarnation, Life(event.incarnation))
    if event.kind is About.MESSAGE:
        found.messages.append(ColdMessage(event.incarnation, event.sequence, event.record))
    elif event.kind is About.SESSION:
        user = str(_values(event.record).get("user_id") or life.user_id)
        gone = life.gone or event.ids[1] == _GONE
        if user or event.ids[1] == _BORN:
            found.sure.add(event.incarnation)
        life = Life(event.incarnation, user, gone)
    else:
        return
    found.lives[event.incarnation] = life
