"""How agent conversations are written: round trips, races with deletion, what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from support.services import DAY, NASTY_IDS, Services, services, steps

from aiecs.core.errors import (
    CorruptRecordError,
    InvalidInputError,
    NotFoundError,
    SessionNotFoundError,
    StoreError,
)
from aiecs.core.interface import store as port
from aiecs.core.keys import session_place
from aiecs.domain.context.messages import REPAIRED

PARTIES = [
    {"id": "ann", "type": "user", "role": "user"},
    {"id": "w1", "type": "agent", "role": "writer", "metadata": {"model": "x"}},
]


@pytest.fixture
async def bench() -> AsyncIterator[Services]:
    async with services() as made:
        yield made


async def begin(bench: Services, session_id: str = "s", kind: str = "user_to_agent") -> str:
    return await bench.agents.create(session_id, PARTIES, kind)


async def say(bench: Services, key: str, text: str, kind: str = "communication") -> None:
    await bench.agents.add(key, "w1", "agent", "writer", content=text, message_type=kind)


async def said(bench: Services, key: str, *args, **kwargs) -> list[str]:
    return [message.content for message in await bench.agents.history(key, *args, **kwargs)]


async def trips(bench: Services, work) -> int:
    await bench.settled()
    before = len(bench.store.batches)
    await work
    return len(bench.store.batches) - before


async def test_a_message_is_one_round_trip(bench: Services):
    key = await begin(bench)

    assert await trips(bench, say(bench, key, "hello")) == 1
    assert await trips(bench, bench.agents.history(key)) == 1
    assert await trips(bench, bench.agents.get(key)) == 1
    assert await trips(bench, begin(bench)) == 1


async def test_a_conversation_that_is_gone_begins_anew(bench: Services):
    key = await begin(bench)
    await bench.settled()
    bench.store.ahead += 2 * DAY

    await say(bench, key, "still here")

    assert await said(bench, key) == ["still here"]
    assert await bench.agents.get(key) is None
    assert await bench.agents.list("s") == []
    assert await begin(bench) == key
    found = await bench.agents.get(key)
    assert found is not None
    assert [one.participant_id for one in found.participants] == ["ann", "w1"]
    assert await said(bench, key) == ["still here"]
    report = await bench.deletions.delete_session("s")
    assert (report.conversations, report.messages) == (1, 1)
    assert bench.store.groups() == set()


async def test_strict_sessions_refuse_what_is_gone():
    async with services(strict_sessions=True) as bench:
        with pytest.raises(SessionNotFoundError):
            await begin(bench)
        await bench.sessions.create("s", "ann")
        key = await begin(bench)
        await bench.deletions.delete_session("s")
        with pytest.raises(SessionNotFoundError):
            await say(bench, key, "late")
        await bench.sessions.create("s", "ann")
        with pytest.raises(NotFoundError):
            await say(bench, key, "late")
        assert await said(bench, key) == []


async def test_the_first_conversation_stays_as_it_was(bench: Services):
    key = await bench.agents.create("s", PARTIES, "user_to_agent", {"n": 1})
    again = await bench.agents.create("s", reversed(PARTIES), "user_to_agent", {"n": 2})

    found = await bench.agents.get(key)

    assert again == key
    assert found is not None
    assert found.metadata == {"n": 1}


async def test_the_latest_messages_of_a_type_are_found_however_far_back(bench: Services):
    key = await begin(bench)
    for number in range(1100):
        await say(bench, key, str(number), "rare" if number in (3, 700) else "chatter")

    assert await said(bench, key, 2, message_types=["rare"]) == ["3", "700"]
    assert await said(bench, key, 1, message_types={"rare"}) == ["700"]
    assert await said(bench, key, 5) == ["1095", "1096", "1097", "1098", "1099"]
    assert len(await said(bench, key, None)) == 1100
    assert len(await said(bench, key, 0, message_types=["chatter"])) == 1098
    assert await said(bench, key, message_types=["other"]) == []


async def test_only_so_many_messages_are_kept_when_the_engine_says_so():
    async with services(max_messages=3) as bench:
        key = await begin(bench)
        for number in range(5):
            await say(bench, key, str(number))

        assert await said(bench, key) == ["2", "3", "4"]
        assert (await bench.runtime.counters.totals())["messages"] == 3
        await bench.deletions.delete_session("s")
        assert (await bench.runtime.counters.totals())["messages"] == 0


async def test_concurrent_first_messages_all_arrive(bench: Services):
    key = await begin(bench)
    await bench.deletions.delete_session("s")

    await asyncio.gather(*(say(bench, key, str(number)) for number in range(64)))

    assert sorted(map(int, await said(bench, key, None))) == list(range(64))


async def test_a_deletion_cut_between_its_chunks_takes_late_messages_too(bench: Services):
    keys = [await begin(bench, kind=f"kind {number}") for number in range(1000)]
    await say(bench, keys[0], "before")
    apply, seen = bench.store.apply, []

    async def intrude(batch, *, timeout=None):
        results = await apply(batch, timeout=timeout)
        if not seen and batch.raw and sum(type(op) is port.Delete for op in batch.ops) > 800:
            seen.append(batch)
            bench.store.apply = apply  # type: ignore[method-assign]
            for key in (keys[0], keys[-1]):
                await say(bench, key, "late")
        return results

    bench.store.apply = intrude  # type: ignore[method-assign]
    report = await bench.deletions.delete_session("s")

    assert seen
    assert report.sessions == 1
    assert bench.store.groups() == set()


async def test_a_crash_while_beginning_hides_nothing(bench: Services):
    for number, when in steps():
        bench.store.fail(number, when)
        try:
            key = await begin(bench)
            await say(bench, key, "hello")
            done = True
        except StoreError:
            done = False
        bench.store.mend()
        await bench.settled()

        indexed = {name for name in bench.store.names("s") if "_a:" in name}
        assert indexed or not bench.store.groups(), (number, when)
        await bench.deletions.delete_session("s")
        assert bench.store.groups() == set(), (number, when)
        if done:
            return
    pytest.fail("never ran to its end")


@pytest.mark.parametrize("name", NASTY_IDS)
async def test_any_id_is_only_itself(bench: Services, name: str):
    keys = {}
    for other in NASTY_IDS:
        parties = [{"id": other, "type": other, "role": other}]
        keys[other] = await bench.agents.create(other, parties, other)
        await bench.agents.add(
            keys[other], other, other, other, other, other, other, other, other, {other: other}
        )

    (message,) = await bench.agents.history(keys[name], message_types=[name])

    assert len(set(keys.values())) == len(NASTY_IDS)
    assert message.content == message.sender_id == message.recipient_role == name
    assert message.metadata == {name: name}
    (conversation,) = await bench.agents.list(name)
    assert conversation.session_key == keys[name]


async def spoil(bench: Services, *ops: port.Op) -> None:
    await bench.runtime.apply(port.Batch(*session_place("s"), ops))


async def test_one_corrupt_message_does_not_hide_the_others(bench: Services):
    key = await begin(bench)
    await say(bench, key, "one")
    for junk in (b"\xff", b"[]", b"{}", b'{"message_id": 1}', b""):
        await spoil(bench, port.Append(f"a/{key[-40:]}", (junk,)))
    await say(bench, key, "two")

    assert await said(bench, key) == ["one", "two"]
    assert bench.runtime.corrupt == 4  # the empty one was redacted


@pytest.mark.parametrize("junk", [b"\xff", b"[]", b'{"created_at": 7}'])
async def test_one_corrupt_conversation_does_not_hide_the_others(bench: Services, junk: bytes):
    spoiled, whole = await begin(bench), await begin(bench, kind="other")
    await spoil(bench, port.Put("a", {spoiled[-40:]: junk}))

    assert [one.session_key for one in await bench.agents.list("s")] == [whole]
    with pytest.raises(CorruptRecordError):
        await bench.agents.get(spoiled)


async def test_lone_surrogates_are_replaced_and_flagged(bench: Services):
    key = await begin(bench)
    await say(bench, key, "a\ud800b")

    (message,) = await bench.agents.history(key)

    assert message.content == "a\ufffdb"
    assert message.metadata == {REPAIRED: True}


@pytest.mark.parametrize("key", ["", "s", "conversation:s", "conversation:s:" + "x" * 40, 7, None])
async def test_what_is_no_key_is_refused_by_writes_and_unknown_to_reads(bench: Services, key):
    with pytest.raises(InvalidInputError):
        await say(bench, key, "hello")
    assert await bench.agents.history(key) == []
    assert await bench.agents.get(key) is None
    assert bench.store.batches == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"content": None},
        {"content": 7},
        {"content": "x" * 2**20},
        {"sender_id": ""},
        {"sender_role": None},
        {"recipient_id": "x" * 256},
        {"message_type": ""},
        {"metadata": []},
        {"metadata": {1: 2}},
        {"metadata": {"x": float("inf")}},
    ],
)
async def test_wrong_messages_are_refused_before_any_io(bench: Services, wrong):
    key = await begin(bench)
    await bench.settled()
    before = len(bench.store.batches)
    right = {"sender_id": "w1", "sender_type": "agent", "sender_role": "writer", "content": "x"}

    with pytest.raises(InvalidInputError):
        await bench.agents.add(key, **{**right, **wrong})
    assert len(bench.store.batches) == before


@pytest.mark.parametrize(
    ("parties", "kind", "metadata"),
    [
        (None, "x", None),
        (7, "x", None),
        ("ab", "x", None),
        ([{"id": "a"}], "x", None),
        ([{"id": "", "type": "agent"}], "x", None),
        (PARTIES, "", None),
        (PARTIES, None, None),
        (PARTIES, "x", []),
        (PARTIES, "x", {"x": object()}),
        ([{"id": "a", "type": "b", "metadata": {"x": object()}}], "x", None),
    ],
)
async def test_wrong_conversations_are_refused_before_any_io(
    bench: Services, parties, kind, metadata
):
    with pytest.raises(InvalidInputError):
        await bench.agents.create("s", parties, kind, metadata)
    assert bench.store.batches == []


@pytest.mark.parametrize("args", [("50",), (1.5,), (5, "chatter")])
async def test_wrong_questions_are_refused(bench: Services, args):
    key = await begin(bench)

    with pytest.raises(InvalidInputError):
        await bench.agents.history(key, *args)


async def test_what_is_handed_out_is_the_callers_own(bench: Services):
    key = await bench.agents.create("s", PARTIES, "x", {"list": [1]})
    await bench.agents.add(key, "w1", "agent", "writer", content="x", metadata={"list": [1]})
    (message,), conversation = await bench.agents.history(key), await bench.agents.get(key)
    assert conversation is not None
    message.metadata["list"].append(2)
    conversation.metadata["list"].append(2)
    conversation.participants.clear()

    (message,), conversation = await bench.agents.history(key), await bench.agents.get(key)
    assert conversation is not None
    assert message.metadata == conversation.metadata == {"list": [1]}
    assert len(conversation.participants) == 2


async def test_a_conversations_last_activity_is_its_latest_message(bench: Services):
    key = await begin(bench)
    before = await bench.agents.get(key)
    await say(bench, key, "hello")
    (message,) = await bench.agents.history(key)

    after = await bench.agents.get(key)

    assert before is not None
    assert before.last_activity == before.created_at
    assert after is not None
    assert after.last_activity == message.timestamp


async def test_a_store_that_is_down_is_no_empty_answer(bench: Services):
    key = await begin(bench)
    bench.store.fail(1)

    for work in (
        begin(bench),
        say(bench, key, "hello"),
        bench.agents.history(key),
        bench.agents.get(key),
        bench.agents.list("s"),
    ):
        with pytest.raises(StoreError):
            await work
