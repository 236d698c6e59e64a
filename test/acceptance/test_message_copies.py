"""What is returned is the caller's own; what is held is what every other engine has written."""

from __future__ import annotations

from support.messages import contents, fill, plant

from aiecs.core.interface.store import Redact


async def test_changing_what_was_returned_changes_nothing(engine):
    await engine.add_conversation_message(
        "s", "user", "x", {"flat": 1, "deep": {"a": [1]}}, tool_calls=[{"id": "c"}], parts=[{}]
    )
    await engine.add_conversation_message("s", "user", "y", {"flat": 1})
    await engine.add_conversation_message("s", "user", "z", {"flat": 1}, parts=[{}])
    await engine.add_conversation_messages("s", [{"role": "u", "content": "", "tool_calls": []}])
    before = [m.to_dict() for m in await engine.get_conversation_history("s")]

    for _ in range(2):  # the second round is of what the cache holds
        for message in await engine.get_conversation_history("s"):
            message.content = "changed"
            message.metadata["flat"] = 2
            message.metadata.setdefault("deep", {})["a"] = None
            if message.tool_calls is not None:
                message.tool_calls.append("changed")
            if message.parts is not None:
                message.parts[0]["x"] = 1

    assert [m.to_dict() for m in await engine.get_conversation_history("s")] == before


async def test_changing_what_was_given_changes_nothing(engine):
    metadata = {"a": {"b": 1}}
    await engine.add_conversation_message("s", "user", "x", metadata)
    metadata["a"]["b"] = 2

    assert (await engine.get_conversation_history("s"))[0].metadata == {"a": {"b": 1}}


async def test_a_read_sees_what_other_engines_wrote(make_engine):
    writer, reader = await make_engine(), await make_engine()
    for number in range(120):
        await writer.add_conversation_message("s", "user", f"m{number}")
        if number % 7 == 0:
            limit = number % 11 + 1
            history = await reader.get_conversation_history("s", limit=limit)
            assert contents(history) == [
                f"m{n}" for n in range(max(0, number + 1 - limit), number + 1)
            ]


async def test_reading_on_is_answered_from_what_is_held(make_engine):
    writer, reader = await make_engine(), await make_engine()
    for number in range(40):
        await fill(writer, "s", 3, start=3 * number)
        history = await reader.get_conversation_history("s", limit=10)
        assert contents(history) == [f"m{n}" for n in range(max(0, 3 * number - 7), 3 * number + 3)]

    assert (await reader.get_metrics())["storage_performance"]["cache_hit_rate"] > 0.9


async def test_a_new_incarnation_is_not_mixed_with_the_old_one(make_engine):
    writer, reader = await make_engine(), await make_engine()
    await fill(writer, "s", 10)
    assert len(await reader.get_conversation_history("s")) == 10

    await writer.delete_session("s")
    assert await reader.get_conversation_history("s") == []
    await fill(writer, "s", 3, start=100)

    assert contents(await reader.get_conversation_history("s")) == ["m100", "m101", "m102"]


async def test_a_redacted_message_is_gone_from_every_reader(make_engine, open_store):
    engine = await make_engine()
    await fill(engine, "s", 10)
    secret = (await engine.get_conversation_history("s"))[8]

    store = open_store()
    await plant(store, "s", Redact("m", (secret.seq,)))

    assert contents(await engine.get_conversation_history("s", limit=3)) == ["m6", "m7", "m9"]
    assert len(await engine.get_conversation_history("s", limit=None)) == 9
    assert (await engine.health_check())["status"] == "healthy"
    if store is not engine._named:
        await store.close()
