"""A value is opened once, whoever waits for it, fails or gives up."""

from __future__ import annotations

import asyncio

import pytest

from aiecs.core.opening import Opening


async def test_a_failed_opening_fails_everyone_who_waited_and_can_be_repeated():
    opening: Opening[int] = Opening()
    go_on = asyncio.Event()

    async def fail():
        await go_on.wait()
        raise ValueError("no")

    calls = [asyncio.create_task(opening.get(fail)) for _ in range(3)]
    await asyncio.sleep(0)
    go_on.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in results] == [ValueError] * 3

    async def succeed():
        return 7

    assert await opening.get(succeed) == 7
    assert (opening.take(), opening.take()) == (7, None)


async def test_a_cancelled_opening_passes_to_the_next_in_line():
    opening: Opening[int] = Opening()

    async def forever():
        await asyncio.Event().wait()
        return 0

    async def succeed():
        return 7

    first = asyncio.create_task(opening.get(forever))
    await asyncio.sleep(0)
    second = asyncio.create_task(opening.get(succeed))
    await asyncio.sleep(0)
    first.cancel()

    assert await second == 7
    assert first.cancelled()


async def test_a_cancelled_waiter_leaves_the_opening_alone():
    opening: Opening[int] = Opening()
    go_on = asyncio.Event()

    async def slow():
        await go_on.wait()
        return 7

    first = asyncio.create_task(opening.get(slow))
    await asyncio.sleep(0)
    second = asyncio.create_task(opening.get(slow))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    go_on.set()

    assert await first == 7
