"""Callers that give up, and thousands at once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from support.proxy import Proxy
from support.redis_store import LARGE, adding, batch, creating, every, fields, items, lanes, opened

from aiecs.core.errors import StoreOverloadedError, StoreUnavailableError
from aiecs.core.interface.store import Get, Put
from aiecs.infrastructure.persistence.stores.redis.lane import Lane
from aiecs.infrastructure.persistence.stores.redis.room import MAX_BYTES, MAX_ENTRIES


@pytest.fixture
def fullest(monkeypatch):
    """The most calls and bytes that were ever under way on one lane."""
    most = [0, 0]
    submit = Lane.submit

    def watched(lane, entry):
        submit(lane, entry)
        calls, size = lane.under_way
        most[:] = max(most[0], calls), max(most[1], size)

    monkeypatch.setattr(Lane, "submit", watched)
    return most


# --- giving up ----------------------------------------------------------------------------------


async def test_two_thousand_of_ten_thousand_calls_given_up(server, prefix, measured):
    """Reads and writes mixed; each that goes on gets its own answer."""
    async with opened(server.url, prefix, 60.0) as store:
        await store.apply(creating())
        values = {f"f{number}": b"value %d" % number for number in range(100)}
        await store.apply(batch(Put("m", values)))

        async def call(number):
            if number % 2:
                return await store.apply(batch(Get("m", (f"f{number % 100}",)), Get("", ("~i",))))
            return await store.apply(adding(b"%d" % number))

        tasks = [asyncio.create_task(call(number)) for number in range(10_000)]
        await asyncio.sleep(0)  # the first 4,096 are sent, the others stand in line
        for task in tasks[::10]:
            assert task.cancel()
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        under_way = [task for task in tasks if not task.done()]
        for task in random.sample(under_way, 1_000):  # some of them as their answers come
            assert task.cancel()
        told = await asyncio.gather(*tasks, return_exceptions=True)

        gone = [n for n, answer in enumerate(told) if isinstance(answer, asyncio.CancelledError)]
        done = sorted({*range(10_000)} - {*gone})
        assert len(gone) == 2_000
        wrong = [n for n in done if n % 2 and told[n][0] != [b"value %d" % (n % 100)]]
        measured(f"{len(gone):,} of {len(tasks):,} calls given up, {len(wrong)} wrong replies")
        assert not wrong
        small = lanes(store)[0]
        await store.ping()  # behind all that was still on its way
        assert small.under_way == (0, 0)
        stored = await items(store)
        first = (await store.apply(adding(b"end")))[0] - len(stored)
        assert all(stored[told[n][0] - first] == b"%d" % n for n in done if not n % 2)
        counts = Counter(stored)
        assert max(counts.values()) == 1
        assert {b"%d" % n for n in done if not n % 2} <= counts.keys()
        assert len(small._line) == 0


@pytest.mark.parametrize("suspended", range(6))
async def test_a_call_given_up_wherever_it_waits(server, prefix, suspended):
    """Connecting, connected, flushed, answered: cancelled at each turn of the loop."""
    async with opened(server.url, prefix) as store:
        if suspended % 2:
            await store.ping()
        tasks = [asyncio.create_task(store.apply(batch(Get("m")))) for _ in range(20)]
        for _ in range(suspended):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        told = await asyncio.gather(*tasks, return_exceptions=True)
        assert told[1::2] == [[{}]] * 10
        await store.ping()
        assert [lane.under_way for lane in lanes(store)] == [(0, 0)] * 2


async def test_giving_up_while_the_connection_is_gone(server, prefix):
    async with Proxy(server.port) as proxy, opened(proxy.url, prefix, 20.0) as store:
        await store.apply(creating())
        proxy.blackhole()
        tasks = [asyncio.create_task(store.apply(adding(b"%d" % n))) for n in range(100)]
        await proxy.until(lambda proxy: proxy.accepted == 1)
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        proxy.sever()
        proxy.heal()
        told = await asyncio.gather(*tasks, return_exceptions=True)

        kept = [b"%d" % n for n in range(1, 100, 2)]
        assert not any(isinstance(answer, Exception) for answer in told[1::2])
        stored = await items(store)
        assert [item for item in stored if item in set(kept)] == kept
        assert max(Counter(stored).values()) == 1


# --- thousands at once --------------------------------------------------------------------------


@pytest.mark.parametrize("count", [512, 10_000])
async def test_many_tasks_at_once_all_get_through(server, prefix, fullest, count):
    async with opened(server.url, prefix, 60.0) as store:
        for bucket in range(16):
            await store.apply(creating(bucket=bucket))
        answered = []

        async def write(number):
            result = await store.apply(adding(b"%d" % number, bucket=number % 16))
            answered.append(number)
            return result

        told = await every(count, write)

        assert not any(isinstance(answer, Exception) for answer in told)
        assert fullest[0] <= MAX_ENTRIES
        if count > MAX_ENTRIES:
            assert fullest[0] == MAX_ENTRIES, "the line was never needed"
        late = [abs(place - number) for place, number in enumerate(answered)]
        assert max(late) < MAX_ENTRIES, "first come was not first served"
        stored = 0
        for bucket in range(16):
            found = await items(store, bucket=bucket)
            assert found == sorted(found, key=int)
            stored += len(found)
        assert stored == count


async def test_bytes_are_bounded_too(server, prefix, fullest):
    """Values of 1 MiB, 200 at once: 16 MiB under way, and no waiter is passed over."""
    big = b"." * 1_000_000
    async with opened(server.url, prefix, 60.0) as store:
        await store.apply(creating())

        async def write(number):
            if number % 4:
                return await store.apply(batch(Put("m", {"big": big})))
            return await store.apply(batch(Put("n", {f"f{number}": b"x" * LARGE})))

        told = await every(200, write)

        assert not any(isinstance(answer, Exception) for answer in told)
        assert fullest[1] < MAX_BYTES + len(big) + 1_000
        assert fullest[1] > MAX_BYTES / 2
        assert len(await fields(store, "n")) == 50


async def test_no_room_before_the_deadline_is_overload_and_not_applied(server, prefix):
    async with Proxy(server.port) as proxy, opened(proxy.url, prefix, 20.0) as store:
        await store.apply(creating())
        proxy.blackhole()
        first = [asyncio.create_task(store.apply(adding(b"first"))) for _ in range(MAX_ENTRIES)]
        while lanes(store)[0].under_way[0] < MAX_ENTRIES:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        started = loop.time()
        told = await every(50, lambda _: store.apply(adding(b"late"), timeout=0.1))
        assert {type(error) for error in told} == {StoreOverloadedError}
        assert {error.outcome for error in told} == {"not_applied"}
        assert loop.time() - started < 1.0
        proxy.heal()
        await asyncio.gather(*first)
        assert await items(store) == [b"first"] * MAX_ENTRIES


async def test_who_waits_in_line_learns_at_once_that_the_server_is_gone(server, prefix):
    async with Proxy(server.port) as proxy, opened(proxy.url, prefix, 20.0) as store:
        await store.apply(creating())
        proxy.blackhole()
        tasks = [
            asyncio.create_task(store.apply(batch(Get("m")))) for _ in range(MAX_ENTRIES + 100)
        ]
        while len(lanes(store)[0]._line) < 100:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        await proxy.refuse()
        async with asyncio.timeout(5):
            told = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(error) for error in told} == {StoreUnavailableError}
        assert len({id(error) for error in told}) == len(told), "tracebacks would grow together"
