"""Deletions that may be cut anywhere: what is deleted is gone in the end, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from support.services import DAY, MINUTE, NASTY_IDS, Services, services, steps

from aiecs.core.errors import StoreError
from aiecs.core.interface import store as port
from aiecs.core.keys import session_place, thread_place
from aiecs.domain.context import groups


@pytest.fixture
async def bench() -> AsyncIterator[Services]:
    async with services() as made:
        yield made


async def fill(bench: Services, session_id: str, user_id: str = "ann") -> None:
    """A session with everything that can belong to one."""
    await bench.sessions.create(session_id, user_id, {"k": 1})
    await bench.write(session_id)
    await bench.sessions.apply(
        session_id, (port.Put("t", {"d": b"{}"}), port.Put("k0", {"x": b"y"}))
    )
    for name in ("c1", "c2"):
        ops = (port.Put("a", {name: b"{}"}), port.Append(f"a/{name}", (b"{}", b"{}")))
        await bench.sessions.apply(session_id, (*ops, port.Incr("", {"cn": 1})))
    await bench.checkpoints.store(f"linked-{session_id[-100:]}", "1", {}, session_id=session_id)
    await bench.checkpoints.store(session_id, "1", {"namesake": True})
    await bench.checkpoints.put_writes(session_id, "1", "task", [("a", 1), ("b", 2)])


async def test_a_session_goes_with_all_that_belongs_to_it(bench: Services):
    await fill(bench, "s")

    report = await bench.deletions.delete_session("s")

    assert report.to_dict() == {
        "sessions": 1,
        "messages": 5,
        "task_contexts": 1,
        "conversations": 2,
        "threads": 2,
        "checkpoints": 2,
        "writes": 2,
        "items": 0,
        "archived_rows": 0,
        "complete": True,
    }
    assert bench.store.groups() == set()


async def test_deleting_again_finds_nothing(bench: Services):
    await fill(bench, "s")
    await bench.deletions.delete_session("s")

    assert (await bench.deletions.delete_session("s")).to_dict() == {
        **dict.fromkeys(
            (
                "sessions",
                "messages",
                "task_contexts",
                "conversations",
                "threads",
                "checkpoints",
                "writes",
                "items",
                "archived_rows",
            ),
            0,
        ),
        "complete": True,
    }


@pytest.mark.parametrize("one", NASTY_IDS)
@pytest.mark.parametrize("other", ["a", "b", "x"])
async def test_nothing_of_another_session_is_touched(bench: Services, one: str, other: str):
    await fill(bench, other, "bob")
    await bench.settled()
    bystander = {
        key: dict(bench.store.memory._state._maps.get(key, {})) for key in bench.store.groups()
    }
    await fill(bench, one)

    await bench.deletions.delete_session(one)

    after = {
        key: dict(bench.store.memory._state._maps.get(key, {})) for key in bench.store.groups()
    }
    assert after == bystander


async def test_an_expired_session_is_deleted_too(bench: Services):
    await fill(bench, "s")
    bench.store.ahead = 2 * DAY

    report = await bench.deletions.delete_session("s")

    assert (report.sessions, report.threads) == (1, 2)
    assert bench.store.groups() == set()


async def test_a_namesake_linked_elsewhere_stays(bench: Services):
    await bench.checkpoints.store("s", "1", {}, session_id="other")
    await bench.sessions.create("s", "ann")

    await bench.deletions.delete_session("s")

    assert await bench.checkpoints.get("s") is not None


async def test_more_conversations_than_fit_a_batch(bench: Services):
    await bench.sessions.create("s", "ann")
    for number in range(2000):
        ops = (port.Put("a", {f"c{number}": b"{}"}), port.Append(f"a/c{number}", (b"{}",)))
        await bench.sessions.apply("s", (*ops, port.Incr("", {"cn": 1})))

    report = await bench.deletions.delete_session("s")

    assert (report.conversations, report.messages) == (2000, 2000)
    assert bench.store.groups() == set()


async def test_a_session_deletion_cut_anywhere_is_finished_by_the_next(bench: Services):
    for number, when in steps():
        await fill(bench, "s")
        await bench.settled()
        bench.store.fail(number, when)
        try:
            await bench.deletions.delete_session("s")
            done = True
        except StoreError:
            done = False
        bench.store.mend()

        await bench.deletions.delete_session("s")

        assert bench.store.groups() == set(), (number, when)
        if done:
            assert number > 5
            return
    pytest.fail("the deletion never ran to its end")


async def test_a_user_deletion_cut_anywhere_is_finished_by_the_next(bench: Services):
    await fill(bench, "bystander", "bob")
    await bench.settled()
    untouched = bench.store.groups()
    for number, when in steps():
        await fill(bench, "s1")
        await fill(bench, "s2")
        await bench.settled()
        bench.store.fail(number, when)
        try:
            await bench.deletions.delete_user("ann")
            done = True
        except StoreError:
            done = False
        bench.store.mend()

        await bench.deletions.delete_user("ann")

        assert bench.store.groups() == untouched, (number, when)
        if done:
            assert number > 10
            return
    pytest.fail("the deletion never ran to its end")


async def test_a_users_index_forgets_what_is_gone_for_ten_minutes(bench: Services):
    await fill(bench, "s")
    await bench.settled()
    await bench.deletions.delete_user("ann")
    bench.store.ahead += 11 * MINUTE

    await bench.deletions.delete_user("ann")

    assert not [key for key in bench.store.everything() if "_u:" in key]


async def test_a_session_that_is_another_users_now_stays(bench: Services):
    await bench.sessions.create("s", "ann")
    await bench.deletions.delete_session("s")
    await bench.sessions.create("s", "bob")

    report = await bench.deletions.delete_user("ann")

    assert report.sessions == 0
    session = await bench.sessions.get("s")
    assert session is not None
    assert session.user_id == "bob"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_while_creating_hides_nothing_from_deletion(bench: Services, when):
    for number, _ in steps():
        bench.store.fail(number, when)
        try:
            await fill(bench, "s")
            done = True
        except StoreError:
            done = False
        bench.store.mend()
        await bench.settled()

        await bench.deletions.delete_user("ann")

        left = {key for key in bench.store.groups() if "t:" not in key}
        assert left == set(), number
        await bench.deletions.delete_session("s")
        assert bench.store.groups() == set(), number
        if done:
            return
    pytest.fail("never ran to its end")


async def test_writes_during_deletion_go_with_it_or_stay_whole(bench: Services):
    """Cut in between every two batches of the deletion: a write of each kind comes in."""
    for number, _ in steps():
        await fill(bench, "s")
        await bench.settled()
        intruder = Intruder(bench, number)
        await bench.deletions.delete_session("s")
        if not intruder.came:
            return

        session, thread = await bench.sessions.get("s"), await bench.checkpoints.get("late")
        if session is None:
            assert thread is None, number
            assert bench.store.groups() == set(), number
        else:
            assert await bench.messages("s") in ([], [b"late"]), number
        if thread is not None:
            group = await groups.read_session(bench.runtime, "s")
            assert group is not None
            assert "late" in group.threads, number
        await bench.deletions.delete_session("s")
        assert bench.store.groups() == set(), number
    pytest.fail("the deletion never ran to its end")


class Intruder:
    """Writes to session `s` right before the n-th batch of what comes next."""

    def __init__(self, bench: Services, number: int) -> None:
        self.came = False
        self._bench = bench
        self._left = number
        self._apply = bench.store.apply
        bench.store.apply = self.apply  # type: ignore[method-assign]

    async def apply(self, batch, *, timeout=None):
        self._left -= 1
        if self._left == 0:
            self._bench.store.apply = self._apply
            self.came = True
            await self._bench.write("s", "late")
            await self._bench.checkpoints.store("late", "1", {}, session_id="s")
        return await self._apply(batch, timeout=timeout)


async def test_a_deletion_between_link_and_thread_loses_no_thread(bench: Services):
    """The session is deleted before each batch of the first linked checkpoint."""
    for number in range(1, 20):
        await bench.sessions.create("s", "ann")
        await bench.settled()
        hook = Before(bench, number, lambda: bench.deletions.delete_session("s"))
        await bench.checkpoints.store("t", "1", {}, session_id="s")
        if not hook.came:
            return

        stored = await bench.checkpoints.get("t") is not None
        session = await bench.sessions.get("s")
        assert stored == (session is not None), number
        report = await bench.deletions.delete_session("s")
        assert report.threads == int(stored), number
        await bench.settled()
        assert bench.store.groups() == set(), number
    pytest.fail("storing never ran to its end")


class Before:
    """Runs something right before the n-th batch of what comes next."""

    def __init__(self, bench, number, action) -> None:
        self.came = False
        self._bench, self._left, self._action = bench, number, action
        self._apply = bench.store.apply
        bench.store.apply = self.apply

    async def apply(self, batch, *, timeout=None):
        self._left -= 1
        if self._left == 0:
            self._bench.store.apply = self._apply
            self.came = True
            await self._action()
        return await self._apply(batch, timeout=timeout)


async def test_a_refresh_in_the_background_brings_nothing_back(bench: Services):
    await bench.checkpoints.store("t", "1", {}, session_id="s")
    await bench.deletions.delete_session("s")  # before the refresh has had its turn

    await bench.settled()

    assert bench.store.groups() == set()


async def test_totals_follow(bench: Services):
    await fill(bench, "s")
    await fill(bench, "stays", "bob")
    await bench.deletions.delete_session("s")

    totals = await bench.runtime.counters.totals()

    assert totals["sessions"] == 1
    assert totals["checkpoints"] == 2


async def test_concurrent_deletions_of_one_session(bench: Services):
    await fill(bench, "s")

    reports = await asyncio.gather(*(bench.deletions.delete_session("s") for _ in range(8)))

    assert sum(report.sessions for report in reports) == 1
    assert bench.store.groups() == set()


@pytest.mark.parametrize("field", ["~bm", "~ba/c1", "cn", "hn", "l", "u"])
async def test_corrupt_fields_do_not_keep_a_session(bench: Services, field: str):
    await fill(bench, "s")
    await bench.settled()
    head = bench.store.memory._state._maps[f"{session_place('s').bucket}/s:s"]
    head[field] = b"\xff no number"

    report = await bench.deletions.delete_session("s")

    assert (report.sessions, report.threads) == (1, 2)
    assert bench.store.groups() == set()


@pytest.mark.parametrize("field", ["n", "wn", "l"])
async def test_corrupt_fields_do_not_keep_a_thread(bench: Services, field: str):
    await bench.checkpoints.store("t", "1", {})
    ops = (port.Put("", {field: b"\xff no number"}),)
    await bench.runtime.apply(port.Batch(*thread_place("t"), ops))

    assert (await bench.deletions.delete_thread("t")).threads == 1
