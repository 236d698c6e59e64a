"""Erasing across the archive: what is to go, and how each bucket remembers it.

A bucket keeps what was deleted in it in maps of its own, by name: when (`GONE`), of which owner
alone (`GONE_BY`), and, once the archive has nothing of it any more, how many rows that were
(`GONE_ROWS`). They stand from the deletion itself until the archive has been looked at once more,
ten minutes later; meanwhile no read shows what they cover, and no write brings the id back unless
it says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from aiecs.core.cold import Life

GONE: Final = "_gone"
GONE_BY: Final = "_gone/by"
GONE_ROWS: Final = "_gone/rows"

KEPT_SECONDS: Final = 600
"""So long is a deletion remembered at least: what was sent before it has arrived by then."""

Subject = Literal["session", "thread", "user"]
_SUBJECTS: dict[str, Subject] = {"s": "session", "t": "thread", "u": "user"}
_DIGITS = 16


class Erasure(NamedTuple):
    """Everything of a session or thread that was born before `until` (microseconds).

    `owner`: of a session, only the lives of that user; unowned ones only if nobody else had any. Of
    a user: the same of every session that the user ever owned.
    """

    subject: Subject
    id: str
    until: int
    owner: str = ""

    @property
    def name(self) -> str:
        """Its name in the maps."""
        return name_of(self.subject, self.id)

    def covers(self, incarnation: str) -> bool:
        """Whether a life is old enough."""
        digits = incarnation[:_DIGITS]
        return not digits.isdigit() or int(digits) < self.until

    def covered(self, lives: Iterable[Life]) -> list[str]:
        """Those of all lives of a session that are to go."""
        there = list(lives)
        others = any(life.user_id not in ("", self.owner) for life in there)
        mine = (self.owner,) if others else (self.owner, "")
        return [
            life.incarnation
            for life in there
            if self.covers(life.incarnation) and (not self.owner or life.user_id in mine)
        ]


def name_of(subject: Subject, id_: str) -> str:
    """The name of a session, thread or user in the maps."""
    return f"{subject[0]}:{id_}"


def erasure_of(name: str, until: bytes, owner: bytes | None) -> Erasure:
    """What an entry of the maps stands for."""
    subject, id_ = _SUBJECTS[name[0]], name[2:]
    whose = id_ if subject == "user" else (owner or b"").decode(errors="replace")
    return Erasure(subject, id_, int(until), whose)
