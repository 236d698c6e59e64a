"""What the outbox of a session's bucket holds of it: acknowledged, and not in the archive yet."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import msgspec

from aiecs.core.cold import ColdMessage, Life
from aiecs.core.erasure import GONE, GONE_BY, Erasure, erasure_of, name_of
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
    name, bucket = name_of("session", session_id), bucket_of(session_id)
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
    found = Unshipped(next_, log.base, whole, erasure, {}, set(), [])
    for item in items:
        try:
            event = told(item)
        except CorruptRecordError:  # the shipper sets it aside
            continue
        if event.ids[0] == session_id and event.record:
            _take(found, event)
    return found


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
