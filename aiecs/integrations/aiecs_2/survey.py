"""What there is beside the rows of `sessions`: 2.2.0 lets rows expire that others belong to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aiecs.integrations.aiecs_2.agents import conversation_of, guess, is_between_agents
from aiecs.integrations.aiecs_2.client import Pages, Problem
from aiecs.integrations.aiecs_2.lines import lines_of, list_key
from aiecs.integrations.aiecs_2.rows import Corrupt, name_of, row_of
from aiecs.integrations.aiecs_2.threads import thread_of

SESSIONS, CONTEXTS, CONVERSATIONS = "sessions", "task_contexts", "conversation_sessions"

_LIST = list_key("").encode()


class Survey:
    """The names of conversations by session, of sessions without a row, and of threads."""

    def __init__(self, pages: Pages, on_problem: Problem) -> None:
        self._pages = pages
        self._on_problem = on_problem
        self._owners: dict[str, str] = {}
        self._talks: dict[str, list[str]] = {}
        self._untold: dict[str, None] = {}
        self._met: set[str] = set()
        self._threads: dict[str, None] = {}

    async def take(self) -> None:
        """Look at everything once."""
        async for page in self._pages.fields(CONVERSATIONS):
            for field, raw in page:
                self._note_conversation(field, raw)
        await self._add_untold(list(self._talks))
        async for page in self._pages.fields(CONTEXTS):
            await self._add_untold([*self._names(CONTEXTS, (field for field, _ in page))])
        async for keys in self._pages.keys():
            await self._note_lists(keys)
            await self._note_threads(keys)

    def owner_of(self, name: str) -> str:
        """The session that the conversation of this name belongs to, if there is one."""
        return self._owners.get(name, name)

    def talks_of(self, session_id: str) -> list[str]:
        """The names of a session's conversations between agents."""
        return self._talks.get(session_id, [])

    async def add_untold(self, name: str) -> None:
        """There are messages of a session that may have no row."""
        await self._add_untold([name])

    def untold(self) -> Iterator[str]:
        """The sessions without a row, those included that are added meanwhile."""
        while self._untold:
            session_id = next(iter(self._untold))
            del self._untold[session_id]
            self._met.add(session_id)
            yield session_id

    def threads(self) -> Iterator[str]:
        """The threads that are not named after a session; to be asked last."""
        return (thread_id for thread_id in self._threads if thread_id not in self._met)

    # --- conversations --------------------------------------------------------------------------

    def _note_conversation(self, field: bytes, raw: bytes) -> None:
        for name in self._names(CONVERSATIONS, [field]):
            try:
                self._own(name, conversation_of(row_of(raw)).session_id)
            except Corrupt as error:
                self._on_problem(f"{CONVERSATIONS} {name!r}", str(error))

    def _own(self, name: str, session_id: str) -> None:
        if name not in self._owners:
            self._owners[name] = session_id
            self._talks.setdefault(session_id, []).append(name)

    async def _note_lists(self, keys: list[bytes]) -> None:
        names = self._names("a list", (key[len(_LIST) :] for key in keys if key.startswith(_LIST)))
        unknown = [name for name in names if name not in self._owners]
        for name in await self._pages.missing(SESSIONS, unknown):
            session_id = await self._session_of(name)
            if session_id is not None:
                self._own(name, session_id)
            await self._add_untold([name if session_id is None else session_id])

    async def _session_of(self, name: str) -> str | None:
        """The session that the messages of a list say they belong to, None for none."""
        for line in await lines_of(self._pages, name, _ignore):
            found = guess(name, line) if is_between_agents(line) else None
            if found is not None:
                return found.session_id
        return None

    # --- sessions and threads -------------------------------------------------------------------

    async def _add_untold(self, names: list[str]) -> None:
        new = [name for name in names if name not in self._met]
        self._untold |= dict.fromkeys(await self._pages.missing(SESSIONS, new))

    async def _note_threads(self, keys: list[bytes]) -> None:
        found = [thread for thread in map(thread_of, keys) if thread is not None]
        names = list(self._names("a thread", found))
        self._threads |= dict.fromkeys(await self._pages.missing(SESSIONS, names))

    def _names(self, where: str, fields: Iterable[bytes]) -> Iterator[str]:
        for field in fields:
            try:
                yield name_of(field)
            except Corrupt as error:
                self._on_problem(where, str(error))


def _ignore(where: str, why: str) -> None:
    """What is wrong is told when the list is read to be imported."""
