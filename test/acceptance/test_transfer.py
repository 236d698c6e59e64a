"""Sessions move between stores: nothing is lost, nothing is doubled, wherever the move ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from support.services import DAY, Services, Store
from support.transfer import THEN, Problems, exported, fill, imported, message, session

from aiecs.core.errors import ContextEngineError, StoreUnavailableError
from aiecs.core.interface.store import Batch, Redact
from aiecs.core.keys import session_place
from aiecs.domain.context import ContextEngine
from aiecs.domain.context.models import SessionMetrics
from aiecs.domain.context.transfer import (
    CheckpointRecord,
    Counts,
    Importer,
    MessageRecord,
    Record,
    SessionRecord,
)
from aiecs.domain.context.transfer import importing as importing_module
from aiecs.domain.context.transfer import writing as writing_module


@pytest.fixture
async def source() -> AsyncIterator[ContextEngine]:
    async with ContextEngine(store="memory://", operation_timeout=10.0) as engine:
        await fill(engine)
        yield engine


async def test_all_of_it_arrives_on_every_store(source: ContextEngine, engine: ContextEngine):
    records = await exported(source)

    counts, problems = await imported(engine, records)

    assert problems == []
    assert counts == Counts(
        sessions=2,
        messages=9,
        task_contexts=1,
        conversations=1,
        agent_messages=3,
        checkpoints=5,
        writes=1,
    )
    assert await exported(engine) == records
    for session_id in ("full", "empty"):
        assert await engine.get_session(session_id) == await source.get_session(session_id)
        before = await source.get_conversation_history(session_id, None)
        after = await engine.get_conversation_history(session_id, None)
        assert after == before
        assert [(m.id, m.seq) for m in after] == [(m.id, m.seq) for m in before]
    ours, theirs = await engine.get_task_context("full"), await source.get_task_context("full")
    assert ours is not None
    assert theirs is not None
    assert ours.to_dict() == theirs.to_dict()
    assert await engine.list_checkpoints("t/1") == await source.list_checkpoints("t/1")
    assert await engine.get_writes("t/1", "c2") == await source.get_writes("t/1", "c2")
    metrics, expected = await engine.get_metrics(), await source.get_metrics()
    for name in ("total_messages", "total_checkpoints", "active_sessions"):
        assert metrics[name] >= expected[name]


async def test_again_changes_nothing_and_what_came_later_stays(
    source: ContextEngine, engine: ContextEngine
):
    records = await exported(source)
    await imported(engine, records)
    assert (await imported(engine, records))[0] == Counts(known=2)
    assert await exported(engine) == records

    await engine.add_conversation_message("full", "user", "later")
    counts, problems = await imported(engine, records)

    assert (counts, problems) == (Counts(known=2), [])
    assert [m.content for m in await engine.get_conversation_history("full", 1)] == ["later"]


async def test_what_a_newer_version_says_of_a_session_arrives_too(engine: ContextEngine):
    newer = session().session.to_dict() | {"mood": {"today": ["good", 1]}}
    first = SessionRecord(SessionMetrics.from_dict(newer))
    async with ContextEngine(store="memory://", operation_timeout=10.0) as source:
        await imported(source, [first])
        await imported(engine, await exported(source))

    (record,) = await exported(engine)
    found = await engine.get_session("s")

    assert isinstance(record, SessionRecord)
    assert found is not None
    assert record.session.unknown_fields == {"mood": {"today": ["good", 1]}}
    assert (found["mood"], found["user_id"]) == ({"today": ["good", 1]}, "ada")


async def test_metadata_that_has_grown_arrives_whole(engine: ContextEngine):
    grown = {f"key {number}": number for number in range(2000)}

    _, problems = await imported(engine, [session(metadata=grown), message("a")])

    found = await engine.get_session("s")
    assert problems == []
    assert found is not None
    assert (found.metadata, found.user_id) == (grown, "ada")
    assert len(await engine.get_conversation_history("s")) == 1


async def test_a_later_export_continues_an_earlier_one(
    source: ContextEngine, engine: ContextEngine
):
    await imported(engine, await exported(source))
    await source.add_conversation_message("full", "user", "later", {"output_tokens": 5})
    await source.store_checkpoint("t/1", "c9", {"n": 9}, session_id="full")

    counts, problems = await imported(engine, await exported(source))

    assert problems == []
    assert counts == Counts(extended=1, known=1, messages=1, checkpoints=1)
    found = await engine.get_session("full")
    assert found is not None
    assert found.output_tokens == 5
    history = await engine.get_conversation_history("full", None)
    assert history == await source.get_conversation_history("full", None)


async def test_an_imported_session_is_found_by_owner_and_lives_on(engine: ContextEngine):
    await imported(engine, [session(), message("hi")])

    assert [s.session_id for s in (await engine.list_sessions("ada")).items] == ["s"]
    await engine.add_conversation_message("s", "assistant", "hello", {"output_tokens": 2})
    found = await engine.get_session("s")
    assert found is not None
    assert found.created_at == THEN
    assert found.last_activity > THEN + timedelta(days=1)
    assert found.output_tokens == 2
    assert (await engine.delete_session("s")).messages == 2


async def test_strict_sessions_are_about_live_writes():
    body = {"data": 1, "metadata": {}, "created_at": THEN.isoformat()}
    records: list[Record] = [session(status="completed"), message("hi", seq=7)]
    records.append(CheckpointRecord("t", "s", "c", body))
    target = Services(Store(), strict_sessions=True)

    assert (await imported(target, records))[1] == []
    assert await exported(target) == records


async def test_what_has_expired_can_be_imported_again():
    target = Services(Store())
    records: list[Record] = [session(), message("hi", seq=7)]
    await imported(target, records)
    target.store.ahead += 2 * DAY
    assert await target.sessions.get("s") is None

    counts, problems = await imported(target, records)

    assert (counts.sessions, counts.messages, problems) == (1, 1, [])
    assert await exported(target) == records


# --- wherever it ends -----------------------------------------------------------------------------


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few messages already take several batches."""
    monkeypatch.setattr(writing_module, "CHUNK_ITEMS", 3)
    monkeypatch.setattr(importing_module, "_HELD_BYTES", 1200)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_import_that_ends_anywhere_is_completed_by_the_next(
    source: ContextEngine, when: Any
):
    records = await exported(source)
    number = 0
    while True:
        number += 1
        target = Services(Store())
        target.store.fail(number, when)
        try:
            await imported(target, records)
        except StoreUnavailableError:
            interrupted = True
        else:
            interrupted = False
        target.store.mend()

        _, problems = await imported(target, records)

        assert problems == []
        assert await exported(target) == records, f"cut {when} batch {number}"
        await target.settled()
        if not interrupted:
            break
    assert number > 20


@pytest.mark.usefixtures("small_batches")
async def test_imports_at_the_same_time_do_not_double(source: ContextEngine):
    records = await exported(source)
    target = Services(Store())

    results = await asyncio.gather(*(imported(target, records) for _ in range(4)))

    assert [problems for _, problems in results] == [[]] * 4
    assert await exported(target) == records
    await target.settled()


def untouched(records: list[Record]) -> list[Record]:
    """Without the time of the last activity: an import that comes late to a thread links it again,
    and that is an activity."""
    return [
        SessionRecord(replace(one.session, last_activity=THEN))
        if type(one) is SessionRecord
        else one
        for one in records
    ]


@pytest.mark.usefixtures("small_batches")
async def test_imports_over_each_other_on_a_file(source: ContextEngine, tmp_path: Any):
    url = f"sqlite:///{tmp_path}/a.db"
    records = await exported(source)

    async def one() -> Problems:
        async with ContextEngine(store=url, operation_timeout=30.0) as engine:
            return (await imported(engine, records))[1]

    assert await asyncio.gather(*(one() for _ in range(4))) == [[]] * 4
    async with ContextEngine(store=url) as engine:
        assert untouched(await exported(engine)) == untouched(records)


async def test_a_store_that_is_down_ends_the_import(source: ContextEngine):
    target = Services(Store())
    target.store.fail(1)

    with pytest.raises(StoreUnavailableError):
        await imported(target, await exported(source))


async def test_what_the_callback_raises_ends_the_import():
    target = Services(Store())

    def tell(place: Any, error: ContextEngineError) -> None:
        raise KeyError(place)

    async def run() -> None:
        async with Importer(target.runtime, target.sessions, tell) as importer:
            for record in (session("a"), message("x", "elsewhere"), session("b")):
                await importer.add(record, "here")

    with pytest.raises(KeyError, match="here"):
        await run()


# --- sequences ------------------------------------------------------------------------------------


async def test_what_was_erased_stays_erased_and_keeps_its_place():
    source, target = Services(Store()), Services(Store())
    await imported(source, [session(), *(message(str(n)) for n in range(5))])
    first = (await exported(source))[1].message.seq  # type: ignore[union-attr]
    blank = Redact("m", (first + 1, first + 2))
    await source.store.apply(Batch(*session_place("s"), (blank,)))
    records = await exported(source)
    assert len(records) == 4

    await imported(target, records)

    assert await exported(target) == records
    assert (await imported(target, records))[0] == Counts(known=1)
    assert (await imported(source, records))[0] == Counts(known=1)


async def test_an_erased_message_does_not_come_back():
    target = Services(Store())
    records = [session(), *(message(str(n)) for n in range(3))]
    await imported(target, records)
    first = (await exported(target))[1].message.seq  # type: ignore[union-attr]
    await target.store.apply(Batch(*session_place("s"), (Redact("m", (first,)),)))

    counts, problems = await imported(target, records)

    assert (counts, problems) == (Counts(known=1), [])
    contents = [r.message.content for r in await exported(target) if isinstance(r, MessageRecord)]
    assert contents == ["1", "2"]


async def test_a_sequence_that_jumps_is_no_log():
    target = Services(Store())
    records = [session(), message("a", seq=10), message("b", seq=5000), message("c", seq=11)]

    counts, problems = await imported(target, records)

    assert [place for place, _ in problems] == [2]
    assert counts.messages == 2
