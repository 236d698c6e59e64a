"""A reply that is lost after the server had executed the write: exactly once all the same."""

from __future__ import annotations

import asyncio

import pytest
from support.proxy import Proxy
from support.redis_keys import whole_hash
from support.redis_store import (
    ADD,
    BUCKET,
    DAY,
    GROUP,
    LARGE,
    adding,
    batch,
    counting,
    creating,
    every,
    fields,
    items,
    lanes,
    opened,
)

from aiecs.core.errors import StoreError, StoreFullError
from aiecs.core.interface.store import (
    INCARNATION,
    NOW,
    Append,
    Batch,
    Call,
    Delete,
    Expire,
    Get,
    GroupMissing,
    GuardFailed,
    Incr,
    IndexDelete,
    IndexPut,
    Plan,
    Put,
    Read,
    Receipt,
    Redact,
    RequireEquals,
    Result,
    Trim,
    Truncate,
)

_KEY = Put("k0", {"key": b"digest"}, if_absent="abort")

# What an engine sends in the life of a session. Each step changes what the next ones see.
MIXED = (
    creating(),
    adding(b"first"),
    batch(counting(), Put("", {"m:a": b"1"}), Expire(DAY)),
    batch(
        RequireEquals("", "kn", None), _KEY, Append("m", (b"keyed",)), Incr("", {"kn": 1}),
    ),
    batch(
        Append("m", (b"second", b"third")),
        counting(),
        Append("_o", (b"event",), (Result(0), Result(1, 1), INCARNATION)),
    ),
    adding(b"large" + b"." * LARGE),
    batch(IndexPut("i", {"a": 1, "b": 2}), IndexDelete("i", ("z",)), Delete("", ("m:a",))),
    batch(Append("l", (b"0", b"1", b"2", b"3")), Trim("l", keep=3)),
    batch(Truncate("l", 0), counting("n")),
    batch(Redact("m", (1,)), Delete("k0"), counting()),
    adding(b"last"),
)  # fmt: skip
MESSAGES = [b"first", b"keyed", b"second", b"third", b"large" + b"." * LARGE, b"last"]


async def check_mixed(store, told):
    """Every step was applied once, whoever was told."""
    head = await fields(store)
    assert {name: head[name] for name in ("q", "t", "kn")} == {"q": b"3", "t": b"1500", "kn": b"1"}
    assert await fields(store, "n") == {"q": b"1", "t": b"500"}
    assert await items(store) == MESSAGES
    (log, outbox) = await store.apply(batch(Read("l"), Read("_o")))
    assert log.items == []
    assert len(outbox.items) == 1
    sequence, count, incarnation = outbox.items[0].split(b"\n")[0].split(b" ")
    assert (count, incarnation) == (b"1000", head["~i"])
    base = (await store.apply(batch(Read("m"))))[0].base
    assert int(sequence) == base + 2
    # Whoever got results got the right ones; who got None was told "applied".
    expected = {1: (0, base), 3: (2, base + 1), 4: (0, base + 2), 10: (0, base + 5)}
    for step, (operation, sequence) in expected.items():
        assert told[step] is None or told[step][operation] == sequence


@pytest.mark.parametrize("number", range(1, len(MIXED) + 1))
async def test_one_lost_reply_in_a_run_of_mixed_writes(server, prefix, number):
    async with Proxy(server.port) as proxy, opened(proxy.url, prefix) as store:
        await store.ping()
        await store.apply(batch(Put("_x", {"a": b"." * LARGE})))  # now both connections are there
        proxy.drop_reply(number)

        told = [await store.apply(step) for step in MIXED]

        assert proxy.tripped.is_set()
        assert sum(lane.reconnects for lane in lanes(store)) == 1
        assert sum(result is None for result in told) == 1, "one answer was lost, its results too"
        await check_mixed(store, told)


async def test_every_reply_of_a_run_lost_in_turn(server, prefix):
    async with Proxy(server.port) as proxy, opened(proxy.url, prefix) as store:
        await store.ping()
        await store.apply(batch(Put("_x", {"a": b"." * LARGE})))
        told = []
        for step in MIXED:
            proxy.drop_reply()
            told.append(await store.apply(step))

        assert told == [None] * len(MIXED)
        await check_mixed(store, told)


async def test_lost_replies_in_a_pipeline_of_many_writers(server, prefix):
    """At every place of 40 writes to one session and four others, cut once each."""
    plan = Plan("count", *ADD.ops, Incr("", {"n": 1}))
    places = [(BUCKET, "s:0"), (BUCKET, "s:1"), (8, "s:2"), (9, "s:3")]
    async with Proxy(server.port) as proxy, opened(proxy.url, prefix) as store:
        for bucket, group in places:
            await store.apply(creating(group, bucket))
        for number in range(1, 42):

            async def write(task, number=number):
                bucket, group = places[0 if task % 2 else task // 2 % 4]
                item = b"%d.%d" % (number, task)
                return await store.apply(Call(plan, bucket, group, (item,)))

            proxy.drop_reply(number)
            told = await every(40, write)
            assert proxy.tripped.is_set() == (number <= 40)
            assert all(result is None or type(result[0]) is int for result in told)

        sent = [b"%d.%d" % (number, task) for number in range(1, 42) for task in range(40)]
        stored = []
        for bucket, group in places:
            found = await items(store, group, bucket)
            assert found == sorted(found, key=sent.index), "out of order"
            (head,) = await store.apply(Batch(bucket, group, (Get("", ("n",)),)))
            assert int(head[0]) == len(found)
            stored += found
        assert sorted(stored) == sorted(sent)


async def test_results_that_came_belong_to_their_callers(server, prefix):
    async with Proxy(server.port) as proxy, opened(proxy.url, prefix) as store:
        await store.apply(creating())
        for number in (1, 7, 20, 39):
            proxy.drop_reply(number)
            told = await every(40, lambda task, n=number: store.apply(adding(b"%d.%d" % (n, task))))
            log = (await store.apply(batch(Read("m"))))[0]
            for task, result in enumerate(told):
                if result is not None:
                    assert log.items[result[0] - log.base] == b"%d.%d" % (number, task)
            assert sum(result is not None for result in told) == number - 1


async def test_reads_are_asked_again(server, prefix):
    async with Proxy(server.port) as proxy, opened(proxy.url, prefix) as store:
        await store.apply(creating())
        for number in range(100):
            await store.apply(batch(Put("m", {f"f{number}": b"%d" % number})))
        for lost in range(1, 30):
            proxy.drop_reply(lost)

            async def read(task):
                return await store.apply(batch(Get("m", (f"f{task}",)), Get("", ("~i", "l"))))

            told = await every(20, read)
            assert [result[0] for result in told] == [[b"%d" % task] for task in range(20)]


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [1, 2, 15, 30])
async def test_the_lost_refusal_of_a_guard_is_no_success(server, prefix, lost):
    async with Proxy(server.port) as proxy, opened(proxy.url, prefix) as store:
        await store.ping()
        proxy.drop_reply(lost)

        told = await every(30, lambda task: store.apply(adding(b"%d" % task)))

        assert proxy.tripped.is_set()
        assert [type(error) for error in told] == [GroupMissing] * 30
        await store.apply(creating())
        assert await items(store) == []


@pytest.mark.parametrize("count", [3, 300])
async def test_lost_refusals_beside_lost_successes_are_told_apart(server, prefix, count):
    """Of many batches in one bucket every second is refused, in no pattern the server knows."""
    plan = Plan("guarded", RequireEquals("", "never", None), *ADD.ops)
    impossible = Plan("impossible", *ADD.ops, RequireEquals("", "never", b"x"))
    async with Proxy(server.port) as proxy, opened(proxy.url, prefix) as store:
        await store.apply(creating())
        proxy.drop_reply()

        async def write(task):
            chosen = impossible if task % 2 else plan
            return await store.apply(Call(chosen, BUCKET, GROUP, (b"%d" % task,)))

        told = await every(count, write)

        stored = await items(store)
        for task, answer in enumerate(told):
            if task % 2:
                refused = isinstance(answer, GuardFailed) and answer.operation == 3
                assert refused or _is_unknown(answer)
            else:
                assert stored.count(b"%d" % task) == 1
                assert not isinstance(answer, Exception) or _is_unknown(answer)
        assert len(stored) == (count + 1) // 2
        # The server remembers some sixty changes between applied and refused for each writer.
        assert sum(map(_is_unknown, told)) <= max(0, count - 60)


def _is_unknown(answer):
    return isinstance(answer, StoreError) and answer.outcome == "unknown"


async def test_a_thousand_refusals_in_a_row_are_one_note(server, prefix):
    async with Proxy(server.port) as proxy, opened(proxy.url, prefix) as store:
        await store.ping()
        proxy.drop_reply()

        told = await every(1000, lambda task: store.apply(adding(b"%d" % task)))

        assert [type(error) for error in told] == [GroupMissing] * 1000
        head = await whole_hash(store, store._layout.heads[BUCKET])
        assert max(len(value) for name, value in head.items() if name.endswith(b"!")) < 100


async def test_a_group_made_between_two_tries_takes_the_message(server, prefix):
    """The first try was refused, nobody was told; the second finds the group and is stored once."""
    async with Proxy(server.port) as proxy, opened(proxy.url, prefix) as store:
        with pytest.raises(GroupMissing):  # a script that is unknown would be no refusal
            await store.apply(adding(b"before"))
        async with opened(server.url, prefix) as other:
            proxy.drop_reply(then="silence")  # no second try before the group is there
            adding_all = asyncio.create_task(
                every(10, lambda task: store.apply(adding(b"%d" % task)))
            )
            await proxy.tripped.wait()
            await other.apply(creating())
            proxy.sever()
            proxy.heal()
            told = await adding_all

            stored = await items(other)
        assert not any(isinstance(answer, Exception) for answer in told)
        assert stored == [b"%d" % task for task in range(10)]


# --- errors that leave no trace on the server ---------------------------------------------------


async def test_an_unknown_script_whose_answer_is_lost_is_not_taken_for_applied(server, prefix):
    """NOSCRIPT spends no receipt; what follows in the bucket must not make it look spent."""
    async with Proxy(server.port) as proxy, opened(proxy.url, prefix) as store:
        await store.apply(creating())
        await store.apply(adding(b"known"))
        for number in range(1, 4):
            server.command("SCRIPT", "FLUSH")
            proxy.drop_reply(number)
            fresh = [Incr(f"n{number}", {f"f{n}": 1}) for n in range(number)]

            told = await asyncio.gather(
                store.apply(adding(b"%d" % number)),
                store.apply(batch(*fresh, Put("m2", {"a": NOW}), *fresh_guard(number))),
                store.apply(adding(b"%d again" % number)),
            )

            assert proxy.tripped.is_set()
            assert not any(isinstance(answer, Exception) for answer in told)
            stored = await items(store)
            assert sorted(stored[-2:]) == [b"%d" % number, b"%d again" % number]
            assert len(stored) == 1 + 2 * number
            assert (await fields(store, f"n{number}"))["f0"] == b"1"


def fresh_guard(number):
    """Makes a batch that no server has seen a script for."""
    return [RequireEquals("", "never", None)] * (number % 2 + 1)


async def test_a_wrong_type_whose_answer_is_lost_is_not_taken_for_applied(server, prefix):
    async with Proxy(server.port) as proxy, opened(proxy.url, prefix) as store:
        await store.apply(creating())
        wrong = store._layout.key(BUCKET, GROUP, "log", "m")
        await store.command("SET", wrong, "x")
        for lost in (1, 2):
            proxy.drop_reply(lost)
            told = await every(
                2, lambda task: store.apply(batch(counting()) if task else adding(b"x"))
            )
            assert isinstance(told[0], Exception)
            assert not isinstance(told[1], Exception)
        assert (await fields(store))["q"] == b"2"


async def test_an_error_on_the_second_try_leaves_the_outcome_open(servers, prefix):
    """Whether the first try arrived cannot be known: only the receipt that it left would tell."""
    server = servers.start("valkey")
    async with Proxy(server.port) as proxy, opened(proxy.url, prefix) as store:
        await store.apply(creating())
        server.command("CONFIG", "SET", "maxmemory", "1")
        proxy.cut_after(50, "requests")
        with pytest.raises(StoreFullError) as caught:
            await store.apply(adding(b"never"))
        assert proxy.tripped.is_set()
        assert caught.value.outcome == "unknown"
        assert await items(store) == []
    server.close()


async def test_a_full_server_still_knows_what_it_has_stored(servers, prefix):
    server = servers.start("valkey")
    async with Proxy(server.port) as proxy, opened(proxy.url, prefix) as store:
        await store.apply(creating())
        proxy.drop_reply()
        writing = asyncio.create_task(store.apply(adding(b"once")))
        await proxy.tripped.wait()
        server.command("CONFIG", "SET", "maxmemory", "1")
        assert await writing is None
        assert await items(store) == [b"once"]
    server.close()


# --- receipts of callers ------------------------------------------------------------------------


async def test_a_callers_receipt_survives_an_unknown_script(server, prefix):
    once = Batch(BUCKET, GROUP, (counting(),), receipt=Receipt("mine", 5))
    async with opened(server.url, prefix) as store:
        await store.apply(creating())
        await store.apply(batch(counting()))
        server.command("SCRIPT", "FLUSH")

        assert await store.apply(once) is not None
        assert await store.apply(once) is None
        assert (await fields(store))["q"] == b"2"


async def test_a_callers_receipt_is_kept_while_it_is_young(server, prefix):
    """Its number tells no age: writers that come later must not prune it."""
    once = Batch(BUCKET, GROUP, (counting(),), receipt=Receipt("mine", 5))
    async with opened(server.url, prefix) as store:
        await store.apply(creating())
        assert await store.apply(once) is not None
    for _ in range(30):
        async with opened(server.url, prefix) as store:
            await store.apply(batch(Put("m", {"a": b"1"})))
    async with opened(server.url, prefix) as store:
        assert await store.apply(once) is None
        assert (await fields(store))["q"] == b"1"
