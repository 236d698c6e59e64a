"""Checkpoints: latest first, nothing lost in them, threads apart from each other."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from aiecs.core.errors import ConflictError, InvalidInputError
from aiecs.domain.context import ContextEngine

IDS = ("a:b", "a", "b:c", "c", "*", "../x", "{x}", "😀", "\x00", "~i", ":", "é" * 127 + "x")


async def test_the_example_of_the_specification(engine: ContextEngine):
    data = {"workflow_state": "data_processing", "current_step": "data_cleaning", "errors": []}
    before = datetime.now(UTC)

    stored = await engine.store_checkpoint(
        thread_id="workflow_001",
        checkpoint_id="checkpoint_001",
        checkpoint_data=data,
        metadata={"workflow_version": "1.0"},
    )
    found = await engine.get_checkpoint(thread_id="workflow_001", checkpoint_id="checkpoint_001")

    assert stored is True
    assert found is not None
    created = datetime.fromisoformat(found.pop("created_at"))
    assert before <= created <= datetime.now(UTC)
    assert found == {
        "checkpoint_id": "checkpoint_001",
        "thread_id": "workflow_001",
        "data": data,
        "metadata": {"workflow_version": "1.0"},
    }


async def test_the_latest_is_the_one_stored_last(engine: ContextEngine):
    for name in ("b", "c", "a"):
        await engine.store_checkpoint("t", name, {"name": name})

    latest = await engine.get_checkpoint("t")

    assert latest is not None
    assert latest["checkpoint_id"] == "a"
    assert [one["checkpoint_id"] for one in await engine.list_checkpoints("t")] == ["a", "c", "b"]
    assert [one["checkpoint_id"] for one in await engine.list_checkpoints("t", limit=2)] == [
        "a",
        "c",
    ]


async def test_storing_an_id_again_replaces_it_and_makes_it_the_latest(engine: ContextEngine):
    await engine.store_checkpoint("t", "1", {"n": 1}, {"m": 1})
    await engine.store_checkpoint("t", "2", {"n": 2})
    await engine.put_checkpoint("t", "1", {"n": 3})

    listed = await engine.list_checkpoints("t")

    assert [(one["checkpoint_id"], one["data"]["n"]) for one in listed] == [("1", 3), ("2", 2)]
    assert listed[0]["metadata"] == {}


async def test_all_are_listed_without_a_limit(engine: ContextEngine):
    for number in range(30):
        await engine.store_checkpoint("t", str(number), number)

    assert len(await engine.list_checkpoints("t")) == 10
    assert [one["data"] for one in await engine.list_checkpoints("t", limit=0)] == list(
        range(29, -1, -1)
    )


async def test_what_json_cannot_hold_is_kept(engine: ContextEngine):
    data = {
        "bytes": b"\x00\xff",
        "tuple": (1, (2, [3])),
        "set": {1, 2},
        "when": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        "day": date(2026, 1, 2),
        "exact": Decimal("0.1"),
        "id": UUID(int=7),
        "int keys": {1: "one", None: "none"},
        "~": "looks like a tag",
        "big": 2**70,
        "text": "\x00 é 😀",
    }

    await engine.store_checkpoint("t", "1", data, {"tuple": (1, 2)})
    found = await engine.get_checkpoint("t")

    assert found is not None
    assert found["data"] == data
    assert type(found["data"]["tuple"]) is tuple
    assert found["metadata"] == {"tuple": (1, 2)}


async def test_what_is_unknown_is_none_or_empty(engine: ContextEngine):
    await engine.store_checkpoint("t", "1", {})

    assert await engine.get_checkpoint("t", "2") is None
    assert await engine.get_checkpoint("other") is None
    assert await engine.list_checkpoints("other") == []
    assert await engine.get_writes("other", "1") == []
    assert await engine.get_writes("t", "1") == []


async def test_writes_come_by_task_and_then_as_they_were_put(engine: ContextEngine):
    await engine.put_writes("t", "1", "task b", [("x", 1), ("y", (2, b"3"))])
    await engine.put_writes("t", "1", "task a", [("z", None)])
    await engine.put_writes("t", "2", "task a", [("other checkpoint", 0)])
    await engine.store_checkpoint("t", "1", {})

    writes = await engine.get_writes("t", "1")

    assert writes == [("z", None), ("x", 1), ("y", (2, b"3"))]
    assert all(type(write) is tuple for write in writes)


async def test_a_task_that_runs_again_replaces_its_writes(engine: ContextEngine):
    await engine.put_writes("t", "1", "task", [("x", 1), ("y", 2)])
    await engine.put_writes("t", "1", "task", [("x", 3)])

    assert await engine.get_writes("t", "1") == [("x", 3)]


async def test_writes_of_names_that_look_alike_stay_apart(engine: ContextEngine):
    tasks = [("a/b", "c"), ("a", "b/c"), ("a%2Fb", "c"), ("a", "b%2Fc")]
    for checkpoint, task in tasks:
        await engine.put_writes("p", checkpoint, task, [("ch", (checkpoint, task))])

    found = {name: await engine.get_writes("p", name) for name in ("a/b", "a", "a%2Fb")}

    assert found == {
        "a/b": [("ch", ("a/b", "c"))],
        "a": [("ch", ("a", "b%2Fc")), ("ch", ("a", "b/c"))],
        "a%2Fb": [("ch", ("a%2Fb", "c"))],
    }


async def test_what_is_handed_out_is_the_callers_own(engine: ContextEngine):
    data = {"list": [1]}
    await engine.store_checkpoint("t", "1", data)
    data["list"].append(2)
    first = await engine.get_checkpoint("t")
    assert first is not None
    first["data"]["list"].append(3)

    second = await engine.get_checkpoint("t")

    assert second is not None
    assert second["data"] == {"list": [1]}


async def test_threads_and_checkpoints_of_any_name_stay_apart(engine: ContextEngine):
    for thread in IDS:
        for checkpoint in ("c", "b:c"):
            await engine.store_checkpoint(thread, checkpoint, [thread, checkpoint])
            await engine.put_writes(thread, checkpoint, "task", [("ch", [thread, checkpoint])])

    for thread in IDS:
        assert len(await engine.list_checkpoints(thread)) == 2
        found = await engine.get_checkpoint(thread, "c")
        assert found is not None
        assert found["data"] == [thread, "c"]
        assert await engine.get_writes(thread, "b:c") == [("ch", [thread, "b:c"])]


async def test_many_at_once_are_all_there(engine: ContextEngine):
    await asyncio.gather(*(engine.store_checkpoint("t", str(n), {"n": n}) for n in range(64)))
    await asyncio.gather(*(engine.store_checkpoint(f"t{n}", "1", {"n": n}) for n in range(64)))

    assert {one["data"]["n"] for one in await engine.list_checkpoints("t", 0)} == set(range(64))
    found = await asyncio.gather(*(engine.get_checkpoint(f"t{n}") for n in range(64)))
    assert [one and one["data"]["n"] for one in found] == list(range(64))


async def test_a_thread_may_belong_to_a_session(engine: ContextEngine):
    await engine.create_session("s", "ann")
    await engine.store_checkpoint("t", "1", {}, session_id="s")
    await engine.store_checkpoint("t", "2", {}, session_id="s")
    await engine.store_checkpoint("t", "3", {})

    with pytest.raises(ConflictError):
        await engine.store_checkpoint("t", "4", {}, session_id="other")
    assert await engine.get_session("other") is None
    report = await engine.delete_session("s")
    assert (report.threads, report.checkpoints) == (1, 3)
    assert await engine.list_checkpoints("t") == []


async def test_a_session_that_a_thread_names_is_created(engine: ContextEngine):
    await engine.store_checkpoint("t", "1", {}, session_id="s")

    session = await engine.get_session("s")
    assert session is not None
    assert session.user_id == ""


async def test_a_thread_of_its_own_makes_no_session(engine: ContextEngine):
    await engine.store_checkpoint("t", "1", {})

    assert await engine.get_session("t") is None


async def test_the_diagnosis_of_the_specification_finds_them(engine: ContextEngine):
    await engine.create_session("s", "ann")
    await engine.store_checkpoint("s", "1", {})

    assert len(await engine.list_checkpoints("s", limit=5)) == 1


async def test_a_deleted_thread_is_gone_and_may_begin_again(engine: ContextEngine):
    await engine.store_checkpoint("t", "1", {"old": True})
    await engine.put_writes("t", "1", "task", [("x", 1)])

    report = await engine.delete_thread("t")

    assert (report.threads, report.checkpoints, report.writes) == (1, 1, 1)
    assert await engine.get_checkpoint("t") is None
    assert await engine.get_writes("t", "1") == []
    assert (await engine.delete_thread("t")).threads == 0
    await engine.store_checkpoint("t", "2", {})
    assert [one["checkpoint_id"] for one in await engine.list_checkpoints("t")] == ["2"]


async def test_the_metrics_count_them_once(engine: ContextEngine):
    before = (await engine.get_metrics())["total_checkpoints"]
    for name in ("1", "2", "1"):
        await engine.store_checkpoint("t", name, {})

    assert (await engine.get_metrics())["total_checkpoints"] == before + 2


@pytest.mark.parametrize("data", [float("nan"), object(), {"x": object()}, "x" * 8 * 2**20])
async def test_what_cannot_be_kept_is_refused(engine: ContextEngine, data):
    with pytest.raises(InvalidInputError):
        await engine.store_checkpoint("t", "1", data)
    with pytest.raises(InvalidInputError):
        await engine.put_writes("t", "1", "task", [("x", data)])
    assert await engine.list_checkpoints("t") == []


async def test_a_large_checkpoint_is_kept(engine: ContextEngine):
    data = {"blob": "x" * 6 * 2**20}

    await engine.store_checkpoint("t", "1", data)

    found = await engine.get_checkpoint("t")
    assert found is not None
    assert found["data"] == data
