"""Waiting until what is acknowledged now is in the archive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable

from aiecs.core.errors import ArchiveRowError, ArchiveUnavailableError
from aiecs.core.events import OUTBOX
from aiecs.core.interface.store import BUCKETS, Arg, Call, LogSlice, Plan, Read, Store
from aiecs.infrastructure.persistence.archive import letters

_BOUNDS = Plan("outbox bounds", Read(OUTBOX, stop=Arg(0)))
_AT_ONCE = 256
_PATIENCE = 60.0
_SHORTEST, _LONGEST = 0.005, 0.25


async def wait_until_in(
    store: Store,
    buckets: Iterable[int] | None,
    timeout: float,
    hurry: Callable[[Collection[int]], None],
) -> None:
    """Return when everything that lies in these outboxes now (None: in all) has left them.

    `hurry` is told where to look. It writes nothing: a store without room is waited for as well.
    """
    wanted = set(range(BUCKETS) if buckets is None else buckets)
    left: dict[int, int] = {}
    try:
        async with asyncio.timeout(timeout):
            ends = await _bounds(store, wanted, timeout)
            left = {bucket: log.next for bucket, log in ends.items() if log.base < log.next}
            await _emptied(store, left, hurry, timeout)
    except TimeoutError:
        count = "one outbox is" if len(left) == 1 else f"{len(left)} outboxes are"
        where = f"{count} not in the archive yet" if left else "not even read"
        raise ArchiveUnavailableError(f"after {timeout:g} s: {where}") from None
    dead = sum([letter.shipped.bucket in wanted async for letter in letters.all_of(store)])
    if dead:
        raise ArchiveRowError(
            f"the archive does not take {dead} events: they are set aside, see "
            "`aiecs archive dead list`"
        )


async def _emptied(
    store: Store,
    left: dict[int, int],
    hurry: Callable[[Collection[int]], None],
    timeout: float,
) -> None:
    pause = _SHORTEST
    hurry(left.copy())
    while left:
        hurry(())
        await asyncio.sleep(pause)
        pause = min(_LONGEST, pause * 1.5)
        for bucket, log in (await _bounds(store, left, timeout)).items():
            if log.base >= left[bucket] or log.base >= log.next:
                del left[bucket]


async def _bounds(
    store: Store,
    buckets: Iterable[int],
    timeout: float,
) -> dict[int, LogSlice]:
    """Where each outbox begins and ends. Who waits for so long does so for a slow store, too."""
    names, patience = list(buckets), min(timeout, _PATIENCE)
    found: dict[int, LogSlice] = {}
    for at in range(0, len(names), _AT_ONCE):
        part = names[at : at + _AT_ONCE]
        calls = (Call(_BOUNDS, bucket, "", (0,)) for bucket in part)
        results = await asyncio.gather(*(store.apply(call, timeout=patience) for call in calls))
        found |= {bucket: log for bucket, (log,) in zip(part, results, strict=True)}  # type: ignore[misc]
    return found
