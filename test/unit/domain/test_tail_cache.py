"""The tail cache trusts nothing that it holds, and stays within its bounds."""

from __future__ import annotations

import random

import pytest
from support.services import Store

from aiecs.core.interface.store import Append, Batch, LogSlice, Read, Trim, Truncate
from aiecs.core.keys import session_place
from aiecs.domain.context.conversations import Conversations
from aiecs.domain.context.messages import encode_message, new_message
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.sessions import Sessions
from aiecs.domain.context.tail_cache import MAX_ROWS, Tail, TailCache


def conversations(store, cache):
    runtime = Runtime(store)
    return Conversations(runtime, Sessions(runtime), cache)


def tail(size=100, epoch="e", first=1):
    return Tail(epoch, first, first, first + 1, b"x", [], size)


# --- the cache itself ---------------------------------------------------------------------------


def test_the_least_recently_used_tails_go_first():
    cache = TailCache(max_bytes=1000)
    for name in "abcdefghij":
        cache.put(name, tail())
    assert cache.get("a")
    cache.put("k", tail())

    assert cache.get("b") is None
    assert cache.get("a")
    assert cache.get("k")


def test_replacing_and_dropping_gives_room():
    cache = TailCache(max_bytes=1000)
    for _ in range(100):
        cache.put("a", tail())
    cache.put("b", tail())
    cache.put("a", None)

    assert cache.get("a") is None
    assert cache.get("b")
    assert cache._size == 100


def test_one_tail_takes_no_more_than_an_eighth():
    cache = TailCache(max_bytes=1000)
    cache.put("a", tail(size=126))
    assert cache.get("a") is None


def test_without_room_nothing_is_held():
    cache = TailCache(max_bytes=0)
    cache.put("a", tail(size=1))
    assert cache.get("a") is None


@pytest.mark.parametrize(
    "found",
    [
        LogSlice("other", 1, 2, 1, [b"x"]),  # another epoch
        LogSlice("e", 1, 2, 1, [b"y"]),  # another item at the same place
        LogSlice("e", 1, 5, 3, [b"x"]),  # more new ones than were asked for
        LogSlice("e", 1, 1, 1, []),  # a shorter log
        LogSlice("", 0, 0, 0, []),  # no log
    ],
)
def test_a_tail_that_was_not_met_again_is_not_used(found):
    assert not tail().continues(found)
    assert tail().continues(LogSlice("e", 1, 3, 1, [b"x", b"z"]))


# --- under reads --------------------------------------------------------------------------------


async def test_a_replica_that_lags_does_not_mix_histories():
    """After a failover the log is shorter, and then goes on with other messages."""
    store, cache = Store(), TailCache()
    service = conversations(store, cache)
    for number in range(10):
        await service.add("s", "user", f"m{number}")
    assert len(await service.history("s", 5)) == 5
    place = session_place("s")
    (log,) = await store.apply(Batch(*place, (Read("m"),)))

    # The same epoch and sequences, other items: what a plain comparison of numbers would miss.
    lost = store.memory._state._logs[f"{place.bucket}/{place.group}/m"].items
    del lost[-2:]
    lost += [encode_message(new_message("user", f"other{n}")) for n in range(4)]

    contents = [message.content for message in await service.history("s", 5)]
    assert contents == ["m7", "other0", "other1", "other2", "other3"]
    assert log.next


async def test_only_what_is_new_is_read_again():
    store, cache = Store(), TailCache()
    service = conversations(store, cache)
    for number in range(60):
        await service.add("s", "user", f"m{number}")
    await service.history("s", 50)
    await service.add("s", "user", "m60")

    store.batches.clear()
    history = await service.history("s", 50)

    (batch,) = store.batches
    (found,) = await store.apply(batch)
    assert len(found.items) == 2
    assert [m.content for m in history] == [f"m{n}" for n in range(11, 61)]


async def test_a_rewind_during_a_long_read_starts_it_over():
    store = Store()
    service = conversations(store, TailCache())
    for part in range(3):
        await service.add_all("s", [{"role": "u", "content": f"{part} {n}"} for n in range(500)])
    apply, reads = store.apply, []

    async def rewind(batch, *, timeout=None):
        found = await apply(batch, timeout=timeout)
        reads.append(batch)
        if len(reads) == 2:  # in the middle: what was read of the end is gone
            end = Truncate("m", found[0].base + 1000)
            await apply(Batch(*session_place("s"), (end,)))
            await apply(Batch(*session_place("s"), (Append("m", (new,)),)))
        return found

    new = encode_message(new_message("u", "after the rewind"))
    store.apply = rewind

    contents = [message.content for message in await service.history("s", None)]
    assert contents == [f"{part} {n}" for part in range(2) for n in range(500)] + [
        "after the rewind"
    ]


async def test_a_tail_is_cut_when_it_has_grown_long():
    service = conversations(Store(), cache := TailCache())
    for start in range(0, 3 * MAX_ROWS, 300):
        await service.add_all(
            "s", [{"role": "u", "content": f"m{n}"} for n in range(start, start + 300)]
        )
        history = await service.history("s", 400)
        expected = [f"m{n}" for n in range(max(0, start - 100), start + 300)]
        assert [m.content for m in history] == expected
        assert len(cache.get("s").rows) <= MAX_ROWS


@pytest.mark.parametrize("seed", range(20))
async def test_reads_equal_the_log_whatever_happens_between(seed):
    """Appends, trims, rewinds, deletions and corrupt items in any order, against a plain list."""
    chance = random.Random(seed)
    store, cache = Store(), TailCache(max_bytes=chance.choice([20_000, 1_000_000]))
    service = conversations(store, cache)
    place = session_place("s")
    log: list[str | None] = []
    number = 0
    for _ in range(150):
        action = chance.choice(["add", "add", "add", "read", "read", "read", "corrupt", "other"])
        if action == "add":
            count = chance.choice([1, 1, 2, 30])
            names = [f"m{number + n}" for n in range(count)]
            number += count
            await service.add_all("s", [{"role": "u", "content": name} for name in names])
            log += names
        elif not log:
            continue
        elif action == "corrupt":
            await store.apply(Batch(*place, (Append("m", (b"{",)),)))
            log.append(None)
        elif action == "other":
            (found,) = await store.apply(Batch(*place, (Read("m", stop=0),)))
            keep = chance.randrange(1, len(log) + 1)
            if chance.random() < 0.5:
                await store.apply(Batch(*place, (Trim("m", keep=keep),)))
                log = log[-keep:]
            else:
                await store.apply(Batch(*place, (Truncate("m", found.base + keep),)))
                log = log[:keep]
        limit = chance.choice([1, 5, 50, 500])
        expected = [name for name in log if name is not None][-limit:]
        assert [m.content for m in await service.history("s", limit)] == expected
        if chance.random() < 0.1:
            everything = [name for name in log if name is not None]
            assert [m.content for m in await service.history("s", None)] == everything
