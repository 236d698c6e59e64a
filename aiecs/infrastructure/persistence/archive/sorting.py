"""Dead letters, told, delivered again, and dropped."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import NamedTuple

from aiecs.core.errors import CorruptRecordError
from aiecs.core.events import told
from aiecs.core.interface.store import Store
from aiecs.infrastructure.persistence.archive import letters
from aiecs.infrastructure.persistence.archive.delivery import Dead
from aiecs.infrastructure.persistence.archive.destination import Destination


class Letter(NamedTuple):
    """A dead letter, without what it holds.

    `bucket` and `number` are where it lay; `time` in microseconds since 1970, 0 when nobody knows;
    `size` in bytes; `session` and `thread` are "" where it is about none.
    """

    bucket: int
    number: int
    time: int
    kind: str
    table: str
    reason: str
    size: int
    session: str
    thread: str


class Wanted(NamedTuple):
    """Which letters: those for a table, of a session or thread; None: of any."""

    table: str | None = None
    name: str | None = None

    def holds(self, letter: Letter) -> bool:
        """Whether it is one of them."""
        of_table = self.table is None or self.table == letter.table
        return of_table and (self.name is None or self.name in (letter.session, letter.thread))


class Retried(NamedTuple):
    """How many letters are in the archive now, and how many are still refused."""

    delivered: int
    refused: int


def describe(dead: Dead) -> Letter:
    """What there is to say about a letter; what is no event has the kind "unreadable"."""
    bucket, number, item = dead.shipped
    time, kind, session, thread = 0, "unreadable", "", ""
    with suppress(CorruptRecordError):
        event = told(item)
        time, kind = event.now, event.kind.name.lower().replace("_", " ")
        session, thread = event.session, event.thread
    return Letter(bucket, number, time, kind, dead.table, dead.reason, len(item), session, thread)


async def retry(store: Store, destination: Destination, wanted: Wanted) -> Retried:
    """Deliver letters again, as the events that they are; those refused stay, with the new reason.

    Raises the `ArchiveError` of an archive that cannot take anything now; letters that it was asked
    to take stay then. One that arrived, and whose removal was cut short, arrives again as the same
    event.
    """
    refused: set[tuple[int, int]] = set()

    async def choose(found: Sequence[Dead]) -> list[Dead]:
        asked = [one.shipped for one in found if wanted.holds(describe(one))]
        if not asked:
            return list(found)
        # Suspect: each has been refused before, so one more refusal says nothing of the others.
        back = await destination.deliver(_token_of(found), asked, suspect=True)
        refused.update(one.shipped[:2] for one in back)
        stay = {one.shipped: one for one in found} | {one.shipped: one for one in back}
        gone = {*asked} - {one.shipped for one in back}
        return [stay[one.shipped] for one in found if one.shipped not in gone]

    return Retried(await letters.sort(store, choose), len(refused))


async def drop(store: Store, wanted: Wanted) -> int:
    """Remove letters for good; how many. They are then nowhere."""

    async def choose(found: Sequence[Dead]) -> list[Dead]:
        return [one for one in found if not wanted.holds(describe(one))]

    return await letters.sort(store, choose)


def _token_of(found: Sequence[Dead]) -> str:
    """The same for the same letters, so that a repeated delivery adds nothing."""
    digest = blake2b(digest_size=8)
    for bucket, number, item in (one.shipped for one in found):
        digest.update(b"%d/%d/%d/" % (bucket, number, len(item)) + item)
    return f"again-{digest.hexdigest()}"
