"""What an import cannot take up is told at its place and left out; the rest goes on."""

from __future__ import annotations

import pytest
from support.services import Services, Store
from support.transfer import exported, imported, message, session

from aiecs.core.errors import InvalidInputError
from aiecs.domain.context.transfer import (
    CheckpointRecord,
    Counts,
    MessageRecord,
    Record,
    TaskContextRecord,
)


async def test_other_messages_are_a_conflict_at_their_place():
    target = Services(Store())
    await imported(target, [session(), message("a"), message("b")])

    counts, problems = await imported(
        target, [session(), message("a"), message("B"), message("c"), session("t")]
    )

    ((place, error),) = problems
    assert place == 2
    assert "from the 2nd on" in str(error)
    assert (counts.sessions, counts.messages, counts.skipped) == (1, 0, 3)
    contents = [r.message.content for r in await exported(target) if isinstance(r, MessageRecord)]
    assert contents == ["a", "b"]


async def test_another_owner_is_a_conflict_and_the_rest_goes_on():
    target = Services(Store())
    await imported(target, [session(user_id="ada")])

    counts, problems = await imported(
        target, [session(user_id="eve"), message("a"), session("t"), message("b", "t")]
    )

    assert [place for place, _ in problems] == [0]
    assert (counts.sessions, counts.messages, counts.skipped) == (1, 1, 1)


async def test_an_unowned_session_is_given_to_its_owner():
    target = Services(Store())
    await imported(target, [session(user_id=""), message("a")])

    counts, problems = await imported(target, [session(user_id="ada"), message("a")])

    assert (counts.known, problems) == (1, [])
    found = await target.sessions.get("s")
    assert found is not None
    assert found.user_id == "ada"


async def test_contexts_and_checkpoints_that_differ_stay():
    target = Services(Store())
    checkpoint = {"data": 1, "metadata": {}, "created_at": "2026-05-04T12:00:00+00:00"}
    first = [
        session(),
        TaskContextRecord("s", {"a": 1}),
        CheckpointRecord("t", "s", "c", checkpoint),
    ]
    await imported(target, first)
    other = [
        session(),
        TaskContextRecord("s", {"a": 2}),
        CheckpointRecord("t", "s", "c", checkpoint | {"data": 2}),
        CheckpointRecord("t", "s", "c2", checkpoint),
    ]

    counts, problems = await imported(target, other)

    assert [place for place, _ in problems] == [1, 2]
    assert (counts.checkpoints, counts.task_contexts) == (1, 0)
    records = await exported(target)
    assert [r.stored for r in records if isinstance(r, TaskContextRecord)] == [{"a": 1}]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (session(status="paused"), "status"),
        (session(session_id="x" * 300), "at most 255"),
        (session(request_count=-1), "counter"),
        (session(total_processing_time=float("nan")), "total_processing_time"),
        (session(metadata={"x": float("inf")}), "metadata"),
        (message("x", "elsewhere"), "does not stand before"),
        (message("x" * 2_000_000, id="big"), "at most 1048576 bytes"),
        (message("x", role=""), "role"),
        (TaskContextRecord("s", [1]), "is no task context"),
        (CheckpointRecord("t", "s", "c", {"data": 1}), "is no checkpoint"),
        (CheckpointRecord("t" * 300, None, "c", {}), "at most 255"),
    ],
)
async def test_what_cannot_be_stored_is_told_and_left_out(record: Record, words: str):
    target = Services(Store())

    counts, problems = await imported(target, [session("other"), session(), record, session("z")])

    ((place, error),) = problems
    assert place == 2
    assert isinstance(error, InvalidInputError)
    assert words in str(error)
    assert counts.sessions == 3


async def test_what_follows_an_unknown_session_is_told_once():
    target = Services(Store())

    counts, problems = await imported(target, [message(str(n), "x") for n in range(5)])

    assert len(problems) == 1
    assert counts == Counts(skipped=4)
