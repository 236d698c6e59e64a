"""Several loops, threads and processes on one Redis store, and loops that just end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections import Counter

from support.redis_store import BUCKET, adding, batch, creating, fields, items, opened
from support.servers import NOWHERE

from aiecs.core.interface.store import Get
from aiecs.infrastructure.persistence.stores.redis import RedisStore

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
        assert len(store._fleets) == 1, "loops that have ended are forgotten"
        await store.close()

    assert not failures
    asyncio.run(finish())


def test_many_loops_one_after_the_other(server, prefix):
    store = RedisStore.from_url(server.url, prefix=prefix)
    asyncio.run(store.apply(creating()))
    for number in range(20):
        asyncio.run(store.apply(adding(b"%d" % number)))
        assert len(store._fleets) <= 1
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
    assert run_script(script, NOWHERE, prefix) == ["done"]


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
    reconnects = [lane.reconnects for lane in store.lanes()]
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
