"""Whose the sessions are that events tell of: for the rows' `user_id`, which no event holds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress

import msgspec

from aiecs.core.errors import CorruptRecordError
from aiecs.core.events import About, told
from aiecs.core.interface.store import Batch, Get, Store
from aiecs.core.keys import session_place
from aiecs.core.lru import SizedLru
from aiecs.infrastructure.persistence.archive.rows import Life, Shipped

_MOST = 200_000
_AT_ONCE = 64
_OWNED = (About.MESSAGE, About.AGENT_MESSAGE, About.CONTEXT)


class _Change(msgspec.Struct):
    user_id: str = ""


_change = msgspec.json.Decoder(_Change).decode


class Owners:
    """The owners of lives of sessions: told by their events, else by the hot store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: SizedLru[Life, str] = SizedLru(_MOST)

    async def of(self, items: Iterable[Shipped]) -> Mapping[Life, str]:
        """The owner of each life that the items are about, "" for none or one nobody knows."""
        lives = self._lives(items)
        found = {life: self._known.get(life) for life in lives}
        unknown = [life for life, owner in found.items() if owner is None]
        for at in range(0, len(unknown), _AT_ONCE):
            part = unknown[at : at + _AT_ONCE]
            owners = await asyncio.gather(*map(self._ask, part))
            found |= dict(zip(part, owners, strict=True))
        for life in unknown:
            self._known.hold(life, found[life])
        return {life: owner or "" for life, owner in found.items()}

    def _lives(self, items: Iterable[Shipped]) -> set[Life]:
        lives = set()
        for _, _, item in items:
            with suppress(CorruptRecordError, msgspec.MsgspecError):
                event = told(item)
                life = (event.ids[0] or "", event.incarnation)
                if event.kind in _OWNED:
                    lives.add(life)
                elif event.kind is About.SESSION and (owner := _change(event.record).user_id):
                    self._known.hold(life, owner)
        return lives

    async def _ask(self, life: Life) -> str:
        session_id, incarnation = life
        place = session_place(session_id)
        results = await self._store.apply(Batch(*place, (Get("", ("~i", "u")),), raw=True))
        ((found, owner),) = results or ((None, None),)
        return (owner or b"").decode(errors="replace") if found == incarnation.encode() else ""
