"""What the outbox of a session's bucket holds of it: acknowledged, and not in the archive yet."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from aiecs.core.cold import ColdMessage, Life
from aiecs.core.erasure import GONE, GONE_BY, Erasure, erasure_of, name_of
from aiecs.core.errors import CorruptRecordError
from aiecs.core.events import OUTBOX, About, Told, told
from aiecs.core.interface.store import Batch, Get, LogSlice, Read
from aiecs.core.keys import bucket_of
from aiecs.domain.context.runtime import Runtime

_MOST = 2_000
_GONE = "deleted"
_values = msgspec.json.Decoder(dict[str, Any]).decode


class Unshipped(NamedTuple):
    """`next` is the outbox's next sequence; as long as it is the same, nothing has happened.

    `erasure`: what was deleted of the session lately. `whole`: the outbox holds nothing older than
    what was looked at.
    """

    next: int
    whole: bool
    erasure: Erasure | None
    lives: dict[str, Life]
    messages: list[ColdMessage]


async def unshipped(runtime: Runtime, session_id: str) -> Unshipped:
    """The newest 2,000 events of the bucket, as far as they are about this session."""
    name = name_of("session", session_id)
    ops = (Read(OUTBOX, limit=_MOST), Get(GONE, (name,)), Get(GONE_BY, (name,)))
    log: LogSlice
    log, (gone,), (owner,) = await runtime.read(Batch(bucket_of(session_id), "", ops))
    erasure = None if gone is None else erasure_of(name, gone, owner)
    found = Unshipped(log.next, log.first <= log.base, erasure, {}, [])
    for item in log.items:
        try:
            event = told(item)
        except CorruptRecordError:  # the shipper sets it aside
            continue
        if event.ids[0] == session_id and event.record:
            _take(found, event)
    return found


def _take(found: Unshipped, event: Told) -> None:
    life = found.lives.get(event.incarnation, Life(event.incarnation))
    if event.kind is About.MESSAGE:
        found.messages.append(ColdMessage(event.incarnation, event.sequence, event.record))
    elif event.kind is About.SESSION:
        user = str(_values(event.record).get("user_id") or life.user_id)
        gone = life.gone or event.ids[1] == _GONE
        life = Life(event.incarnation, user, gone)
    else:
        return
    found.lives[event.incarnation] = life
