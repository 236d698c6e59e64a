"""The lives that a session has had, and which of them are gone for good."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from aiecs.core.cold import Life
from aiecs.core.erasure import Erasure
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.unshipped import erased_user


def joined(waiting: Mapping[str, Life], archived: Iterable[Life]) -> dict[str, Life]:
    """What the outbox tells of lives, and what the archive knows of them."""
    lives = dict(waiting)
    for life in archived:
        newer = lives.get(life.incarnation, life)
        user, gone = newer.user_id or life.user_id, newer.gone or life.gone
        lives[life.incarnation] = Life(life.incarnation, user, gone)
    return lives


async def without_erased(runtime: Runtime, lives: Mapping[str, Life]) -> dict[str, Life]:
    """Those of users who were deleted are gone, also while the archive still has them."""
    marked = dict(lives)
    owners = sorted({life.user_id for life in lives.values() if life.user_id})
    found = await asyncio.gather(*(erased_user(runtime, user) for user in owners))
    for erasure in found:
        for incarnation in () if erasure is None else erasure.covered(marked.values()):
            marked[incarnation] = marked[incarnation]._replace(gone=True)
    return marked


def left(lives: Mapping[str, Life], erasure: Erasure | None) -> list[Life]:
    """All lives but those that were deleted, whether or not the archive knows that already."""
    covered = () if erasure is None else erasure.covered(lives.values())
    return [life for life in lives.values() if life.incarnation not in covered]
