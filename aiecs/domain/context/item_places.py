"""Where the namespaces of items can be found again: by their first label, then by prefix.

As `indexes`, this is an advisory superset: a namespace is entered before it is created, with the
time, and taken out only when it has been empty for longer than any creation can take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache

from aiecs.core.errors import InvalidInputError
from aiecs.core.interface.store import (
    NOW,
    Batch,
    Clock,
    Delete,
    GuardFailed,
    IndexDelete,
    IndexPut,
    IndexRange,
    Put,
    RequireAtMost,
)
from aiecs.core.keys import Place, bucket_of, escape, unescape
from aiecs.domain.context.arguments import listed
from aiecs.domain.context.indexes import CREATE_WITHIN, STALE_AFTER, store_time
from aiecs.domain.context.runtime import Runtime

_ROOTS, _ROOTS_BUCKET = "_n", bucket_of("_n")
_PAGE = 1000

Namespace = tuple[str, ...]


def checked_prefixes(prefixes: Iterable[Sequence[str]]) -> list[Namespace]:
    """What namespaces begin with; `InvalidInputError` for what begins none, or all."""
    found = []
    for prefix in listed(prefixes, "namespaces"):
        labels = () if isinstance(prefix, str) else tuple(prefix)
        if not labels or not all(label and type(label) is str for label in labels):
            raise InvalidInputError(
                f"a namespace is a sequence of labels as ('users', 'ann'), got {prefix!r}"
            )
        found.append(labels)
    return found


def member_of(namespace: Namespace) -> str:
    """A namespace, or what all that begin with it begin with."""
    return "".join(f"{escape(label)}/" for label in namespace)


@lru_cache(maxsize=16_384)
def place_of(namespace: Namespace) -> Place:
    """Where the items of a namespace live."""
    member = member_of(namespace)
    return Place(bucket_of(member), f"n:{escape(member)}")


class Directory:
    """All namespaces of one store."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def enter(self, namespace: Namespace) -> int:
        """Enter a namespace; the time (store's clock, microseconds) until which to create it."""
        bucket, key = _of_root(namespace[0])
        member = member_of(namespace)
        roots = (IndexPut(_ROOTS, {escape(namespace[0]): 0}),)
        here = (IndexPut(key, {member: 0}), Put(f"{key}:t", {member: NOW}), Clock())
        await self._runtime.apply(Batch(_ROOTS_BUCKET, "", roots))
        results = await self._runtime.apply(Batch(bucket, "", here))
        now = results[2] if results is not None else await store_time(self._runtime)
        return int(now) + CREATE_WITHIN

    async def under(self, prefix: Namespace) -> list[Namespace]:
        """The namespaces that begin so, in order of their labels; some may be empty."""
        roots = [prefix[0]] if prefix else await self._members(_ROOTS_BUCKET, _ROOTS, "")
        begin = member_of(prefix)
        found = await asyncio.gather(
            *(self._members(*_of_root(unescape(root)), begin) for root in roots)
        )
        return sorted(_namespace(member) for members in found for member in members)

    async def leave(self, namespace: Namespace, now: int) -> None:
        """Take out one that does not exist, unless it was entered lately."""
        bucket, key = _of_root(namespace[0])
        member = member_of(namespace)
        old = RequireAtMost(f"{key}:t", member, now - STALE_AFTER)
        ops = (old, IndexDelete(key, (member,)), Delete(f"{key}:t", (member,)))
        with suppress(GuardFailed):
            await self._runtime.apply(Batch(bucket, "", ops))

    async def _members(self, bucket: int, key: str, prefix: str) -> list[str]:
        found: list[str] = []
        page = IndexRange(key, limit=_PAGE, prefix=prefix)
        while True:
            (entries,) = await self._runtime.read(Batch(bucket, "", (page,)))
            found += [member for member, _ in entries]
            if len(entries) < _PAGE:
                return found
            page = page._replace(cursor=entries[-1])


def _of_root(root: str) -> tuple[int, str]:
    name = escape(root)
    return bucket_of(f"n:{name}"), f"_n:{name}"


def _namespace(member: str) -> Namespace:
    return tuple(unescape(label) for label in member[:-1].split("/"))
