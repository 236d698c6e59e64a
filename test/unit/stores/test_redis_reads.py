"""Reads of the Redis store: equal scores, wrong hints, rounds that others write between."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.redis_keys import state
from support.redis_store import BUCKET, GROUP, batch, creating, opened

from aiecs.core.errors import StoreTimeoutError
from aiecs.core.interface import store as port
from aiecs.core.interface.store import (
    Append,
    Batch,
    Get,
    IndexCount,
    IndexDelete,
    IndexPut,
    IndexRange,
    Plan,
    Put,
    Read,
    RequireAtMost,
    RequireEquals,
    RequireExists,
    RequireFields,
    Trim,
    Truncate,
)
from aiecs.infrastructure.persistence.stores.memory import MemoryStore
from aiecs.infrastructure.persistence.stores.redis import store as module

QUICK = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


# --- pages of an index --------------------------------------------------------------------------


async def walked(store, limit, **options):
    """All of an index, page by page; each page follows the last member of the one before."""
    found, cursor = [], None
    while True:
        op = IndexRange("_i", limit=limit, cursor=cursor, **options)
        (page,) = await store.apply(Batch(BUCKET, "", (op,)))
        assert len(page) <= limit
        found += page
        if len(page) < limit:
            return found
        cursor = page[-1]


@pytest.mark.parametrize(("score", "read"), [("+inf", 2**53 - 1), ("-inf", 1 - 2**53), ("7.9", 7)])
async def test_a_score_that_is_no_integer_hides_no_member(server, prefix, score, read):
    async with opened(server.url, prefix) as store:
        await store.apply(Batch(BUCKET, "", (IndexPut("_i", {"b": 5}),)))
        (key,) = [key for key in await state(store, prefix) if b"_i" in key]
        await store.command("ZADD", key, score, "x")

        (page,) = await store.apply(Batch(BUCKET, "", (IndexRange("_i"),)))

    assert sorted(page) == [("b", 5), ("x", read)]


@pytest.mark.parametrize("limit", [1, 3, 63, 64, 65, 400])
@pytest.mark.parametrize("reverse", [False, True])
async def test_pages_over_many_members_of_one_score(server, prefix, limit, reverse):
    """300 share a score; each page begins in their middle, where the server cannot seek."""
    scores = {f"same{number:03}": 5 for number in range(300)}
    scores |= {f"low{number}": number for number in range(5)}
    scores |= {f"high{number}": 6 + number % 2 for number in range(70)}
    async with opened(server.url, prefix) as store:
        await store.apply(Batch(BUCKET, "", (IndexPut("_i", scores),)))
        expected = sorted(scores.items(), key=lambda pair: (pair[1], pair[0]), reverse=reverse)

        if limit > 1:
            assert await walked(store, limit, reverse=reverse) == expected
        between = [pair for pair in expected if 4 <= pair[1] <= 6]
        if limit > 1:
            assert await walked(store, limit, reverse=reverse, low=4, high=6) == between
        at = random.randrange(20, 320)
        op = IndexRange("_i", limit=limit, cursor=expected[at], reverse=reverse)
        (page,) = await store.apply(Batch(BUCKET, "", (op,)))
        assert page == expected[at + 1 : at + 1 + limit]


async def test_a_cursor_whose_member_is_gone(server, prefix):
    scores = {f"same{number:03}": 5 for number in range(200)}
    async with opened(server.url, prefix) as store:
        await store.apply(Batch(BUCKET, "", (IndexPut("_i", scores),)))
        await store.apply(Batch(BUCKET, "", (IndexDelete("_i", ("same150",)),)))
        for reverse, expected in ((False, "same151"), (True, "same149")):
            op = IndexRange("_i", limit=1, cursor=("same150", 5), reverse=reverse)
            (page,) = await store.apply(Batch(BUCKET, "", (op,)))
            assert page == [(expected, 5)]


async def test_a_page_that_takes_rounds_misses_nobody_that_moves(server, prefix, monkeypatch):
    """Between two rounds others move the members in front; those behind must not be skipped."""
    scores = {f"same{number:03}": 5 for number in range(400)}
    async with opened(server.url, prefix) as store, opened(server.url, prefix) as other:
        await store.apply(Batch(BUCKET, "", (IndexPut("_i", scores),)))
        moved = iter(range(0, 300, 3))
        ask = store._ask

        async def slowly(*args):
            replies = await ask(*args)
            for number in itertools.islice(moved, 30):
                move = IndexPut("_i", {f"same{number:03}": 9})
                await other.apply(Batch(BUCKET, "", (move,)))
            return replies

        monkeypatch.setattr(store, "_ask", slowly)
        op = IndexRange("_i", limit=10, cursor=("same350", 5))
        (page,) = await store.apply(Batch(BUCKET, "", (op,)))
        assert page == [(f"same{number}", 5) for number in range(351, 361)]


async def test_all_of_a_batch_that_takes_rounds_is_of_one_moment(server, prefix, monkeypatch):
    async with opened(server.url, prefix) as store, opened(server.url, prefix) as other:
        tied = {f"{number:03}": 5 for number in range(300)}
        setup = (IndexPut("i", tied), Append("m", (b"0",)), Put("p", {"n": b"0"}))
        await store.apply(creating(GROUP, BUCKET, *setup))
        count = itertools.count(1)
        ask = store._ask

        async def slowly(*args):
            replies = await ask(*args)
            number = b"%d" % next(count)
            more = (Append("m", (number,)), Put("p", {"n": number}))
            await other.apply(batch(*more))
            return replies

        monkeypatch.setattr(store, "_ask", slowly)
        ops = (
            IndexRange("i", limit=5, cursor=("250", 5)), Read("m", start=0, base=17),
            Get("p", ("n",)), Read("m", limit=1),
        )  # fmt: skip
        page, log, found, last = await store.apply(batch(*ops))
        assert [member for member, _ in page] == ["251", "252", "253", "254", "255"]
        assert [log.items[-1]] == found == last.items
        assert log.items == [b"%d" % number for number in range(len(log.items))]


async def test_a_read_that_never_ends_ends_at_its_deadline(server, prefix, monkeypatch):
    """Each round is answered in time, yet there is always another: one deadline is for all."""
    async with opened(server.url, prefix) as store:
        await store.apply(creating())
        monkeypatch.setattr(module.Exchange, "results", lambda *_: None)
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(StoreTimeoutError):
            await store.apply(batch(Get("")), timeout=0.2)
        assert loop.time() - started < 1.0


# --- windows of a log ---------------------------------------------------------------------------

_bounds = st.none() | st.integers(-3, 14)
windows = st.builds(
    Read,
    st.just("m"),
    _bounds,
    _bounds,
    st.sampled_from([0, 1, 2, 5, 100]),
    st.booleans(),
    st.none() | st.integers(-2, 20),
)
changes = st.one_of(
    st.lists(st.binary(max_size=3), min_size=1, max_size=4).map(lambda new: Append("m", (*new,))),
    st.integers(0, 5).map(lambda keep: Trim("m", keep=keep)),
    st.integers(0, 12).map(lambda start: Truncate("m", start)),
)


def run(work):
    return asyncio.run(work)


@QUICK
@given(st.lists(changes, max_size=5), st.lists(windows, min_size=1, max_size=6))
def test_windows_with_any_hint_show_what_memory_shows(server, prefix, before, asked):
    """Right after a change by another process no hint is right; the answer is, every time."""

    async def both():
        memory = MemoryStore()
        place = f"s:{next(_numbers)}"
        async with opened(server.url, prefix) as store:
            for each in (store, memory):
                await each.apply(creating(place, BUCKET, Append("m", (b"a", b"b"), first=3)))
                for change in before:
                    await each.apply(batch(change, group=place))
            head, other = [
                (await each.apply(batch(Get("", ("~i",)), group=place)))[0][0].decode()
                for each in (store, memory)
            ]
            together = batch(*asked, group=place)
            alone = [batch(op, group=place) for op in asked]
            calls = [port.Call(Plan("window", op), BUCKET, place, ()) for op in asked]
            for one in (together, *alone, *calls):
                found, expected = await store.apply(one), await memory.apply(one)
                expected = [log._replace(epoch=log.epoch.replace(other, head)) for log in expected]
                assert found == expected

    run(both())


_numbers = itertools.count()


# --- odd bytes and ids --------------------------------------------------------------------------

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_names = _texts.filter(lambda text: not text.startswith("~"))
_keys = _names.filter(lambda text: text != "" and not text.startswith("_"))
_groups = _texts.filter(lambda text: text and not text.startswith("_") and "/" not in text)


@QUICK
@given(
    group=_groups,
    keys=st.lists(_keys, min_size=3, max_size=3, unique=True),
    values=st.dictionaries(_names, st.binary(max_size=20), min_size=1, max_size=4),
    items=st.lists(st.binary(max_size=20), min_size=1, max_size=4),
    members=st.dictionaries(_texts, st.integers(-(2**53) + 1, 2**53 - 1), min_size=1, max_size=5),
)
def test_odd_bytes_and_ids_come_back(  # noqa: PLR0917 - hypothesis calls it
    server, prefix, group, keys, values, items, members
):
    async def both():
        memory = MemoryStore()
        fresh = f"{prefix}{next(_numbers)}:"
        async with opened(server.url, fresh) as store:
            a, b, c = keys
            setup = (Put(a, values), Append(b, tuple(items), first=0), IndexPut(c, members))
            name = next(iter(members))
            reads = (
                Get(a), Get(a, tuple(values)), Read(b), IndexRange(c), IndexRange(c, reverse=True),
                IndexRange(c, cursor=(name, members[name])), IndexCount(c),
                IndexRange(c, low=members[name], high=members[name]), RequireExists(a),
                RequireEquals(a, next(iter(values)), next(iter(values.values()))),
                RequireFields(a, tuple(values)),
            )  # fmt: skip
            answers = []
            for each in (store, memory):
                await each.apply(creating(group, BUCKET, *setup))
                found = await each.apply(batch(*reads, group=group))
                found[2] = found[2]._replace(epoch="")
                answers.append(found)
                others = await each.apply(batch(*(Get(key) for key in (b, c)), group=group + "x"))
                assert others == [{}, {}]
            assert answers[0] == answers[1]

    run(both())


# --- the way around a transaction ---------------------------------------------------------------


async def test_one_script_reads_what_a_transaction_reads(server, prefix, monkeypatch):
    """How a full Redis 7 is read: every kind of reply comes back the same."""
    setup = (
        Put("p", {"a": b"1", "b": b"\x00\xff\r\n", "": b""}), Append("m", (b"x", b"", b"\xff")),
        IndexPut("i", {"a": 1, "b": -(2**53) + 1, "c": 2**53 - 1}), Put("_p", {"a": b"1"}),
    )  # fmt: skip
    reads = [
        (Get("p"), Get("p", ("a", "none", "")), Get("none"), Get("none", ("a",))),
        (Read("m"), Read("m", limit=1), Read("none"), Read("m", start=1, stop=2, base=3)),
        (IndexRange("i"), IndexRange("i", reverse=True), IndexRange("i", prefix="a")),
        (IndexCount("i"), IndexCount("i", low=2), IndexRange("none"), Get("_p")),
        (RequireExists("p"), RequireEquals("p", "a", b"1"), RequireAtMost("p", "a", 1)),
        (IndexRange("i", cursor=("a", 1)), Get("")),
    ]
    async with opened(server.url, prefix) as store:
        await store.apply(creating(GROUP, BUCKET, *setup))
        expected = [await store.apply(batch(*ops)) for ops in reads]
        ask = store._ask

        async def full(lane, commands, deadline):
            if commands[0] == ("MULTI",):
                return [module.StoreFullError("OOM full")] * len(commands)
            return await ask(lane, commands, deadline)

        monkeypatch.setattr(store, "_ask", full)
        assert [await store.apply(batch(*ops)) for ops in reads] == expected
        with pytest.raises(port.GuardFailed):
            await store.apply(batch(RequireExists("none"), Get("")))
        await store.command("SET", store._layout.key(BUCKET, GROUP, "map", "p"), "x")
        with pytest.raises(port.CorruptField) as caught:
            await store.apply(batch(Get(""), Get("p")))
        assert caught.value.operation == 1
