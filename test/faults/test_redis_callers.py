"""Callers that give up, thousands at once, several loops and threads, forks, and closing."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
from collections import Counter

import pytest
from support.proxy import Proxy
from support.redis_store import (
    BUCKET,
    GROUP,
    LARGE,
    adding,
    batch,
    creating,
    every,
    fields,
    items,
    lanes,
    opened,
)

from aiecs.core.errors import (
    LifecycleError,
    StoreError,
    StoreOverloadedError,
    StoreUnavailableError,
)
from aiecs.core.interface.store import Append, Batch, Get, Incr, Put
from aiecs.infrastructure.persistence.stores.redis import RedisStore
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


async def test_two_thousand_of_ten_thousand_calls_given_up(server, prefix):
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


# --- loops and threads --------------------------------------------------------------------------


def test_eight_threads_with_a_loop_each(server, prefix):
    store = RedisStore.from_url(server.url, prefix=prefix, timeout=30.0)
    asyncio.run(store.apply(creating()))
    failures = []
    together = threading.Barrier(8)

    async def work(thread):
        for number in range(50):
            await asyncio.gather(
                *(store.apply(adding(b"%d.%d.%d" % (thread, number, n))) for n in range(4))
            )
            (found,) = await store.apply(batch(Get("", ("~i",))))
            assert found[0]

    def run(thread):
        try:
            together.wait(10)
            asyncio.run(work(thread))
        except BaseException as error:  # noqa: BLE001 - told to the test
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    async def finish():
        stored = await items(store)
        assert len(stored) == len(set(stored)) == 8 * 50 * 4
        head = await store.command("HGETALL", store._layout.heads[BUCKET])
        writers = [name for name in head[::2] if name.startswith(b"w:")]
        assert len(writers) == 9, "one for each loop that wrote"
        assert len(store._lanes) == 1, "loops that have ended are forgotten"
        await store.close()

    assert not failures
    asyncio.run(finish())


def test_many_loops_one_after_the_other(server, prefix):
    store = RedisStore.from_url(server.url, prefix=prefix)
    asyncio.run(store.apply(creating()))
    for number in range(20):
        asyncio.run(store.apply(adding(b"%d" % number)))
        assert len(store._lanes) <= 1
    asyncio.run(store.close())


ENDS_WITHOUT_CLOSE = """
import asyncio, gc, sys
from aiecs.core.interface.store import *
from aiecs.infrastructure.persistence.stores.redis import RedisStore

async def main(how):
    store = RedisStore.from_url(URL, prefix=PREFIX, timeout=5.0)
    put = Batch(7, "", (Put("_m", {"a": b"x" * 100_000}),))
    await asyncio.gather(store.ping(), store.apply(put))
    if how == "busy":
        asyncio.create_task(store.apply(put))
        await asyncio.sleep(0)
    return store if how == "kept" else None

for how in ("idle", "busy", "kept"):
    store = asyncio.run(main(how))
    gc.collect()
if store is not None:
    asyncio.run(store.ping())
    asyncio.run(store.close())
del store
gc.collect()
print("done")
"""


def run_script(text, url, prefix):
    """Run it on its own with every warning an error; nothing may be said on stderr."""
    text = f"URL, PREFIX = {url!r}, {prefix!r}\n{text}"
    command = [sys.executable, "-W", "error", "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout.split()


def test_a_loop_that_ends_without_close_leaves_no_warning(server, prefix):
    assert run_script(ENDS_WITHOUT_CLOSE, server.url, prefix) == ["done"]


def test_a_loop_that_ends_while_connecting_leaves_no_warning(prefix):
    script = ENDS_WITHOUT_CLOSE.replace(
        "await asyncio.gather(store.ping(), store.apply(put))",
        "await asyncio.gather(store.ping(), store.apply(put), return_exceptions=True)",
    )
    script = script.replace("    asyncio.run(store.ping())\n", "").replace('"busy", ', "")
    assert run_script(script, "redis://127.0.0.1:1/0", prefix) == ["done"]


# --- forks --------------------------------------------------------------------------------------

FORKS = """
import asyncio, os, sys
from aiecs.core.interface.store import *
from aiecs.infrastructure.persistence.stores.redis import RedisStore

PLAN = Plan("add", Append("m", (Arg(0),)), Incr("", {"n": 1}))
store = RedisStore.from_url(URL, prefix=PREFIX, timeout=20.0)
add = lambda item: store.apply(Call(PLAN, 7, "s:one", (item,)))

async def child():
    for number in range(50):
        await asyncio.gather(*(add(b"child") for _ in range(4)))
    await store.close()

def fork():
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        asyncio.run(child())
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)

async def parent():
    await store.apply(Batch(7, "s:one", (Put("", {"~i": NEW_INCARNATION}, "skip"),)))
    for number in range(10):
        calls = [asyncio.create_task(add(b"parent")) for _ in range(20)]
        await asyncio.sleep(0)
        if number == 3:
            pid = fork()  # with calls under way, on the running loop
        await asyncio.gather(*calls)
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        await add(b"parent")
    reconnects = [lane.reconnects for lanes in store._lanes.values() for lane in lanes[:2]]
    assert reconnects == [0, 0], "the child has disturbed the parent"

asyncio.run(parent())
pid = fork()  # between two loops
assert os.waitpid(pid, 0)[1] == 0
asyncio.run(store.close())
print("done")
"""


async def test_forked_children_write_under_names_of_their_own(server, prefix):
    assert run_script(FORKS, server.url, prefix) == ["done"]

    async with opened(server.url, prefix) as store:
        stored = Counter(await items(store))
        assert stored[b"child"] == 2 * 200
        assert stored[b"parent"] >= 200
        assert (await fields(store))["n"] == b"%d" % stored.total()
        head = await store.command("HGETALL", store._layout.heads[BUCKET])
        writers = {name for name in head[::2] if name.startswith(b"w:")}
        assert len(writers) == 3, "parent, and two children"


# --- closing ------------------------------------------------------------------------------------


async def test_closing_while_calls_are_under_way(server, prefix):
    store = RedisStore.from_url(server.url, prefix=prefix, timeout=20.0)
    await store.apply(creating())
    tasks = [asyncio.create_task(store.apply(adding(b"%d" % n))) for n in range(6_000)]
    await asyncio.sleep(0)
    await store.close()

    told = await asyncio.gather(*tasks, return_exceptions=True)
    async with opened(server.url, prefix) as other:
        stored = await items(other)
    written = [b"%d" % n for n, answer in enumerate(told) if not isinstance(answer, Exception)]
    assert stored == written
    assert len(written) >= MAX_ENTRIES, "what was under way is finished"
    errors = {type(answer) for answer in told if isinstance(answer, Exception)}
    assert errors == {LifecycleError}, "who waited in line is told so"


async def test_closing_with_a_silent_server_ends_within_the_timeout(server, prefix):
    async with Proxy(server.port) as proxy:
        store = RedisStore.from_url(proxy.url, prefix=prefix, timeout=0.3)
        await store.apply(creating())
        proxy.blackhole()
        write = asyncio.create_task(store.apply(adding(b"x"), timeout=30.0))
        read = asyncio.create_task(store.apply(batch(Get("m")), timeout=30.0))
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        started = loop.time()
        await store.close()
        assert loop.time() - started < 1.5
        told = await asyncio.gather(write, read, return_exceptions=True)
        assert [error.outcome for error in told] == ["unknown", "not_applied"]
        assert {type(error) for error in told} == {StoreUnavailableError}


async def test_closing_while_connecting_and_while_the_server_is_gone(server, prefix):
    async with Proxy(server.port) as proxy:
        store = RedisStore.from_url(proxy.url, prefix=prefix)
        connecting = asyncio.create_task(store.ping())
        await asyncio.sleep(0)
        await store.close()
        with pytest.raises((LifecycleError, StoreError)):
            await connecting

        store = RedisStore.from_url(proxy.url, prefix=prefix)
        await store.ping()
        await proxy.refuse()
        with pytest.raises(StoreError):
            await store.apply(adding(b"x"))
        await store.close()
        await store.close()


async def test_after_close_every_call_is_a_lifecycle_error(server, prefix):
    store = RedisStore.from_url(server.url, prefix=prefix)
    await store.apply(creating())
    await store.close()
    calls = (
        lambda: store.apply(adding(b"x")),
        lambda: store.apply(batch(Incr("", {"n": 1}))),
        lambda: store.apply(batch(Get(""))),
        store.ping,
        lambda: store.command("PING"),
    )
    for call in calls:
        with pytest.raises(LifecycleError):
            await call()
    await store.close()


async def test_closed_from_another_loop(server, prefix):
    """Its own calls there end with an answer or a typed error; nothing hangs."""
    store = RedisStore.from_url(server.url, prefix=prefix, timeout=20.0)
    await store.apply(creating())
    ready, told = threading.Event(), []

    async def work():
        async def write(number):
            if number == 100:
                ready.set()
            await store.apply(Batch(BUCKET, GROUP, (Append("m", (b"%d" % number,)),)))

        for number in range(100_000):
            await write(number)

    def run():
        try:
            asyncio.run(work())
        except Exception as error:  # noqa: BLE001 - told to the test
            told.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not ready.is_set():  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0)
    await store.close()
    while thread.is_alive():  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.001)
    assert isinstance(told[0], LifecycleError | StoreUnavailableError)
    assert os.getpid() == store._pid
