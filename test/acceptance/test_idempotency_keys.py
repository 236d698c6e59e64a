"""A message that is sent again under its key is stored once, within the last 1,000 keys."""

from __future__ import annotations

import asyncio

import pytest
from support.messages import contents

from aiecs import ConflictError
from aiecs.core.interface.store import Get


async def test_a_repeated_key_stores_no_second_message(engine):
    for _ in range(3):
        assert await engine.add_conversation_message("s", "user", "x", idempotency_key="k")
    assert await engine.add_conversation_message("s", "user", "x", idempotency_key="other")

    assert contents(await engine.get_conversation_history("s")) == ["x", "x"]


@pytest.mark.parametrize(
    "other", [{"content": "y"}, {"role": "assistant"}, {"metadata": {"a": 1}}, {"name": "n"}]
)
async def test_a_key_belongs_to_one_content(engine, other):
    first = {"role": "user", "content": "x"}
    await engine.add_conversation_message("s", **first, idempotency_key="k")

    with pytest.raises(ConflictError):
        await engine.add_conversation_message("s", **first | other, idempotency_key="k")

    assert contents(await engine.get_conversation_history("s")) == ["x"]


async def test_concurrent_repetitions_store_one_message(make_engine):
    engines = [await make_engine() for _ in range(2)]

    await asyncio.gather(
        *(
            engines[n % 2].add_conversation_message(
                "s", "user", f"m{n % 5}", {"input_tokens": 1}, idempotency_key=f"k{n % 5}"
            )
            for n in range(50)
        )
    )

    history = await engines[0].get_conversation_history("s")
    assert sorted(contents(history)) == [f"m{n}" for n in range(5)]
    assert (await engines[0].get_session("s")).input_tokens == 5


async def test_the_last_1000_keys_are_kept_and_old_ones_go(engine, make_engine):
    for number in range(2500):
        await engine.add_conversation_message("s", "user", "x", idempotency_key=f"k{number}")
    count = len(await engine.get_conversation_history("s", limit=None))

    other = await make_engine()
    for number in (1500, 2000, 2499):
        await other.add_conversation_message("s", "user", "x", idempotency_key=f"k{number}")
    assert len(await engine.get_conversation_history("s", limit=None)) == count == 2500

    await engine.add_conversation_message("s", "user", "x", idempotency_key="k0")
    assert len(await engine.get_conversation_history("s", limit=None)) == 2501


async def test_a_key_of_the_thousand_before_is_found_too(engine):
    for number in range(1200):
        await engine.add_conversation_message("s", "user", "x", idempotency_key=f"k{number}")

    await engine.add_conversation_message("s", "user", "x", idempotency_key="k500")
    with pytest.raises(ConflictError):
        await engine.add_conversation_message("s", "user", "y", idempotency_key="k500")

    assert len(await engine.get_conversation_history("s", limit=None)) == 1200


async def test_a_key_goes_to_its_own_thousand_whatever_others_have_stored(make_engine):
    """A key in the wrong half would be forgotten too early."""
    slow, busy = await make_engine(), await make_engine()
    for number in range(5):
        await slow.add_conversation_message("s", "user", "x", idempotency_key=f"slow{number}")
    for number in range(996):
        await busy.add_conversation_message("s", "user", "x", idempotency_key=f"k{number}")

    await slow.add_conversation_message("s", "user", "x", idempotency_key="late")

    first, second = await slow._on.sessions.read("s", Get("k0"), Get("k1"))
    assert (len(first), set(second)) == (1000, {"k995", "late"})


async def test_keys_of_different_sessions_do_not_meet(engine):
    for session in ("s", "t"):
        await engine.add_conversation_message(session, "user", session, idempotency_key="k")

    assert contents(await engine.get_conversation_history("t")) == ["t"]


async def test_a_batch_has_one_key(engine):
    messages = [{"role": "user", "content": f"m{n}"} for n in range(3)]
    for _ in range(2):
        await engine.add_conversation_messages("s", messages, idempotency_key="k")
    with pytest.raises(ConflictError):
        await engine.add_conversation_messages("s", messages[:2], idempotency_key="k")

    assert contents(await engine.get_conversation_history("s")) == ["m0", "m1", "m2"]


async def test_a_key_goes_with_text_that_had_to_be_repaired(engine):
    for _ in range(2):
        await engine.add_conversation_message("s", "user", "\ud800", idempotency_key="k")

    assert contents(await engine.get_conversation_history("s")) == ["\ufffd"]
