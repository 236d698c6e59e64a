"""Sessions: created once, counted exactly, kept apart, and gone in time."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta

import pytest
from support.services import NASTY_IDS
from support.waiting import expired, until

from aiecs import (
    ConflictError,
    InvalidInputError,
    SessionEndedError,
    SessionExistsError,
    SessionMetrics,
    SessionNotFoundError,
)

# --- create -------------------------------------------------------------------------------------


async def test_a_created_session_is_what_get_session_gives(engine):
    before = datetime.now(UTC) - timedelta(seconds=5)
    created = await engine.create_session("s", "u", {"source": "web", "nested": {"a": [1, None]}})

    assert created == await engine.get_session("s")
    assert (created.session_id, created.user_id, created.status) == ("s", "u", "active")
    assert created.metadata == {"source": "web", "nested": {"a": [1, None]}}
    assert created.created_at == created.last_activity >= before
    assert created.created_at.tzinfo is UTC


async def test_without_an_id_sessions_get_rising_uuids(engine):
    ids = [(await engine.create_session(user_id="u")).session_id for _ in range(3)]

    assert ids == sorted(set(ids))
    assert all(len(one) == 36 and one[14] == "7" for one in ids)


async def test_creating_again_changes_nothing(engine):
    first = await engine.create_session("s", "u", {"a": 1})
    await engine.update_session("s", increment_requests=True)

    again = await engine.create_session("s", "u", {"a": 2, "b": 3})

    assert again.metadata == {"a": 1}
    assert again.request_count == 1
    assert again.created_at == first.created_at


@pytest.mark.parametrize("user", ["other", ""])
async def test_the_id_of_another_user_is_refused(engine, user):
    await engine.create_session("s", "u")

    with pytest.raises(SessionExistsError):
        await engine.create_session("s", user)

    assert (await engine.get_session("s")).user_id == "u"


async def test_an_unowned_session_is_adopted_with_its_content(engine):
    await engine.add_conversation_message("s", "user", "hello", {"input_tokens": 3})
    assert (await engine.get_session("s")).user_id == ""

    adopted = await engine.create_session("s", "u", {"source": "web"})

    assert (adopted.user_id, adopted.metadata) == ("u", {"source": "web"})
    assert adopted.input_tokens == 3
    assert [m.content for m in await engine.get_conversation_history("s")] == ["hello"]
    assert [s.session_id for s in await engine.list_sessions("u")] == ["s"]


async def test_of_many_concurrent_creators_one_owns_the_session(engine):
    async def create(user):
        try:
            return (await engine.create_session("s", user)).user_id
        except SessionExistsError:
            return None

    owners = await asyncio.gather(*(create(f"u{n}") for n in range(20)))

    stored = (await engine.get_session("s")).user_id
    assert [owner for owner in owners if owner] == [stored]


async def test_ids_that_look_alike_never_meet(engine):
    ids = (*NASTY_IDS, "a", "b", "c", "a:", ":b", "/", "%2F", "..", "\ud7ff", "x" * 255)
    for number, one in enumerate(ids):
        await engine.create_session(one, one, {"n": number})
        await engine.add_conversation_message(one, "user", str(number))

    for number, one in enumerate(ids):
        session = await engine.get_session(one)
        assert (session.session_id, session.metadata) == (one, {"n": number})
        history = await engine.get_conversation_history(one)
        assert [m.content for m in history] == [str(number)]
        assert [s.session_id for s in await engine.list_sessions(one)] == [one]


@pytest.mark.parametrize("bad", ["", "x" * 256, "é" * 128, "\ud800", 7, None, b"s", ["s"]])
async def test_what_cannot_be_an_id_is_refused(engine, bad):
    calls = [
        lambda: engine.get_session(bad),
        lambda: engine.update_session(bad),
        lambda: engine.end_session(bad),
        lambda: engine.add_conversation_message(bad, "user", "x"),
        lambda: engine.get_conversation_history(bad),
        lambda: engine.delete_session(bad),
    ]
    if bad is not None:
        calls.append(lambda: engine.create_session(bad, "u"))
    for call in calls:
        with pytest.raises(InvalidInputError):
            await call()


@pytest.mark.parametrize(
    "metadata", [{"x": math.nan}, {1: "x"}, {"x": object()}, {"\ud800": 1}, ["x"], {"x": b"y"}]
)
async def test_metadata_that_is_no_json_is_refused(engine, metadata):
    with pytest.raises(InvalidInputError):
        await engine.create_session("s", "u", metadata)
    assert await engine.get_session("s") is None


# --- update and end -----------------------------------------------------------------------------


async def test_64_tasks_times_20_increments_are_1280(engine):
    await engine.create_session("s", "u")

    async def work():
        for _ in range(20):
            assert await engine.update_session(
                "s", increment_requests=True, add_processing_time=0.001, mark_error=True
            )

    await asyncio.gather(*(work() for _ in range(64)))

    session = await engine.get_session("s")
    assert (session.request_count, session.error_count) == (1280, 1280)
    assert session.total_processing_time == 1.28


async def test_increments_of_two_engines_add_up(make_engine):
    first, second = await make_engine(), await make_engine()
    await first.create_session("s", "u")

    async def work(engine):
        for _ in range(500):
            await engine.update_session("s", increment_requests=True)

    await asyncio.gather(work(first), work(second))

    assert (await first.get_session("s")).request_count == 1000


async def test_an_update_moves_the_last_activity(engine):
    created = await engine.create_session("s", "u")

    async def moved():
        await engine.update_session("s")
        return (await engine.get_session("s")).last_activity > created.last_activity

    await until(moved, 5.0)
    assert (await engine.get_session("s")).created_at == created.created_at


async def test_metadata_is_merged_key_by_key(engine):
    await engine.create_session("s", "u", {"a": 1, "b": 2})

    await engine.update_session("s", {"metadata": {"b": None, "c": [3], "d": None}})

    assert (await engine.get_session("s")).metadata == {"a": 1, "c": [3]}


async def test_concurrent_metadata_of_different_keys_is_all_kept(engine):
    await engine.create_session("s", "u")

    updates = (engine.update_session("s", {"metadata": {f"k{n}": n}}) for n in range(50))
    await asyncio.gather(*updates)

    assert (await engine.get_session("s")).metadata == {f"k{n}": n for n in range(50)}


async def test_status_changes_and_back(engine):
    await engine.create_session("s", "u")

    assert await engine.end_session("s")
    assert (await engine.get_session("s")).status == "completed"
    await engine.end_session("s", status="failed")
    assert (await engine.get_session("s")).status == "failed"
    await engine.update_session("s", {"status": "active"})
    assert (await engine.get_session("s")).status == "active"


@pytest.mark.parametrize(
    ("updates", "more"),
    [
        ({"last_activity": "garbage"}, {}),
        ({"to_dict": 1}, {}),
        ({"request_count": 5}, {}),
        ({"status": "done"}, {}),
        ({"metadata": "x"}, {}),
        (["status"], {}),
        (None, {"add_processing_time": -1.0}),
        (None, {"add_processing_time": math.nan}),
        (None, {"add_processing_time": math.inf}),
        (None, {"add_processing_time": "1"}),
    ],
)
async def test_an_update_that_makes_no_sense_changes_nothing(engine, updates, more):
    before = await engine.create_session("s", "u", {"a": 1})

    with pytest.raises(InvalidInputError):
        await engine.update_session("s", updates, increment_requests=True, **more)

    assert await engine.get_session("s") == before


async def test_a_counter_at_its_limit_refuses_more(engine):
    await engine.create_session("s", "u")
    for _ in range(9):
        await engine.update_session("s", add_processing_time=1e9)

    with pytest.raises(ConflictError):
        await engine.update_session("s", add_processing_time=1e9, increment_requests=True)

    session = await engine.get_session("s")
    assert (session.total_processing_time, session.request_count) == (9e9, 0)


async def test_unknown_sessions_are_told(engine):
    assert await engine.get_session("s") is None
    assert await engine.update_session("s", increment_requests=True) is False
    assert await engine.end_session("s") is False
    assert await engine.get_session("s") is None
    with pytest.raises(InvalidInputError):
        await engine.end_session("s", status="gone")


async def test_a_returned_session_is_the_callers_own(engine):
    session = await engine.create_session("s", "u", {"a": {"b": 1}})
    session.metadata["a"]["b"] = 2
    session.request_count = 99

    stored = await engine.get_session("s")
    assert (stored.metadata, stored.request_count) == ({"a": {"b": 1}}, 0)


async def test_a_session_survives_its_dict(engine):
    await engine.create_session("s", "u", {"a": 1})
    session = await engine.get_session("s")

    assert SessionMetrics.from_dict(session.to_dict()) == session
    assert session["user_id"] == session.user_id == "u"


# --- strict -------------------------------------------------------------------------------------


async def test_by_default_a_write_creates_the_session(engine):
    await engine.add_conversation_message("s", "user", "x")

    session = await engine.get_session("s")
    assert (session.user_id, session.status) == ("", "active")
    assert (await engine.list_sessions()).items == [session]


async def test_by_default_an_ended_session_takes_late_messages(engine):
    await engine.create_session("s", "u")
    await engine.end_session("s")

    assert await engine.add_conversation_message("s", "user", "late")

    assert (await engine.get_session("s")).status == "completed"


async def test_strict_sessions_refuse_unknown_and_ended_ones(make_engine):
    engine = await make_engine(strict_sessions=True)
    with pytest.raises(SessionNotFoundError):
        await engine.add_conversation_message("s", "user", "x")
    assert await engine.get_session("s") is None

    await engine.create_session("s", "u")
    await engine.add_conversation_message("s", "user", "x", {"input_tokens": 1})
    await engine.end_session("s")
    with pytest.raises(SessionEndedError):
        await engine.add_conversation_message("s", "user", "late")
    with pytest.raises(SessionEndedError):
        await engine.add_conversation_messages("s", [{"role": "user", "content": "late"}])

    assert [m.content for m in await engine.get_conversation_history("s")] == ["x"]
    await engine.update_session("s", {"status": "active"})
    assert await engine.add_conversation_message("s", "user", "y")


# --- expiry -------------------------------------------------------------------------------------


async def test_an_expired_session_is_gone_with_its_content(make_engine):
    engine = await make_engine(session_ttl=0.15)
    await engine.create_session("s", "u", {"a": 1})
    await engine.add_conversation_message("s", "user", "old", {"input_tokens": 5})
    await expired(engine, "s")

    assert await engine.get_session("s") is None
    assert await engine.get_conversation_history("s") == []
    assert await engine.update_session("s") is False
    assert (await engine.list_sessions("u")).items == []

    await engine.add_conversation_message("s", "user", "new")
    session = await engine.get_session("s")
    assert (session.user_id, session.metadata, session.input_tokens) == ("", {}, 0)
    assert [m.content for m in await engine.get_conversation_history("s")] == ["new"]


async def test_every_write_puts_expiry_off(make_engine):
    engine = await make_engine(session_ttl=0.6)
    created = await engine.create_session("s", "u")
    written = []

    async def has_outlived_its_time():
        written.append(await engine.add_conversation_message("s", "user", "x"))
        session = await engine.get_session("s")
        return session.last_activity - created.created_at > timedelta(seconds=0.8)

    await until(has_outlived_its_time)
    assert (await engine.get_session("s")).user_id == "u"
    assert len(await engine.get_conversation_history("s", limit=None)) == len(written)
