"""What a graph has stored, looked at by the engine's own calls."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from support.checkpoints import Run

from aiecs.core.errors import CorruptRecordError
from aiecs.integrations.langgraph import ContextEngineSaver


@dataclass
class Order:
    number: int
    lines: list[str]


async def test_a_graphs_checkpoints_are_listed_as_plain_data(saver, engine, config):
    thread = config["configurable"]["thread_id"]
    run = Run(saver, config)
    talk = [HumanMessage("hello " + "h" * 100, id="1"), AIMessage("yes " + "y" * 100, id="2")]
    made = [
        await run.step({"score": number}, n=number, talk=talk * (number + 1), none=None)
        for number in range(30)
    ]
    last = await run.step(order=Order(7, ["a", "b"]), raw=b"\x00\xff")
    await saver.aput_writes(last, [("talk", talk), ("n", 8)], "task")

    latest = await engine.get_checkpoint(thread)
    assert latest["checkpoint_id"] == last["configurable"]["checkpoint_id"]
    assert latest["data"]["order"] == {"number": 7, "lines": ["a", "b"]}
    assert (latest["data"]["n"], latest["data"]["raw"], latest["data"]["none"]) == (
        29, b"\x00\xff", None,
    )  # fmt: skip
    assert latest["data"]["talk"][0]["content"] == "hello " + "h" * 100
    assert len(latest["data"]["talk"]) == 60
    assert latest["created_at"].endswith("+00:00")
    old = await engine.get_checkpoint(thread, made[3]["configurable"]["checkpoint_id"])
    assert (old["data"]["n"], old["metadata"]["score"]) == (3, 3)
    listed = await engine.list_checkpoints(thread, limit=25)
    assert [one["data"]["n"] for one in listed] == [29, *range(29, 5, -1)]
    assert len(await engine.list_checkpoints(thread, limit=None)) == 31
    writes = await engine.get_writes(thread, last["configurable"]["checkpoint_id"])
    assert [channel for channel, _ in writes] == ["talk", "n"]
    assert writes[0][1][1]["content"] == "yes " + "y" * 100
    assert await engine.get_checkpoint(thread, "unknown") is None
    assert await engine.get_writes(thread, "unknown") == []


async def test_what_was_stored_by_the_engine_goes_before(saver, engine, config):
    thread = config["configurable"]["thread_id"]
    await Run(saver, config).step(n=1)
    await engine.store_checkpoint(thread, "own", {"x": 1})

    assert (await engine.get_checkpoint(thread))["data"] == {"x": 1}
    assert [one["checkpoint_id"] for one in await engine.list_checkpoints(thread)] == ["own"]
    assert (await saver.aget_tuple(config)).checkpoint["channel_values"] == {"n": 1}
    report = await engine.delete_thread(thread)
    assert (report.threads, report.checkpoints) == (1, 2)


async def test_what_is_sealed_is_not_shown(engine, config):
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    await Run(ContextEngineSaver(engine, serde=serde), config).step(n=1)

    with pytest.raises(CorruptRecordError, match="sealed"):
        await engine.get_checkpoint(config["configurable"]["thread_id"])


async def test_what_goes_between_two_round_trips_is_gone(saver, store, engine, config):
    thread = config["configurable"]["thread_id"]
    talk = [HumanMessage("hello " + "h" * 100, id="1"), AIMessage("yes " + "y" * 100, id="2")]
    last = await Run(saver, config).step(talk=talk)
    await saver.aput_writes(last, [("talk", talk)], "task")
    at = last["configurable"]["checkpoint_id"]

    async def rewrite():
        await saver.adelete_thread(thread)
        await Run(saver, config).step(n=1)

    store.after_gather = rewrite
    assert await engine.get_writes(thread, at) == []
    await Run(saver, config).step(talk=talk)
    store.after_gather = rewrite
    assert [one["data"] for one in await engine.list_checkpoints(thread)] == [{"n": 1}]


async def test_a_copy_of_what_is_cleaned_up_meanwhile_is_sound(saver, store, config):
    thread, run = config["configurable"]["thread_id"], Run(saver, config)
    for number in range(3):
        talk = [HumanMessage(f"hello {number} " + "h" * 100, id="1")]
        await run.step(talk=talk)
    store.after_gather = lambda: saver.aprune([thread])
    await saver.acopy_thread(thread, "copy")

    copied = [one async for one in saver.alist({"configurable": {"thread_id": "copy"}})]
    assert [one.checkpoint["channel_values"]["talk"] for one in copied] == [talk]


@pytest.mark.parametrize("removal", ["aprune", "adelete_thread"])
async def test_a_copy_into_what_is_cleaned_up_meanwhile_is_sound(saver, store, config, removal):
    thread, run = config["configurable"]["thread_id"], Run(saver, config)
    talk = [HumanMessage(f"hello {number} " + "h" * 100, id=str(number)) for number in range(60)]
    for number in range(60):
        await run.step(talk=talk[: number + 1])
    target = {"configurable": {"thread_id": "copy"}}

    async def second_page():
        store.after_gather = clean_up

    async def clean_up():  # the first page is in the target, the second is being read
        await getattr(saver, removal)(["copy"] if removal == "aprune" else "copy")

    store.after_gather = second_page
    await saver.acopy_thread(thread, "copy")

    copied = [one async for one in saver.alist(target)]
    lengths = [len(one.checkpoint["channel_values"]["talk"]) for one in copied]
    assert lengths == [*range(60, 50, -1), *([50] if removal == "aprune" else [])]
