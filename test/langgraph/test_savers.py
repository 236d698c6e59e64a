"""What LangGraph's own suite does not look at: order, identity, filters, odd names, concurrency."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import WRITES_IDX_MAP
from support.checkpoints import Run, checkpoint

from aiecs.core.errors import InvalidInputError
from aiecs.integrations.langgraph import ContextEngineSaver


def of(thread, namespace="", checkpoint_id=None):
    named = {"thread_id": thread, "checkpoint_ns": namespace}
    return {"configurable": named | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}


async def ids(saver, config, **more):
    return [one.checkpoint["id"] async for one in saver.alist(config, **more)]


async def test_writes_come_in_the_order_in_which_they_are_applied(saver, config):
    at = await Run(saver, config).step(a=1)
    await saver.aput_writes(at, [("x", 3), ("y", 4)], "task b", "~2")
    await saver.aput_writes(at, [("x", 1)], "task z", "~1")
    await saver.aput_writes(at, [("x", 0)], "task c")
    await saver.aput_writes(at, [("x", 2)], "task a", "~2")

    found = await saver.aget_tuple(at)

    assert [write[2] for write in found.pending_writes] == [0, 1, 2, 3, 4]


async def test_of_regular_writes_the_first_counts_of_special_ones_the_last(saver, config):
    at = await Run(saver, config).step(a=1)
    for number in (1, 2):
        await saver.aput_writes(at, [("x", number), ("y", number)], "task")
        await saver.aput_writes(at, [(name, number) for name in WRITES_IDX_MAP], "task")
    await saver.aput_writes(at, [("x", 3), ("y", 3), ("z", 3)], "task")

    found = {channel: value for _, channel, value in (await saver.aget_tuple(at)).pending_writes}

    assert found == {"x": 1, "y": 1, "z": 3, **dict.fromkeys(WRITES_IDX_MAP, 2)}


async def test_writes_may_come_before_their_checkpoint(saver, config):
    run = Run(saver, config)
    first = await run.step(a=1)
    made = checkpoint({"a": 2}, {"a": 9}, 1)
    later = of(config["configurable"]["thread_id"], checkpoint_id=made["id"])
    await saver.aput_writes(later, [("x", "early")], "task")

    assert (await saver.aget_tuple(config)).checkpoint["channel_values"] == {"a": 1}
    assert await ids(saver, config) == [first["configurable"]["checkpoint_id"]]
    assert await saver.aget_tuple(later) is None

    await saver.aput(first, made, {"source": "loop", "step": 1}, {"a": 9})
    assert (await saver.aget_tuple(config)).pending_writes == [("task", "x", "early")]


async def test_threads_and_namespaces_of_any_name_keep_apart(saver):
    names = [
        ("a", "b:c"), ("a:b", "c"), ("a", ""), ("a*", ""), ("a:b", ""), ("a/b", ""), ("a|b", ""),
        ("a", "b/c"), ("a", "b%2Fc"), ("a%", ""), ("{a}", ""), (" a ", ""), ("ä😀", "é|b:1"),
        ("a\x00", ""), ("..", "."), ("://", "://"),
    ]  # fmt: skip
    for number, (thread, namespace) in enumerate(names):
        await Run(saver, of(thread, namespace)).step(at=number)

    for number, (thread, namespace) in enumerate(names):
        found = await saver.aget_tuple(of(thread, namespace))
        assert found.checkpoint["channel_values"] == {"at": number}
        assert found.config["configurable"]["checkpoint_ns"] == namespace
        assert len(await ids(saver, of(thread, namespace))) == 1
    await saver.adelete_thread("a*")
    left = [await saver.aget_tuple(of(*name)) is not None for name in names]
    assert left == [thread != "a*" for thread, _ in names]


async def test_the_root_namespace_is_not_all_of_them(saver, config):
    thread = config["configurable"]["thread_id"]
    await Run(saver, of(thread)).step(a="root")
    await Run(saver, of(thread, "child:1")).step(a="child")
    await Run(saver, of(thread, "child:1|leaf:2")).step(a="leaf")

    assert len(await ids(saver, of(thread))) == 1
    assert len(await ids(saver, config)) == 3
    everywhere = await ids(saver, config)
    assert everywhere == sorted(everywhere, reverse=True)


async def test_all_threads_are_listed(saver):
    for number in range(3):
        await Run(saver, of(f"thread {number}")).step({"user": number % 2}, a=number)

    found = [one async for one in saver.alist(None)]
    some = [one async for one in saver.alist(None, filter={"user": 0}, limit=1)]

    threads = {one.config["configurable"]["thread_id"] for one in found}
    assert {f"thread {number}" for number in range(3)} <= threads
    assert len(some) == 1


async def test_before_and_limit_and_filter_work_together(saver, config):
    run = Run(saver, config)
    made = [await run.step({"score": n % 3, "nested": {"a": [n % 2]}}, a=n) for n in range(30)]
    names = [one["configurable"]["checkpoint_id"] for one in made]

    assert await ids(saver, config) == names[::-1]
    assert await ids(saver, config, before=made[7]) == names[:7][::-1]
    assert await ids(saver, config, before=made[20], limit=3) == names[17:20][::-1]
    assert await ids(saver, config, filter={"score": 1}, limit=4) == names[1::3][::-1][:4]
    assert await ids(saver, config, filter={"nested": {"a": [1]}}) == names[1::2][::-1]
    assert await ids(saver, config, filter={"nothing": 1}) == []
    assert await ids(saver, config, limit=0) == []


async def test_metadata_takes_in_what_the_config_says(saver, config):
    told = {**config, "metadata": {"user": "ada", "list": [1], "__secret": 1}}
    told["configurable"] = {**config["configurable"], "tenant": 7, "deep": {"a": 1}}
    await Run(saver, told).step({"own": True}, a=1)

    metadata = (await saver.aget_tuple(config)).metadata

    assert metadata["user"] == "ada"
    assert (metadata["tenant"], metadata["own"]) == (7, True)
    assert not {"list", "deep", "__secret", "thread_id"} & set(metadata)


async def test_two_hundred_writes_at_once(saver, config):
    at = await Run(saver, config).step(a=1)
    tasks = (saver.aput_writes(at, [("x", n)], f"task {n:03}", f"~{n:03}") for n in range(200))

    await asyncio.gather(*tasks)

    found = await saver.aget_tuple(at)
    assert [write[2] for write in found.pending_writes] == list(range(200))


@pytest.mark.parametrize(
    "value",
    [0, "", False, None, [], {}, b"", 0.0, b"\x00" * 100, "x" * 1000, [[]], [None] * 100,
     {"a": None}, ["x" * 200, "y" * 200], {f"k{n}": "v" * 100 for n in range(100)},
     list(range(1000)), [b"\xff" * 300], 1e300, -(2**63), 2**64 - 1],
    ids=lambda value: f"{type(value).__name__}-{str(value)[:10]}",
)  # fmt: skip
async def test_any_value_comes_back_as_it_was(saver, config, value):
    at = await Run(saver, config).step(value=value, other=1)
    await saver.aput_writes(at, [("value", value)], "task")

    found = await saver.aget_tuple(config)

    assert found.checkpoint["channel_values"] == {"value": value, "other": 1}
    assert found.pending_writes == [("task", "value", value)]
    assert type(found.checkpoint["channel_values"]["value"]) is type(value)


async def test_a_channel_that_was_cleared_is_gone(saver, config):
    run = Run(saver, config)
    first = await run.step(a="x" * 500, b=[("y" * 500)])
    made = checkpoint({"a": "x" * 500}, {**run.versions, "b": "9"}, 1)
    await saver.aput(first, made, {}, {"b": "9"})

    assert (await saver.aget_tuple(config)).checkpoint["channel_values"] == {"a": "x" * 500}
    assert set((await saver.aget_tuple(first)).checkpoint["channel_values"]) == {"a", "b"}


async def test_what_is_not_handed_in_again_is_taken_over_from_the_parent(saver, engine, config):
    run = Run(saver, config)
    first = await run.step(a="old", b=["b" * 300, "c" * 300])
    versions = {**run.versions, "a": "2"}
    for _ in range(2):
        made = checkpoint({"a": "new"}, versions, 1)
        at = await saver.aput(first, made, {}, {"a": "2"})
        found = await saver.aget_tuple(at)
        assert found.checkpoint["channel_values"] == {"a": "new", "b": ["b" * 300, "c" * 300]}
        engine._on.records.caches.forget(config["configurable"]["thread_id"])


@pytest.mark.parametrize(
    "config",
    [{}, {"configurable": {}}, {"configurable": {"thread_id": None}}, of(""), of("x" * 256),
     of("t", "n" * 5000), of("t", "", "c" * 256), of("\ud800")],
    ids=repr,
)  # fmt: skip
async def test_configs_that_name_nothing_are_refused(saver, store, config):
    with pytest.raises(InvalidInputError):
        await saver.aput_writes(config, [("a", 1)], "task")
    with pytest.raises(InvalidInputError):
        await saver.aput(config, checkpoint({}, {}), {}, {})
    if not config.get("configurable", {}).get("checkpoint_id"):
        with pytest.raises(InvalidInputError):
            await saver.aget_tuple(config)
    assert [call for call in store.calls if call.group != "t:t"] == []


async def test_a_state_that_no_batch_could_hold(saver, engine, config):
    talk = [HumanMessage(f"{number} " + "x" * 100_000, id=str(number)) for number in range(150)]
    first = await Run(saver, config).step(talk=talk)
    engine._on.records.caches.forget(config["configurable"]["thread_id"])
    found = await saver.aget_tuple(first)
    assert found.checkpoint["channel_values"]["talk"] == talk
    await saver.aput_writes(first, [("more", [*talk[::-1], "end"])], "task")
    assert (await saver.aget_tuple(first)).pending_writes[0][2] == [*talk[::-1], "end"]


async def test_a_single_value_that_is_too_big_is_refused_and_leaves_nothing(saver, config):
    with pytest.raises(InvalidInputError, match="8380416"):
        await Run(saver, config).step(blob=b"x" * 9_000_000)
    assert await saver.aget_tuple(config) is None


async def test_writes_of_a_wide_fan_out(saver, config):
    at = await Run(saver, config).step(a=1)
    wide = [f"{number} " + "x" * 70 for number in range(2_000)]
    for task in range(30):
        await saver.aput_writes(at, [("a", [*wide, task])], f"task {task:02}")
    found = await saver.aget_tuple(at)
    assert [value[-1] for _, _, value in found.pending_writes] == list(range(30))
    assert all(value[:-1] == wide for _, _, value in found.pending_writes)


@pytest.mark.parametrize("compress", [False, True])
async def test_a_write_of_more_than_a_batch_can_hold(engine, config, compress):
    saver = ContextEngineSaver(engine, compress=compress)
    at = await Run(saver, config).step(a=1)
    long = [f"{number} " + "x" * 1000 for number in range(12_000)]
    await saver.aput_writes(at, [("a", long)], "task")
    assert (await saver.aget_tuple(at)).pending_writes == [("task", "a", long)]
    with pytest.raises(InvalidInputError, match="8380416"):
        await saver.aput_writes(at, [("a", "x" * 9_000_000)], "task")


async def test_more_writes_than_a_checkpoint_can_have(saver, config):
    at = await Run(saver, config).step(a=1)
    many = [("a", "x" * 60)] * 50_000  # small values stand in the writes themselves
    await saver.aput_writes(at, many, "one")
    await saver.aput_writes(at, many[:-20_000], "two")
    with pytest.raises(InvalidInputError, match="writes for one checkpoint"):
        await saver.aput_writes(at, many, "three")
    assert len((await saver.aget_tuple(at)).pending_writes) >= 50_000
