"""Deletions that reach into the archive."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from contextlib import suppress

from aiecs.core.archiving import Archiving
from aiecs.core.erasure import GONE, GONE_BY, KEPT_SECONDS, Erasure, Subject, erasure_of, name_of
from aiecs.core.errors import ArchiveError, ArchiveRowError, SessionNotFoundError
from aiecs.core.events import About
from aiecs.core.interface.store import (
    Batch,
    Clock,
    Get,
    GuardFailed,
    Op,
    Put,
    RequireEquals,
    RequireExists,
)
from aiecs.core.keys import bucket_of, session_place
from aiecs.domain.context.groups import DELETED, erased
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.session_record import ARCHIVED

_SECONDS = 10.0
_TOLD: dict[Subject, tuple[bytes, About]] = {
    "session": (b"{}", About.SESSION),
    "thread": (b"{}", About.THREAD),
    "user": (b"", About.USER),
}

Name = tuple[Subject, str]


async def not_erased(runtime: Runtime, session_id: str) -> tuple[Op, ...]:
    """The guard of a session that comes to life by being written to.

    `SessionNotFoundError` when it was deleted within the last ten minutes: what is written late
    must not bring it back.
    """
    name = name_of("session", session_id)
    ops = (Get(GONE, (name,)), Get(GONE_BY, (name,)), Clock())
    (gone,), (owner,), now = await runtime.read(Batch(bucket_of(session_id), "", ops))
    if gone is not None and owner is None and now - int(gone) < KEPT_SECONDS * 1_000_000:
        raise SessionNotFoundError(
            f"session {session_id!r} was deleted: create_session brings it back"
        )
    return (RequireEquals(GONE, name, gone),)


class Erasures:
    """Waits for the archive to have lost what was deleted, and finds what only it has."""

    def __init__(self, runtime: Runtime, archiving: Archiving) -> None:
        self._runtime = runtime
        self._archiving = archiving

    async def finish(self, names: Iterable[Name]) -> int | None:
        """How many rows of these the archive held; None when they are not out of it yet."""
        found = [one for name in names for one in await self._requested(*name)]
        return await self._archiving.erase(found, _SECONDS) if found else 0

    async def request(self, subject: Subject, id_: str, owner: str = "") -> None:
        """Have something erased that the hot store does not hold, or not of that owner."""
        record, kind = _TOLD[subject]
        told = self._runtime.events.loose(record, kind, id_, DELETED)
        ops = (*erased(self._runtime, subject, id_, owner), *told)
        await self._runtime.apply(Batch(bucket_of(id_), "", ops))
        if subject == "session" and owner:
            await self._look_again(id_)

    async def of_user(self, user_id: str) -> list[str] | None:
        """The sessions of which the archive has a life of this user; None when it cannot tell."""
        reader = self._archiving.reader
        if reader is None:
            return []
        try:
            with suppress(ArchiveRowError):  # what was set aside will not arrive by waiting
                await self._archiving.barrier(None, _SECONDS)
            return await reader.sessions_of(user_id, _SECONDS)
        except ArchiveError:
            return None

    async def _look_again(self, session_id: str) -> None:
        """A session that lives on forgets what it knew of earlier lives."""
        mark = Put("", {ARCHIVED: secrets.token_hex(4).encode()})
        with suppress(GuardFailed):
            ops = (RequireExists(""), mark)
            await self._runtime.apply(Batch(*session_place(session_id), ops))

    async def _requested(self, subject: Subject, id_: str) -> list[Erasure]:
        name = name_of(subject, id_)
        ops = (Get(GONE, (name,)), Get(GONE_BY, (name,)))
        (until,), (owner,) = await self._runtime.read(Batch(bucket_of(id_), "", ops))
        return [] if until is None else [erasure_of(name, until, owner)]
