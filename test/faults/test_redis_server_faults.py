"""Servers killed, paused and restarted under load; then everything acknowledged is counted."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import statistics
import sys
import time

import pytest
from support.proxy import Proxy
from support.redis_store import (
    LARGE,
    Ledger,
    adding,
    batch,
    creating,
    every,
    items,
    lanes,
    opened,
    recovered,
)
from support.waiting import until

from aiecs.core.errors import StoreError, StoreTimeoutError, StoreUnavailableError
from aiecs.core.interface.store import Get

TIMEOUT = 0.4
# What a call may take beyond its deadline: the watch looks every 50 ms, the machine is shared.
SLACK = 3.0
PATIENCE = 15.0
KILLS = 20


LOADS = pytest.mark.parametrize(
    "load", [{"tasks": 64}, {"tasks": 16, "pad": LARGE}], ids=["small", "large"]
)


async def restart(server):
    """Start the server again without blocking the loop, whose tasks go on meanwhile."""
    server.mend_torn_tail()
    server._launch()
    await until(lambda: accepts(server))


async def accepts(server):
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    except OSError:
        return False
    writer.transport.abort()
    return True


@contextlib.asynccontextmanager
async def killed(server):
    server.kill()
    yield
    await restart(server)


@contextlib.asynccontextmanager
async def paused(server):
    server.pause()
    try:
        yield
    finally:
        server.resume()


async def failures(ledger, count):
    """Wait until so many more calls have failed."""
    wanted = len(ledger.failing) + count
    await ledger.until(lambda ledger: len(ledger.failing) >= wanted)


async def live_through(outage, ledger, tasks):
    """Writes before, failures meanwhile, writes again."""
    await ledger.more(tasks * 3)
    async with outage:
        await failures(ledger, tasks * 3)
    ledger.healed()
    await recovered(ledger.store)
    await ledger.more(tasks)


@LOADS
async def test_killed_and_restarted_under_load(own_server, prefix, load, measured):
    async with opened(own_server.url, prefix, TIMEOUT) as store:
        async with Ledger(store, **load) as ledger:
            for _ in range(3):
                await live_through(killed(own_server), ledger, load["tasks"])
        assert ledger.slowest < TIMEOUT + SLACK
        assert ledger.errors.keys() <= {"StoreUnavailableError", "StoreTimeoutError"}
        assert ledger.refused, "no call met the outage"
        await ledger.check()
        measured(ledger.figures())


async def test_killed_again_and_again_at_once(own_server, prefix, measured):
    """Restarted at once, so that what is under way meets the server while it comes up."""
    async with opened(own_server.url, prefix, TIMEOUT) as store:
        async with Ledger(store) as ledger:
            for _ in range(6):
                await ledger.more(100)
                own_server.kill()
                await restart(own_server)
                ledger.healed()
                await recovered(store)
        assert ledger.slowest < TIMEOUT + SLACK
        await ledger.check()
        measured(ledger.figures())


@LOADS
async def test_paused_under_load(own_server, prefix, load, measured):
    async with opened(own_server.url, prefix, TIMEOUT) as store:
        async with Ledger(store, **load) as ledger:
            for _ in range(2):
                await live_through(paused(own_server), ledger, load["tasks"])
        assert ledger.slowest < TIMEOUT + SLACK
        # What was on its way may have been applied; what came later was not even sent.
        assert ledger.errors.keys() == {"StoreTimeoutError", "StoreUnavailableError"}
        assert ledger.unknown
        assert ledger.refused
        await ledger.check()
        measured(ledger.figures())


async def test_paused_so_long_that_the_connection_is_given_up(own_server, prefix, measured):
    async with opened(own_server.url, prefix, TIMEOUT) as store:
        async with Ledger(store, tasks=16) as ledger:
            await ledger.more(50)
            small = lanes(store)[0]
            async with paused(own_server):
                await ledger.until(lambda _: small.reconnects > 0)
            ledger.healed()
            await recovered(store)
            await ledger.more(50)
        assert ledger.slowest < TIMEOUT + SLACK
        await ledger.check()
        measured(ledger.figures())


async def test_a_partition_that_heals(own_server, prefix, measured):
    async with Proxy(own_server.port) as proxy, opened(proxy.url, prefix, TIMEOUT) as store:
        async with Ledger(store, tasks=32) as ledger:
            for _ in range(2):
                await ledger.more(100)
                proxy.blackhole()
                await failures(ledger, 64)
                proxy.heal()
                ledger.healed()
                await recovered(store)
                await ledger.more(50)
        assert max(ledger.back) < PATIENCE
        await ledger.check()
        measured(ledger.figures())


async def test_while_the_server_is_gone_calls_fail_in_about_a_millisecond(own_server, prefix):
    async with opened(own_server.url, prefix, TIMEOUT) as store:
        await store.apply(creating())
        own_server.kill()
        with pytest.raises(StoreError):
            await store.apply(adding(b"x"))
        took = []
        for number in range(300):
            started = time.perf_counter()
            with pytest.raises(StoreUnavailableError) as caught:
                await store.apply(adding(b"x") if number % 2 else batch(Get("")))
            took.append(time.perf_counter() - started)
            assert caught.value.outcome == "not_applied"
        assert statistics.median(took) < TIMEOUT / 10  # nobody waited for anything
        await restart(own_server)
        started = time.monotonic()
        await recovered(store)
        assert time.monotonic() - started < PATIENCE
        assert await items(store) == []


async def test_while_the_server_is_silent_calls_fail_at_once(own_server, prefix):
    async with opened(own_server.url, prefix, TIMEOUT) as store:
        await store.apply(creating())
        async with paused(own_server):
            with pytest.raises(StoreTimeoutError) as caught:
                await store.apply(adding(b"unknown"))
            assert caught.value.outcome == "unknown"
            with pytest.raises(StoreError):
                await store.ping()
            started = time.perf_counter()
            told = await every(100, lambda n: store.apply(adding(b"%d" % n)))
            assert time.perf_counter() - started < TIMEOUT  # nobody waited for a deadline
            assert {type(error) for error in told} == {StoreUnavailableError}
        await recovered(store)
        assert await items(store) in ([b"unknown"], [])


@pytest.mark.parametrize("patient", [True, False])
async def test_one_patient_or_hurried_caller_changes_nothing_for_others(
    own_server, prefix, patient
):
    """Silence is measured from the first question, whatever the deadlines of the callers."""
    async with opened(own_server.url, prefix, TIMEOUT) as store:
        await store.apply(creating())
        async with paused(own_server):
            odd = 20.0 if patient else 0.01
            first = asyncio.create_task(store.apply(adding(b"odd"), timeout=odd))
            started = time.monotonic()
            with pytest.raises(StoreTimeoutError):
                await store.apply(adding(b"usual"))
            assert TIMEOUT - 0.05 < time.monotonic() - started < TIMEOUT + SLACK
            with pytest.raises(StoreError):
                await store.ping()
            started = time.perf_counter()
            with pytest.raises(StoreUnavailableError):
                await store.apply(adding(b"refused"))
            assert time.perf_counter() - started < TIMEOUT
            assert first.done() is not patient
        told = await asyncio.gather(first, return_exceptions=True)
        await recovered(store)
        assert isinstance(told[0], StoreTimeoutError) is not patient
        assert b"refused" not in await items(store)
        assert (b"odd" in await items(store)) or not patient


async def test_a_server_that_loads_its_data_is_not_believed(own_server, prefix, measured):
    """A write it had stored before it was killed must not be called "not applied"."""
    slowly = ("--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024")
    async with opened(own_server.url, prefix, 20.0) as store:
        async with Ledger(store, tasks=16) as ledger:
            await ledger.more(500)
            own_server.options += slowly
            own_server.kill()
            await restart(own_server)
            told = await asyncio.to_thread(own_server.command, "DBSIZE")
            assert told.startswith(b"-LOADING")
            ledger.healed()
            await recovered(store, 20)
            await ledger.more(20)
        await ledger.check()
        measured(ledger.figures())
        assert not ledger.unknown


# --- scripts forgotten, connections killed ------------------------------------------------------


async def test_scripts_flushed_under_load(own_server, prefix):
    async with opened(own_server.url, prefix, 5.0) as store:
        async with Ledger(store) as ledger:
            for _ in range(25):
                await ledger.more(40)
                assert own_server.command("SCRIPT", "FLUSH") == b"+OK\r\n"
        assert not ledger.errors
        assert sum(lane.reconnects for lane in lanes(store)) == 0
        await ledger.check()


@LOADS
async def test_our_connections_killed_under_load(own_server, prefix, load, measured):
    async with opened(own_server.url, prefix, 5.0) as store:
        async with Ledger(store, **load) as ledger:
            for number in range(20):
                await ledger.more(30)
                own_server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                if number % 4 == 0:
                    own_server.command("SCRIPT", "FLUSH")
        assert sum(lane.reconnects for lane in lanes(store)) >= 10
        assert not ledger.errors, "a server that is there was called gone"
        await ledger.check()
        measured(ledger.figures())


async def test_a_client_killed_with_writes_under_way_has_written_all_or_nothing(
    own_server, prefix, tmp_path, measured
):
    """SIGKILL in a storm: each batch of two messages and a counter is whole or absent."""
    script = tmp_path / "storm.py"
    script.write_text(STORM)
    acknowledged = set()
    for _ in range(KILLS // 4):
        storms = [killed_in_a_storm(script, own_server.url, prefix) for _ in range(4)]
        acknowledged.update(*await asyncio.gather(*storms))
        async with opened(own_server.url, prefix) as store:
            stored = await items(store)
            (head,) = await store.apply(batch(Get("", ("n",))))
            assert len(stored) == 2 * int(head[0])
            assert stored[::2] == stored[1::2]
            assert len(set(stored)) * 2 == len(stored)
            assert acknowledged <= set(stored)
            check_order(stored)
    measured(f"{KILLS} kills, {len(acknowledged):,} acknowledged, {len(set(stored)):,} stored")


async def killed_in_a_storm(script, url, prefix):
    """What a process was told before it was killed, at a random moment."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, script, url, prefix, stdout=asyncio.subprocess.PIPE
    )
    told = [await process.stdout.readline() for _ in range(random.randint(1, 400))]
    process.send_signal(signal.SIGKILL)
    told += (await process.stdout.read()).splitlines(keepends=True)
    await process.wait()
    return [line[:-1] for line in told if line.endswith(b"\n")]


def check_order(stored):
    """What each task has written is there without a gap, in its order."""
    by_task = {}
    for name in stored[::2]:
        process, task, number = name.split(b".")
        by_task.setdefault((process, task), []).append(int(number))
    for numbers in by_task.values():
        assert numbers == list(range(len(numbers)))


STORM = """
import asyncio, os, sys
from aiecs.core.interface.store import *
from aiecs.infrastructure.persistence.stores.redis import RedisStore

async def main(url, prefix):
    store = RedisStore.from_url(url, prefix=prefix)
    make = Put("", {"~i": NEW_INCARNATION}, if_absent="skip")
    await store.apply(Batch(7, "s:one", (make,)))
    async def write(task):
        number = 0
        while True:
            name = b"%d.%d.%d" % (os.getpid(), task, number)
            number += 1
            await store.apply(Batch(7, "s:one", (
                Append("m", (name,)), Incr("", {"n": 1}), Append("m", (name,)))))
            os.write(1, name + b"\\n")
    await asyncio.gather(*map(write, range(16)))

asyncio.run(main(*sys.argv[1:]))
"""
