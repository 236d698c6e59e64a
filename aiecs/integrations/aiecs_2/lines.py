"""The list of a conversation, in the order in which it was held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, NamedTuple

from aiecs.integrations.aiecs_2.client import Pages, Problem
from aiecs.integrations.aiecs_2.order import Said, chronological
from aiecs.integrations.aiecs_2.rows import Corrupt, row_of, said

_ID_BYTES = 16


class Line(NamedTuple):
    """An item of a list: when it was said, what, and an id that is the same at every reading."""

    said: Said
    row: dict[str, Any]
    id: str


def list_key(name: str) -> str:
    """Where 2.2.0 keeps the messages of a session or of a conversation between agents."""
    return f"conversation:{name}"


async def lines_of(pages: Pages, name: str, on_problem: Problem) -> list[Line]:
    """The messages of a list, oldest first; what cannot be read is told and left out."""
    key = list_key(name)
    items = await pages.items(key)
    found: list[tuple[Said, dict[str, Any], bytes]] = []
    for number, item in enumerate(items, -len(items)):
        try:
            row = row_of(item)
            found.append((said(row), row, item))
        except Corrupt as error:
            on_problem(f"{key} [{number}]", str(error))
    order = chronological([when for when, _, _ in found])
    ids = _ids(key, (found[place][2] for place in order))
    return [Line(*found[place][:2], id_) for place, id_ in zip(order, ids, strict=True)]


def _ids(key: str, items: Iterable[bytes]) -> list[str]:
    """An id for each item, from its bytes and from how many equal ones stand before it."""
    seen: Counter[bytes] = Counter()
    ids = []
    for item in items:
        digest = blake2b(item, digest_size=_ID_BYTES, key=blake2b(key.encode()).digest())
        equal = digest.digest()
        digest.update(b"%d" % seen[equal])
        seen[equal] += 1
        ids.append(digest.hexdigest())
    return ids
