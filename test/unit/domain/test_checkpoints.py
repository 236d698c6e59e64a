"""How checkpoints are written: round trips, links to sessions, crashes, what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from support.services import NASTY_IDS, Services, services, steps

from aiecs.core.errors import (
    ConflictError,
    CorruptRecordError,
    InvalidInputError,
    SessionNotFoundError,
    StoreError,
)
from aiecs.core.interface import store as port
from aiecs.core.keys import thread_place
from aiecs.domain.context import groups
from aiecs.domain.context.checkpoints import MAX_CHECKPOINT_BYTES


@pytest.fixture
async def bench() -> AsyncIterator[Services]:
    async with services() as made:
        yield made


async def trips(bench: Services, work) -> int:
    await bench.settled()
    before = len(bench.store.batches)
    await work
    return len(bench.store.batches) - before


async def links(bench: Services, session_id: str) -> tuple[str, ...]:
    group = await groups.read_session(bench.runtime, session_id)
    return () if group is None else group.threads


async def test_a_write_is_one_round_trip_once_the_thread_is_there(bench: Services):
    store, put_writes = bench.checkpoints.store, bench.checkpoints.put_writes
    await store("free", "1", {})
    await store("tied", "1", {}, session_id="s")

    assert await trips(bench, store("free", "2", {})) == 1
    assert await trips(bench, store("tied", "2", {}, session_id="s")) == 1
    assert await trips(bench, store("tied", "3", {})) == 1
    assert await trips(bench, put_writes("free", "2", "task", [("a", 1)])) == 1


async def test_a_new_thread_costs_an_index_entry_and_one_batch(bench: Services):
    # refused, entered into the index, created
    assert await trips(bench, bench.checkpoints.store("t", "1", {})) == 3


async def test_reads_take_one_or_two_round_trips(bench: Services):
    for number in range(20):
        await bench.checkpoints.store("t", str(number), {})

    assert await trips(bench, bench.checkpoints.get("t", "3")) == 1
    assert await trips(bench, bench.checkpoints.get("t")) == 2
    assert await trips(bench, bench.checkpoints.list("t")) == 2


async def test_a_thread_is_linked_to_the_session_it_was_given(bench: Services):
    await bench.checkpoints.store("t", "1", {}, session_id="s")

    assert await links(bench, "s") == ("t",)
    session = await bench.sessions.get("s")
    assert session is not None
    assert session.user_id == ""


async def test_a_thread_can_be_linked_later(bench: Services):
    await bench.checkpoints.store("t", "1", {})
    await bench.checkpoints.store("t", "2", {}, session_id="s")

    assert await links(bench, "s") == ("t",)
    assert len(await bench.checkpoints.list("t")) == 2


async def test_a_thread_has_one_session(bench: Services):
    await bench.checkpoints.store("t", "1", {}, session_id="s")

    with pytest.raises(ConflictError):
        await bench.checkpoints.store("t", "2", {}, session_id="other")
    assert len(await bench.checkpoints.list("t")) == 1
    assert await bench.sessions.get("other") is None


async def test_the_namesake_of_a_session_belongs_to_no_other(bench: Services):
    await bench.sessions.create("s", "ann")

    with pytest.raises(ConflictError):
        await bench.checkpoints.store("s", "1", {}, session_id="other")
    assert await bench.checkpoints.get("s") is None


async def test_a_thread_may_be_linked_to_its_namesake(bench: Services):
    await bench.checkpoints.store("s", "1", {}, session_id="s")
    await bench.checkpoints.store("s", "2", {}, session_id="s")

    assert await bench.sessions.get("s") is not None
    with pytest.raises(ConflictError):
        await bench.checkpoints.store("s", "3", {}, session_id="other")


async def test_a_thread_without_a_session_makes_none(bench: Services):
    await bench.checkpoints.store("t", "1", {})

    assert await bench.sessions.get("t") is None


async def test_strict_sessions_are_not_created_by_a_thread():
    async with services(strict_sessions=True) as bench:
        with pytest.raises(SessionNotFoundError):
            await bench.checkpoints.store("t", "1", {}, session_id="s")
        assert await bench.checkpoints.get("t") is None


async def test_strict_a_deletion_in_between_leaves_no_thread():
    async with services(strict_sessions=True) as bench:
        await bench.sessions.create("s", "ann")
        apply, seen = bench.store.apply, []

        async def intrude(batch, *, timeout=None):
            results = await apply(batch, timeout=timeout)
            if not seen and any(getattr(op, "key", "") == "h" for op in batch.ops):
                seen.append(batch)  # linked, but not created yet
                await bench.deletions.delete_session("s")
            return results

        bench.store.apply = intrude  # type: ignore[method-assign]
        with pytest.raises(SessionNotFoundError):
            await bench.checkpoints.store("t", "1", {}, session_id="s")

        await bench.settled()
        assert bench.store.groups() == set()


async def test_a_crash_while_linking_hides_no_thread(bench: Services):
    for number, when in steps():
        await bench.sessions.create("s", "ann")
        await bench.settled()
        bench.store.fail(number, when)
        try:
            await bench.checkpoints.store("t", "1", {}, session_id="s")
            done = True
        except StoreError:
            done = False
        bench.store.mend()
        await bench.settled()

        await bench.deletions.delete_user("ann")

        assert bench.store.groups() == set(), (number, when)
        if done:
            return
    pytest.fail("never ran to its end")


async def test_a_crash_while_creating_hides_no_thread_from_the_sweeper(bench: Services):
    for number, when in steps():
        bench.store.fail(number, when)
        try:
            await bench.checkpoints.store("t", "1", {})
            done = True
        except StoreError:
            done = False
        bench.store.mend()

        indexed = {key for key in bench.store.names("t") if "_b:" in key}
        assert indexed or not bench.store.groups(), (number, when)
        if done:
            return
    pytest.fail("never ran to its end")


async def test_storing_again_after_an_unknown_outcome_keeps_one(bench: Services):
    await bench.checkpoints.store("t", "1", {"n": 0})
    bench.store.fail(1, "after")
    with pytest.raises(StoreError):
        await bench.checkpoints.store("t", "2", {"n": 1})
    bench.store.mend()

    await bench.checkpoints.store("t", "2", {"n": 1})

    assert [one["checkpoint_id"] for one in await bench.checkpoints.list("t")] == ["2", "1"]
    assert (await bench.runtime.counters.totals())["checkpoints"] == 1  # the lost answer's is not


async def test_totals_count_each_checkpoint_once(bench: Services):
    for name in ("1", "2", "1", "1"):
        await bench.checkpoints.store("t", name, {})

    assert (await bench.runtime.counters.totals())["checkpoints"] == 2


async def test_concurrent_first_writes_to_one_thread(bench: Services):
    await asyncio.gather(
        *(bench.checkpoints.store("t", str(n), {"n": n}, session_id="s") for n in range(64))
    )

    found = await bench.checkpoints.list("t", None)
    assert {one["data"]["n"] for one in found} == set(range(64))
    assert await links(bench, "s") == ("t",)


async def test_many_checkpoints_are_all_listed(bench: Services):
    for number in range(1203):
        await bench.checkpoints.store("t", str(number), number)

    found = await bench.checkpoints.list("t", None)

    assert [one["data"] for one in found] == list(range(1202, -1, -1))
    assert len(await bench.checkpoints.list("t", 1001)) == 1001


async def test_writes_of_many_tasks_come_by_task_id(bench: Services):
    tasks = [f"task {number:03}" for number in range(120)]
    for task in reversed(tasks):
        await bench.checkpoints.put_writes("t", "1", task, [("a", task), ("b", task)])

    found = await bench.checkpoints.get_writes("t", "1")

    assert found == [pair for task in tasks for pair in (("a", task), ("b", task))]


async def test_any_id_is_only_itself(bench: Services):
    for name in NASTY_IDS:
        await bench.checkpoints.store(name, name, {"id": name}, session_id=name)
        await bench.checkpoints.put_writes(name, name, name, [("mine", name)])
        await bench.checkpoints.put_writes("*", name, name, [("mine", name)])

    for number, name in enumerate(NASTY_IDS, 1):
        assert (await bench.checkpoints.get(name, name) or {})["data"] == {"id": name}
        assert len(await bench.checkpoints.list(name)) == 1
        assert await bench.checkpoints.get_writes(name, name) == [("mine", name)]
        assert await links(bench, name) == (name,)
        await bench.deletions.delete_thread(name)
        left = [bool(await bench.checkpoints.list(other)) for other in NASTY_IDS]
        assert left == [False] * number + [True] * (len(NASTY_IDS) - number)


async def spoil(bench: Services, key: str, field: str) -> None:
    ops = (port.Put(key, {field: b"\xff\x00 no record"}),)
    await bench.runtime.apply(port.Batch(*thread_place("t"), ops))


async def test_one_corrupt_checkpoint_does_not_hide_the_others(bench: Services):
    for name in ("1", "2", "3"):
        await bench.checkpoints.store("t", name, {})
    await spoil(bench, "d", "2")

    assert [one["checkpoint_id"] for one in await bench.checkpoints.list("t")] == ["3", "1"]
    assert bench.runtime.corrupt == 1
    with pytest.raises(CorruptRecordError):
        await bench.checkpoints.get("t", "2")


async def test_one_corrupt_write_does_not_hide_the_others(bench: Services):
    await bench.checkpoints.put_writes("t", "1", "a", [("x", 1)])
    await bench.checkpoints.put_writes("t", "1", "b", [("y", 2)])
    await spoil(bench, "w", "1/a")

    assert await bench.checkpoints.get_writes("t", "1") == [("y", 2)]
    assert bench.runtime.corrupt == 1


@pytest.mark.parametrize(
    ("data", "metadata"),
    [
        ({"x": float("nan")}, None),
        ({"x": object()}, None),
        ({}, [1]),
        ({}, {"x": object()}),
        ({"x": "x" * MAX_CHECKPOINT_BYTES}, None),
    ],
)
async def test_what_cannot_be_kept_is_refused_before_any_io(bench: Services, data, metadata):
    with pytest.raises(InvalidInputError):
        await bench.checkpoints.store("t", "1", data, metadata)

    assert bench.store.batches == []


@pytest.mark.parametrize(
    "writes", [["ab", 1], [("a",)], [("a", 1, 2)], [(1, 2)], [("a", object())]]
)
async def test_writes_that_are_none_are_refused(bench: Services, writes):
    with pytest.raises(InvalidInputError):
        await bench.checkpoints.put_writes("t", "1", "task", writes)

    assert bench.store.batches == []


@pytest.mark.parametrize("bad", ["", "x" * 256, 7, None, "\ud800"])
async def test_bad_ids_are_refused_before_any_io(bench: Services, bad):
    c = bench.checkpoints
    for work in (
        lambda: c.store(bad, "1", {}),
        lambda: c.store("t", bad, {}),
        lambda: c.get(bad),
        lambda: c.list(bad),
        lambda: c.put_writes("t", "1", bad, []),
        lambda: c.put_writes("t", bad, "task", []),
        lambda: c.get_writes("t", bad),
        lambda: bench.deletions.delete_thread(bad),
        lambda: bench.deletions.delete_session(bad),
        lambda: bench.deletions.delete_user(bad),
    ):
        with pytest.raises(InvalidInputError):
            await work()
    if bad is not None:
        with pytest.raises(InvalidInputError):
            await c.store("t", "1", {}, session_id=bad)
        with pytest.raises(InvalidInputError):
            await c.get("t", bad)
    assert bench.store.batches == []


async def test_the_largest_checkpoint_fits(bench: Services):
    room = MAX_CHECKPOINT_BYTES - 200
    await bench.checkpoints.store("t" * 255, "c" * 255, {"x": "x" * room}, session_id="s" * 255)

    found = await bench.checkpoints.get("t" * 255)
    assert found is not None
    assert len(found["data"]["x"]) == room


async def test_a_store_that_is_down_is_no_empty_answer(bench: Services):
    await bench.checkpoints.store("t", "1", {})
    bench.store.fail(1)

    for work in (
        bench.checkpoints.get("t"),
        bench.checkpoints.list("t"),
        bench.checkpoints.get_writes("t", "1"),
        bench.checkpoints.store("t", "2", {}),
        bench.checkpoints.put_writes("t", "1", "task", []),
        bench.deletions.delete_thread("t"),
        bench.deletions.delete_session("t"),
        bench.deletions.delete_user("ann"),
    ):
        with pytest.raises(StoreError):
            await work


async def test_a_refusal_that_names_no_guard_is_asked_again(bench: Services):
    """As a store answers that had refused the batch before, and lost the answer."""
    await bench.checkpoints.store("t", "1", {"old": True})
    apply, left = bench.store.apply, [1]

    async def forgetful(batch, *, timeout=None):
        if left:
            left.pop()
            raise port.GuardFailed(-2)
        return await apply(batch, timeout=timeout)

    bench.store.apply = forgetful  # type: ignore[method-assign]
    await bench.checkpoints.store("t", "1", {"new": True}, session_id="s")

    assert (await bench.checkpoints.get("t") or {})["data"] == {"new": True}
    assert await links(bench, "s") == ("t",)
