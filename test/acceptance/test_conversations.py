"""Messages: none lost, none twice, in order, and whole."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime

import pytest
from support.messages import contents, fill

from aiecs import ConversationMessage, InvalidInputError
from aiecs.domain.context.messages import REPAIRED

# --- reading ------------------------------------------------------------------------------------


async def test_history_is_the_latest_messages_oldest_first(engine):
    await fill(engine, "s", 60)

    assert contents(await engine.get_conversation_history("s", limit=5)) == [
        f"m{n}" for n in range(55, 60)
    ]
    assert contents(await engine.get_conversation_history("s")) == [f"m{n}" for n in range(10, 60)]


@pytest.mark.parametrize("limit", [None, 0, -1])
async def test_without_a_limit_history_is_everything(engine, limit):
    messages = [{"role": "user", "content": f"m{n}"} for n in range(700)]
    await engine.add_conversation_messages("s", messages)
    await engine.add_conversation_messages("s", messages)

    history = await engine.get_conversation_history("s", limit=limit)

    assert contents(history) == [f"m{n}" for n in range(700)] * 2
    assert [m.seq - history[0].seq for m in history] == list(range(1400))


async def test_a_limit_beyond_a_page_is_kept_exactly(engine):
    messages = [{"role": "user", "content": f"m{n}"} for n in range(900)]
    await engine.add_conversation_messages("s", messages)

    history = await engine.get_conversation_history("s", limit=777)

    assert contents(history) == [f"m{n}" for n in range(123, 900)]


async def test_paging_back_and_on_by_seq(engine):
    await fill(engine, "s", 10)
    page = await engine.get_conversation_history("s", limit=3)
    older = await engine.get_conversation_history("s", limit=3, before=page[0].seq)
    newer = await engine.get_conversation_history("s", limit=2, after=older[0].seq)
    between = await engine.get_conversation_history(
        "s", limit=None, after=older[0].seq, before=page[-1].seq
    )

    assert contents(page) == ["m7", "m8", "m9"]
    assert contents(older) == ["m4", "m5", "m6"]
    assert contents(newer) == ["m5", "m6"]
    assert contents(between) == ["m5", "m6", "m7", "m8"]
    assert await engine.get_conversation_history("s", after=page[-1].seq) == []
    assert contents(await engine.get_conversation_history("s", limit=None, after=0)) == [
        f"m{n}" for n in range(10)
    ]


@pytest.mark.parametrize("bad", [{"limit": "5"}, {"limit": 2.0}, {"before": -1}, {"after": "1"}])
async def test_a_page_that_makes_no_sense_is_refused(engine, bad):
    with pytest.raises(InvalidInputError):
        await engine.get_conversation_history("s", **bad)


async def test_an_unknown_session_has_no_history(engine):
    assert await engine.get_conversation_history("s") == []
    assert await engine.get_conversation_history("s", limit=None) == []
    assert await engine.get_conversation_history("s", after=5) == []


# --- writing ------------------------------------------------------------------------------------


async def test_a_message_is_kept_whole(engine):
    metadata = {"model": "x", "cost_usd": 0.1, "big": 2**60, "deep": {"a": [1, {"b": None}]}}
    calls = [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}]
    assert await engine.add_conversation_message(
        "s",
        "assistant",
        "text \x00 é 😀\n",
        metadata,
        name="bot",
        tool_calls=calls,
        tool_call_id="t",
        parts=[{"type": "image", "url": "https://example.com/x.png"}],
        pinned=True,
    )

    (message,) = await engine.get_conversation_history("s")
    assert (message.role, message.content, message.metadata) == (
        "assistant",
        "text \x00 é 😀\n",
        metadata,
    )
    assert (message.name, message.tool_calls, message.tool_call_id) == ("bot", calls, "t")
    assert message.parts == [{"type": "image", "url": "https://example.com/x.png"}]
    assert message.pinned is True
    assert abs((datetime.now(UTC) - message.timestamp).total_seconds()) < 60
    assert message.id
    assert message.seq
    assert ConversationMessage.from_dict(message.to_dict()) == message


async def test_a_plain_message_has_empty_metadata(engine):
    await engine.add_conversation_message("s", "user", "")

    (message,) = await engine.get_conversation_history("s")
    assert (message.content, message.metadata) == ("", {})
    assert set(message.to_dict()) == {"role", "content", "timestamp", "metadata", "id", "seq"}


async def test_1000_concurrent_messages_are_all_kept_in_each_tasks_order(engine):
    async def speak(task):
        for number in range(20):
            await engine.add_conversation_message("s", "user", f"{task} {number}")

    await asyncio.gather(*(speak(task) for task in range(50)))

    history = await engine.get_conversation_history("s", limit=None)
    assert len(history) == 1000
    assert [m.seq - history[0].seq for m in history] == list(range(1000))
    assert len({m.id for m in history}) == 1000
    for task in range(50):
        mine = [m.content for m in history if m.content.startswith(f"{task} ")]
        assert mine == [f"{task} {number}" for number in range(20)]


async def test_a_batch_is_kept_in_order_and_whole(engine):
    when = datetime(2024, 5, 17, 12, 30, tzinfo=UTC)
    message = ConversationMessage("user", "with time", when, {"a": 1}, id="own")
    message = ConversationMessage.from_dict({**message.to_dict(), "future_field": [1]})

    assert await engine.add_conversation_messages(
        "s", [{"role": "system", "content": "first"}, message]
    )

    first, second = await engine.get_conversation_history("s")
    assert (first.role, first.content) == ("system", "first")
    assert (second, second.id, second.timestamp) == (message, "own", when)
    assert second.to_dict()["future_field"] == [1]


async def test_a_batch_with_one_bad_message_is_not_written(engine):
    bad = [{"role": "user", "content": "x"}, {"role": "", "content": "x"}]
    with pytest.raises(InvalidInputError):
        await engine.add_conversation_messages("s", bad)

    assert await engine.get_session("s") is None
    assert await engine.add_conversation_messages("s", [])


async def test_a_batch_has_bounds(engine):
    with pytest.raises(InvalidInputError):
        await engine.add_conversation_messages("s", [{"role": "u", "content": ""}] * 1001)
    large = [{"role": "u", "content": "x" * 1_000_000}] * 9
    with pytest.raises(InvalidInputError):
        await engine.add_conversation_messages("s", large)
    assert await engine.add_conversation_messages("s", large[:7])
    assert len(await engine.get_conversation_history("s", limit=None)) == 7


async def test_tokens_are_added_to_the_session(engine):
    await engine.create_session("s", "u")
    for metadata in (
        {"input_tokens": 10, "output_tokens": 5},
        {"input_tokens": 1},
        {"output_tokens": 0},
        {"input_tokens": -7, "output_tokens": "many"},
        {"input_tokens": True},
        {"input_tokens": 1.5},
    ):
        await engine.add_conversation_message("s", "user", "x", metadata)
    await engine.add_conversation_messages(
        "s",
        [
            {"role": "a", "content": "", "metadata": {"input_tokens": 100}},
            {"role": "a", "content": "", "metadata": {"output_tokens": 1000}},
        ],
    )

    session = await engine.get_session("s")
    assert (session.input_tokens, session.output_tokens) == (111, 1005)


@pytest.mark.parametrize(
    ("role", "content", "more"),
    [
        ("", "x", {}),
        (None, "x", {}),
        ("user", None, {}),
        ("user", b"x", {}),
        ("user", "x", {"metadata": {"a": math.nan}}),
        ("user", "x", {"metadata": {"a": -math.inf}}),
        ("user", "x", {"metadata": {1: 2}}),
        ("user", "x", {"metadata": {"a": {2, 3}}}),
        ("user", "x", {"metadata": "text"}),
        ("user", "x", {"tool_calls": "text"}),
        ("user", "x", {"parts": [object()]}),
        ("user", "x", {"name": 5}),
        ("user", "x" * (1024 * 1024), {}),
        ("user", "x", {"idempotency_key": ""}),
    ],
)
async def test_what_cannot_be_a_message_is_refused(engine, role, content, more):
    with pytest.raises(InvalidInputError):
        await engine.add_conversation_message("s", role, content, **more)
    assert await engine.get_session("s") is None


async def test_nesting_has_a_bound(engine):
    deep: dict = {}
    for _ in range(70):
        deep = {"x": deep}
    with pytest.raises(InvalidInputError):
        await engine.add_conversation_message("s", "user", "x", deep)


async def test_a_message_of_nearly_1_mib_is_kept(engine):
    text = "x" * (1024 * 1024 - 200)
    await engine.add_conversation_message("s", "user", text)

    assert contents(await engine.get_conversation_history("s")) == [text]


async def test_lone_surrogates_are_replaced_and_flagged(engine):
    await engine.add_conversation_message("s", "user", "a\ud800b", {"k\udc00": ["\udfff"]})
    await engine.add_conversation_message("s", "user", "\ud83d\ude00")

    first, second = await engine.get_conversation_history("s")
    assert first.content == "a\ufffdb"
    assert first.metadata == {"k\ufffd": ["\ufffd"], REPAIRED: True}
    assert second.content == "😀"


# --- limits -------------------------------------------------------------------------------------


async def test_the_cap_keeps_the_newest(make_engine):
    engine = await make_engine(max_messages_per_session=1000)
    await fill(engine, "s", 10)
    await engine.add_conversation_messages(
        "s", [{"role": "user", "content": f"m{n}"} for n in range(10, 1000)]
    )
    await fill(engine, "s", 10, start=1000)

    history = await engine.get_conversation_history("s", limit=None)

    assert contents(history) == [f"m{n}" for n in range(10, 1010)]
    assert (await engine.get_metrics())["stored_messages"] == 1000


async def test_reads_stay_right_while_the_cap_trims(make_engine):
    engine = await make_engine(max_messages_per_session=5)
    for number in range(30):
        await engine.add_conversation_message("s", "user", f"m{number}")
        expected = [f"m{n}" for n in range(max(0, number - 4), number + 1)]
        assert contents(await engine.get_conversation_history("s", limit=10)) == expected
        assert contents(await engine.get_conversation_history("s", limit=2)) == expected[-2:]


async def test_without_a_cap_nothing_is_trimmed(engine):
    for part in range(2):
        messages = [{"role": "user", "content": f"{part} {n}"} for n in range(1000)]
        await engine.add_conversation_messages("s", messages)

    assert len(await engine.get_conversation_history("s", limit=None)) == 2000


# --- context ------------------------------------------------------------------------------------


async def test_context_is_the_latest_messages_that_fit(engine):
    for number in range(250):
        await engine.add_conversation_message("s", "user", f"{number:03}" + "x" * 37)

    window = await engine.build_context("s", 14 * 150)
    # 40 bytes are 10 tokens, and 4 more for the message.
    assert (window.tokens, window.included, window.dropped) == (14 * 150, 150, 100)
    assert [m.content[:3] for m in window.messages] == [f"{n:03}" for n in range(100, 250)]

    assert (await engine.build_context("s", 13)).messages == []
    everything = await engine.build_context("s", 10**6, query="anything")
    assert (everything.included, everything.dropped) == (250, 0)
    nothing = await engine.build_context("unknown", 100)
    assert (nothing.messages, nothing.tokens, nothing.dropped) == ([], 0, 0)
    with pytest.raises(InvalidInputError):
        await engine.build_context("s", 0)
