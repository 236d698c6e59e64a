"""Deleting sessions, threads and everything of a user.

Each deletion is a plan over several partitions: threads first, then the session that leads to
them, index entries last. It can stop anywhere, by a crash or an error; the same call again finds
what is left and goes on. A write that comes meanwhile either goes with what is deleted or begins a
new session or thread of that name, which stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from aiecs.core.errors import CorruptRecordError
from aiecs.core.ids import check_id
from aiecs.core.interface.store import CorruptField, IndexRange
from aiecs.domain.context.groups import (
    linked_threads,
    read_session,
    read_thread,
    remove_session,
    remove_thread,
)
from aiecs.domain.context.indexes import drop_stale, entries, sessions_of, store_time
from aiecs.domain.context.item_places import checked_prefixes
from aiecs.domain.context.items import Items
from aiecs.domain.context.models import DeletionReport

if TYPE_CHECKING:
    from aiecs.domain.context.erasures import Erasures, Name
    from aiecs.domain.context.runtime import Runtime

_AT_ONCE = 25


class Deletions:
    """Removes what it is told to, expired or not, and reports it.

    Counts are those of the moment of deletion; a call that goes on after a crash counts only what
    it removed itself. Raises `StoreError` when the store is down.
    """

    def __init__(self, runtime: Runtime, erasures: Erasures | None = None) -> None:
        self._runtime = runtime
        self._erasures = erasures

    async def delete_session(self, session_id: str) -> DeletionReport:
        """Remove a session: messages, task context, agent conversations, its threads.

        Its threads are the linked ones and the one of the same name, unless that is linked to
        another session. An unknown session: nothing but that thread.
        """
        check_id(session_id, "session_id")
        names: list[Name] = [("session", session_id)]
        removed = await self._session(session_id, None, names)
        if self._erasures is not None and not removed.sessions:
            await self._erasures.request("session", session_id)
        return await self._finished(removed, names)

    async def delete_thread(self, thread_id: str) -> DeletionReport:
        """Remove a thread with its checkpoints and writes, in one batch."""
        check_id(thread_id, "thread_id")
        removed = None
        while removed is None:
            thread = await read_thread(self._runtime, thread_id)
            if thread is None:
                removed = DeletionReport()
                if self._erasures is not None:
                    await self._erasures.request("thread", thread_id)
                break
            removed = await remove_thread(self._runtime, thread)
        return await self._finished(removed, [("thread", thread_id)])

    async def delete_user(
        self, user_id: str, namespaces: Iterable[Sequence[str]] = ()
    ) -> DeletionReport:
        """Remove every session that belongs to a user, as `delete_session` does; items too.

        Afterwards nothing of the content is left. Names of the sessions stay in the user's index
        until they are ten minutes old; listing or deleting the user again drops them then.
        `CorruptRecordError`, after everything else is gone, for sessions that are too damaged to
        be removed.
        """
        check_id(user_id, "user_id")
        prefixes = checked_prefixes(namespaces)
        damaged: list[str] = []
        names: list[Name] = []
        place = (sessions_of(user_id),)
        total, page = DeletionReport(), IndexRange("_", limit=_AT_ONCE)
        while found := await entries(self._runtime, place, page):
            now = await store_time(self._runtime)
            work = (self._owned(entry.member, user_id, names) for entry in found)
            # No one is left running when another fails: the caller may try again at once.
            reports = await asyncio.gather(*work, return_exceptions=True)
            gone = []
            for entry, report in zip(found, reports, strict=True):
                if isinstance(report, CorruptField):
                    damaged.append(entry.member)
                elif isinstance(report, BaseException):
                    raise report
                else:
                    total += report
                    gone.append(entry)
            await drop_stale(self._runtime, gone, now)
            page = page._replace(cursor=found[-1][:2])
        items = Items(self._runtime)
        total += DeletionReport(items=sum([await items.clear(prefix) for prefix in prefixes]))
        total = await self._archived_of(total, user_id, names)
        if damaged:
            count, first = len(damaged), damaged[0]
            raise CorruptRecordError(f"{count} damaged sessions are left, the first is {first!r}")
        return total

    async def _archived_of(
        self, removed: DeletionReport, user_id: str, names: list[Name]
    ) -> DeletionReport:
        """Erase what the archive has of a user too.

        The request for all of it stands first: it outlasts an archive that is down.
        """
        if self._erasures is None:
            return removed
        await self._erasures.request("user", user_id)
        archived = await self._erasures.of_user(user_id)
        known = set(names)
        for session_id in archived or ():
            if ("session", session_id) not in known:
                await self._erasures.request("session", session_id, user_id)
                names.append(("session", session_id))
        names.append(("user", user_id))
        return await self._finished(removed, names)

    async def _finished(self, removed: DeletionReport, names: list[Name]) -> DeletionReport:
        """Wait for the archive, but not for ever."""
        if self._erasures is None:
            return removed
        rows = await self._erasures.finish(names)
        return replace(removed, archived_rows=rows or 0, complete=rows is not None)

    async def _owned(self, session_id: str, user_id: str, names: list[Name]) -> DeletionReport:
        removed = await self._session(session_id, user_id, names)
        if removed.sessions:
            names.append(("session", session_id))
        await asyncio.sleep(0)  # a store in memory never yields by itself
        return removed

    async def _session(
        self, session_id: str, owner: str | None, names: list[Name]
    ) -> DeletionReport:
        """Delete a session, only one of `owner` if that is given; its threads' names are added."""
        total = DeletionReport()
        while True:
            group = await read_session(self._runtime, session_id)
            if owner is not None and (group is None or group.user_id != owner):
                return total
            links = () if group is None else group.threads
            total += await self._threads(session_id, links, names)
            if group is None:
                return total
            removed = await remove_session(self._runtime, group)
            if removed is not None:
                return total + removed

    async def _threads(
        self, session_id: str, links: tuple[str, ...], names: list[Name]
    ) -> DeletionReport:
        total = DeletionReport()
        for thread in await linked_threads(self._runtime, session_id, links):
            removed = await remove_thread(self._runtime, thread)
            names.append(("thread", thread.thread_id))
            total += removed or DeletionReport()
        return total
