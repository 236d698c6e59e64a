"""One caller's questions to the archive about one session: within a deadline, few of them."""

from __future__ import annotations

import asyncio
from itertools import count

from aiecs.core.cold import ColdMessage, ColdReader, Life, Wanted

_PATIENCE = 20
"""So many times longer is waited for by callers who would rather have an error than a gap."""
_PAGE = 1_000


def patience(timeout: float, *, insist: bool) -> float:
    """Seconds to wait."""
    return timeout * _PATIENCE if insist else timeout


class Asked:
    """`since` is where the caller has seen the outbox begin; see `ColdReader`.

    Everything raises an `ArchiveError` when the archive does not answer.
    """

    def __init__(self, reader: ColdReader, since: int, timeout: float, *, insist: bool) -> None:
        self._reader = reader
        self._since = since
        self._insist = insist
        self._timeout = timeout
        self._deadline = asyncio.get_running_loop().time() + patience(timeout, insist=insist)
        #: What was asked before it was known which lives may be shown.
        self._guess: tuple[Wanted, list[ColdMessage]] | None = None

    async def lives(self, guess: Wanted, limit: int | None) -> list[Life]:
        """Every incarnation of a session that the archive knows of.

        Beside that, messages of all of them are asked for: mostly all may be shown, and the second
        wait is saved.
        """
        guess = guess._replace(lives=None, limit=_page_of(limit, 0))
        name, left = guess.session_id, self._left()
        lives, page = await asyncio.gather(
            self._reader.lives(name, self._since, left, patient=self._insist),
            self._reader.messages(guess, self._since, left, patient=self._insist),
        )
        self._guess = guess, list(page)
        return lives

    async def messages(self, wanted: Wanted, limit: int | None) -> tuple[list[ColdMessage], bool]:
        """The messages, and whether there are no more of them. `limit=None`: page by page, all."""
        found: list[ColdMessage] = []
        for number in count():
            if not wanted.lives or (limit is not None and len(found) >= limit):
                return found, not wanted.lives
            wanted = wanted._replace(limit=_page_of(limit, len(found)))
            page = await self._page(wanted, is_first=not number)
            found = page + found if wanted.newest else found + page
            if len(page) < wanted.limit:
                return found, True
            if wanted.newest:
                wanted = wanted._replace(end_life=page[0][0], end_sequence=page[0][1])
            else:
                wanted = wanted._replace(start=page[-1][1] + 1)
        raise AssertionError

    async def _page(self, wanted: Wanted, *, is_first: bool) -> list[ColdMessage]:
        if self._guess is not None:
            (guess, page), self._guess = self._guess, None
            shown = wanted.lives or ()
            if guess._replace(lives=wanted.lives) == wanted and all(m[0] in shown for m in page):
                return page
        # Every further page may take its time.
        left = self._left() if is_first else patience(self._timeout, insist=True)
        return list(await self._reader.messages(wanted, self._since, left, patient=self._insist))

    def _left(self) -> float:
        return max(0.001, self._deadline - asyncio.get_running_loop().time())


def _page_of(limit: int | None, found: int) -> int:
    return _PAGE if limit is None else min(_PAGE, limit - found)
