"""What is equal is stored once; in how many round trips; and nothing that is needed goes."""

from __future__ import annotations

import asyncio
import random

import pytest
import zstandard
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from support.checkpoints import Run
from support.waiting import until

from aiecs import ContextEngine
from aiecs.core.errors import CorruptRecordError, InvalidInputError
from aiecs.core.interface.store import Batch, Clock, Get
from aiecs.core.keys import thread_place
from aiecs.integrations.langgraph import ContextEngineSaver
from aiecs.integrations.langgraph.codec import Codec


def items(count, size=500):
    return [f"item {number} " + "x" * size for number in range(count)]


async def parts(engine, config):
    """Everything that is stored of a thread by name."""
    place = thread_place(config["configurable"]["thread_id"])
    (found,) = await engine._on.runtime.read(Batch(*place, (Get("e"),)))
    return found


async def size(engine, config):
    place = thread_place(config["configurable"]["thread_id"])
    maps = await engine._on.runtime.read(Batch(*place, tuple(Get(key) for key in "dwe")))
    return sum(len(name) + len(value) for found in maps for name, value in found.items())


async def grow(saver, config, steps):
    run, made = Run(saver, config), items(steps)
    for number in range(1, steps + 1):
        at = await run.step(list=made[:number], n=number)
        await saver.aput_writes(at, [("list", [made[number - 1]])], f"task {number}")
    return run


async def test_a_growing_list_takes_what_is_new_in_it(saver, engine, config):
    await grow(saver, config, 100)
    stored = await parts(engine, config)

    assert sum(b"item 7 x" in value for value in stored.values()) == 1
    assert await size(engine, config) < 100 * 1800
    found = await saver.aget_tuple(config)
    assert found.checkpoint["channel_values"]["list"] == items(100)


async def test_ten_times_the_steps_take_hardly_more_than_ten_times_the_room(saver, engine, config):
    other = {"configurable": {"thread_id": "the long one"}}
    await grow(saver, config, 100)
    await grow(saver, other, 1000)

    # Short records; those of a graph are longer, and their share of names is smaller.
    assert await size(engine, other) <= 13 * await size(engine, config)


async def test_lists_of_any_change_come_back(saver, engine, config):
    run, base = Run(saver, config), items(50)
    versions = [
        base, base[1:], [*base[:25], "new " + "y" * 200, *base[26:]], base[::-1], base[:0],
        base * 3, [base[0]] * 40, base[10:20], [*base, *base], [{"a": one} for one in base],
    ]  # fmt: skip
    made = [(await run.step(list=value), value) for value in versions]

    for forget in (False, True):
        for at, value in reversed(made):
            found = await saver.aget_tuple(at)
            assert found.checkpoint["channel_values"]["list"] == value
            if forget:
                engine._on.records.caches.forget(config["configurable"]["thread_id"])
    listed = [one.checkpoint["channel_values"]["list"] async for one in saver.alist(config)]
    assert listed == versions[::-1]


async def test_an_object_that_is_changed_in_its_place_is_another_one(saver, config):
    run = Run(saver, config)
    value = [{"text": one} for one in items(20)]
    first = await run.step(list=value)
    value[7]["text"] = "changed " + "z" * 300
    second = await run.step(list=value)

    texts = [(await saver.aget_tuple(at)).checkpoint["channel_values"]["list"][7]["text"][:7]
             for at in (first, second)]  # fmt: skip
    assert texts == ["item 7 ", "changed"]


async def test_round_trips(saver, engine, store, config):
    run = await grow(saver, config, 30)

    async def trips(work):
        store.calls.clear()
        await work
        return len(store.calls)

    async def listed():
        return [one async for one in saver.alist(config, limit=10)]

    thread = config["configurable"]["thread_id"]
    assert await trips(run.step(list=items(31))) == 1
    assert await trips(saver.aput_writes(run.config, [("list", items(1, 900))], "t")) == 1
    assert await trips(saver.aget_tuple(config)) == 2  # that write was made by a task, and is read
    assert await trips(saver.aget_tuple({"configurable": {"thread_id": thread}})) <= 2
    engine._on.records.caches.forget(thread)
    assert await trips(saver.aget_tuple(config)) == 2
    engine._on.records.caches.forget(thread)
    assert await trips(listed()) <= 3


async def test_another_process_builds_on_what_is_stored(saver, store, config):
    await grow(saver, config, 40)
    async with ContextEngine(store=store, operation_timeout=10) as other:
        second = ContextEngineSaver(other)
        run = Run(second, (await second.aget_tuple(config)).config)
        run.versions = {"list": "7"}
        before = await size(other, config)
        await run.step(list=[*items(40), "one more " + "y" * 500])
        assert await size(other, config) - before < 2500
    engine_sees = await saver.aget_tuple(config)
    assert len(engine_sees.checkpoint["channel_values"]["list"]) == 41


async def test_a_clean_up_elsewhere_does_not_leave_a_writer_with_holes(saver, store, config):
    """It believes that everything is stored; what went meanwhile is sent again."""
    run = await grow(saver, config, 20)
    async with ContextEngine(store=store, operation_timeout=10) as other:
        second = ContextEngineSaver(other)
        later = Run(second, run.config)
        later.versions = dict(run.versions)
        await later.step(list=["short " + "s" * 300])
        await second.aprune([config["configurable"]["thread_id"]])
    await run.step(list=items(20), n=0)

    found = await saver.aget_tuple(run.config)
    assert found.checkpoint["channel_values"]["list"] == items(20)


async def test_a_thread_that_was_removed_elsewhere_begins_anew(saver, store, config):
    run = await grow(saver, config, 20)
    async with ContextEngine(store=store, operation_timeout=10) as other:
        await ContextEngineSaver(other).adelete_thread(config["configurable"]["thread_id"])
    at = await run.step(list=items(21))

    found = await saver.aget_tuple(at)
    assert found.checkpoint["channel_values"]["list"] == items(21)
    assert len([one async for one in saver.alist(config)]) == 1


async def test_pruning_takes_what_only_the_pruned_had(saver, engine, config):
    run = Run(saver, config)
    for number in range(30):
        at = await run.step(list=items(5), doc=f"document {number} " + "d" * 1000)
        await saver.aput_writes(at, [("doc", f"written {number} " + "w" * 500)], "task")
    await saver.aprune([config["configurable"]["thread_id"]], keep_last=2)
    stored = (await parts(engine, config)).values()

    assert sum(len(value) > 100 for value in stored) == 5 + 2 + 2  # shorter ones are nodes
    assert len(stored) < 5 + 2 + 2 + 5
    listed = [one async for one in saver.alist(config)]
    assert [one.checkpoint["channel_values"]["doc"][:11] for one in listed] == [
        "document 29", "document 28"
    ]  # fmt: skip
    assert [one.pending_writes[0][2][:10] for one in listed] == ["written 29", "written 28"]
    assert await engine._on.runtime.read(
        Batch(*thread_place(config["configurable"]["thread_id"]), (Get("", ("gn",)),))
    ) == [[b"2"]]


async def test_pruning_while_it_is_written_to(saver, engine, config):
    run = Run(saver, config)
    thread = config["configurable"]["thread_id"]

    async def write():
        for number in range(40):
            at = await run.step(list=items(number + 1), n=number)
            await saver.aput_writes(at, [("list", items(1, 600))], f"{number}")
            await asyncio.sleep(0.01)  # a step of a graph takes longer

    async def prune():
        for _ in range(10):
            await saver.aprune([thread], keep_last=3)
            await asyncio.sleep(0.001)

    await asyncio.gather(write(), prune())

    listed = [one.checkpoint["channel_values"] async for one in saver.alist(config)]
    assert listed[0] == {"list": items(40), "n": 39}
    assert all(one["list"] == items(one["n"] + 1) for one in listed)
    engine._on.records.caches.forget(thread)
    assert (await saver.aget_tuple(config)).checkpoint["channel_values"] == listed[0]


async def test_a_copy_is_whole_and_by_itself(saver, engine, config):
    await grow(saver, config, 120)
    source, target = config["configurable"]["thread_id"], "the copy"
    await saver.acopy_thread(source, target)
    await saver.acopy_thread(source, target)
    await saver.adelete_thread(source)

    copied = {"configurable": {"thread_id": target}}
    listed = [one async for one in saver.alist(copied)]
    assert [len(one.checkpoint["channel_values"]["list"]) for one in listed] == list(
        range(120, 0, -1)
    )
    assert all(len(one.pending_writes) == 1 for one in listed)
    await Run(saver, listed[0].config).step(list=items(3))
    assert await engine.delete_thread(target) is not None
    assert await saver.aget_tuple(copied) is None


async def test_a_thread_expires_whole(store, config):
    async with ContextEngine(store=store, operation_timeout=10) as engine:
        saver = ContextEngineSaver(engine, ttl=0.3)
        at = await Run(saver, config).step(profile="p" * 100, n=1)
        await saver.aput_writes(at, [("n", 2)], "task")

        async def is_gone():
            return await saver.aget_tuple(config) is None

        await until(is_gone)
        assert [one async for one in saver.alist(config)] == []
        await Run(saver, config).step(n=3)
        assert (await saver.aget_tuple(config)).checkpoint["channel_values"] == {"n": 3}


@pytest.mark.parametrize("ttl", [0, -1, 10**10, float("nan")])
async def test_a_lifetime_that_is_none_is_refused(engine, ttl):
    with pytest.raises(ValueError, match="ttl"):
        ContextEngineSaver(engine, ttl=ttl)


async def left(engine, config):
    """Seconds that a thread still has; None: for ever."""
    place = thread_place(config["configurable"]["thread_id"])
    (head, now) = await engine._on.runtime.read(Batch(*place, (Get(""), Clock()), raw=True))
    return None if "~x" not in head else (int(head["~x"]) - now) / 1e6


async def test_a_thread_has_a_time_of_its_own(engine, config):
    at = {"configurable": {**config["configurable"], "thread_ttl": 100}}
    saver = ContextEngineSaver(engine, ttl=1000)
    first = await Run(saver, at).step(a=1)
    assert 90 < await left(engine, config) <= 100
    again = {"configurable": first["configurable"] | at["configurable"]}
    await saver.aput_writes(again, [("a", 2)], "task")
    assert 90 < await left(engine, config) <= 100
    for _ in range(3):  # who does not know it finds it in the thread
        await engine._on.records._threads._refresh(config["configurable"]["thread_id"], True)
    assert 90 < await left(engine, config) <= 100
    await Run(saver, config).step(a=3)
    assert 900 < await left(engine, config) <= 1000
    for wrong in (0, -1, "1", float("nan"), True):
        named = {**config["configurable"], "thread_ttl": wrong}
        with pytest.raises(InvalidInputError, match="thread_ttl"):
            await Run(saver, {"configurable": named}).step(a=4)


async def test_what_is_read_lives_on(engine, config):
    short = ContextEngineSaver(engine, ttl=10)
    await Run(short, config).step(a=1)
    await short.aget_tuple(config)
    using = ContextEngineSaver(engine, ttl=1000, refresh_on_read=True)
    assert await left(engine, config) <= 10
    await using.aget_tuple(config)
    assert await left(engine, config) > 900
    await using.aget_tuple({"configurable": {"thread_id": "nobody"}})
    assert await left(engine, {"configurable": {"thread_id": "nobody"}}) is None


async def test_what_is_long_is_compressed_where_it_pays(engine, config):
    text = "a sentence that is said again and again, with some numbers. " * 200
    noise = random.Random(7).randbytes(5_000)
    plain, small = ({"configurable": {"thread_id": name}} for name in ("plain", "small"))
    for at, compress in ((plain, False), (small, True)):
        saver = ContextEngineSaver(engine, compress=compress)
        run = Run(saver, at)
        for number in range(5):
            last = await run.step(text=f"{number} {text}", noise=noise, talk=[text, "short"])
        await saver.aput_writes(last, [("more", text)], "task")

    assert await size(engine, small) < await size(engine, plain) / 4
    found = await ContextEngineSaver(engine).aget_tuple(small)  # whoever reads need not be told
    assert found.checkpoint["channel_values"] == {
        "text": f"4 {text}", "noise": noise, "talk": [text, "short"],
    }  # fmt: skip
    assert found.pending_writes == [("task", "more", text)]
    assert (await engine.get_checkpoint("small"))["data"]["talk"] == [text, "short"]


def test_what_says_that_it_is_huge_is_not_expanded():
    bomb = zstandard.ZstdCompressor().compress(b"0" * 9_000_000)
    codec = Codec(JsonPlusSerializer())
    for stored in (b"1" + bomb, b"1" + bomb[:20], b"1nonsense", b"1"):
        with pytest.raises(CorruptRecordError):
            codec.unseal(stored)
