"""Idempotency keys: the last 1,000 of a session, in two generations of 1,000.

Head field `kn` counts the keys ever stored. A key lies in map `k0` or `k1`, by the thousand that it
was counted in; the one that completes a thousand removes the other map, in the same batch, so that
the next thousand begins empty. Which map that is, is assumed from what this process saw last, and
guarded: a wrong assumption costs one more round trip.
"""

from __future__ import annotations

from contextlib import suppress
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from aiecs.core.errors import ConflictError, CorruptRecordError
from aiecs.core.interface.store import (
    NOW,
    Batch,
    Delete,
    Get,
    GuardFailed,
    Incr,
    Op,
    Put,
    RequireAtMost,
    RequireEquals,
)
from aiecs.core.interface.value_rules import parse_integer
from aiecs.core.keys import session_place
from aiecs.domain.context.messages import StoredMessage, repaired
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.sessions import Sessions

KEPT = 1_000
_ATTEMPTS = 64
_REMEMBERED = 4_096

_encode = msgspec.json.Encoder().encode


class Once(NamedTuple):
    """What a caller must not write twice: its key, and a digest of what is written under it."""

    key: str
    digest: bytes


def digest_of(messages: list[StoredMessage]) -> bytes:
    """16 bytes of everything in the messages but their ids and times."""
    try:
        return blake2b(_encode(_content(messages)), digest_size=16).digest()
    except UnicodeEncodeError:
        return digest_of([repaired(message) for message in messages])


def _content(messages: list[StoredMessage]) -> list[list[Any]]:
    return [[getattr(message, name) for name in _CONTENT] for message in messages]


_CONTENT = [n for n in StoredMessage.__struct_fields__ if n not in ("id", "timestamp")]


class IdempotentWrites:
    """Writes to sessions that happen once per key."""

    def __init__(self, runtime: Runtime, sessions: Sessions) -> None:
        self._runtime = runtime
        self._sessions = sessions
        self._counts: dict[str, int] = {}

    async def apply(self, session_id: str, once: Once, ops: tuple[Op, ...]) -> list[object] | None:
        """The results of `ops`, or None when they were written under this key before.

        `ConflictError` when something else was written under it.
        """
        count = self._counts.get(session_id)
        for _ in range(_ATTEMPTS):
            if count is None:
                count = await self._look(session_id, once)
                if count < 0:
                    await self._confirm(session_id)
                    return None
            try:
                results = await self._sessions.apply(session_id, ops + _claim(once, count))
            except GuardFailed:
                count = None
                continue
            self._remember(session_id, count + 1)
            return results or []
        raise ConflictError(f"session {session_id!r} takes too many idempotency keys at once")

    async def _look(self, session_id: str, once: Once) -> int:
        """How many keys there have been, -1 when this one is among those kept."""
        fields = (once.key,)
        ops = (Get("", ("kn",)), Get("k0", fields), Get("k1", fields))
        (count,), first, second = await self._sessions.read(session_id, *ops)
        for found in (*first, *second):
            if found == once.digest:
                return -1
            if found is not None:
                raise ConflictError("this idempotency key belongs to other content")
        known = parse_integer(count or b"0")
        if known is None:
            raise CorruptRecordError(f"session {session_id!r}: its count of keys is corrupt")
        return known

    async def _confirm(self, session_id: str) -> None:
        """Make what was read as durable as a write: the store answers no refusal before that."""
        ops = (RequireEquals("", "kn", None), Put("", {"l": NOW}))
        with suppress(GuardFailed):
            await self._runtime.apply(Batch(*session_place(session_id), ops))

    def _remember(self, session_id: str, count: int) -> None:
        if len(self._counts) >= _REMEMBERED:
            self._counts.clear()
        self._counts[session_id] = count


def _claim(once: Once, count: int) -> tuple[Op, ...]:
    """Store a key as number `count` + 1, provided that it is new and the count is as assumed."""
    generation = count // KEPT % 2
    here, other = f"k{generation}", f"k{1 - generation}"
    last_of_its_thousand = (count + 1) % KEPT == 0
    guard: Op = RequireAtMost("", "kn", count // KEPT * KEPT + KEPT - 2)
    if count == 0 or last_of_its_thousand:
        guard = RequireEquals("", "kn", b"%d" % count if count else None)
    claim = (
        guard,
        Put(here, {once.key: once.digest}, if_absent="abort"),
        RequireEquals(other, once.key, None),
        Incr("", {"kn": 1}),
    )
    return (*claim, Delete(other)) if last_of_its_thousand else claim
