"""What expiry and clean-up remove, and what they leave for threads that live on."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest
from support.services import DAY, MINUTE, Services, services, steps

from aiecs.core.errors import StoreError
from aiecs.core.interface import store as port
from aiecs.domain.context import groups


@pytest.fixture
async def bench() -> AsyncIterator[Services]:
    async with services() as made:
        yield made


async def fill(bench: Services, session_id: str = "s", user_id: str = "ann") -> None:
    await bench.sessions.create(session_id, user_id, {"k": 1})
    await bench.write(session_id)
    await bench.sessions.end(session_id)
    await bench.settled()


async def expired(bench: Services, session_id: str = "s") -> dict[str, bytes]:
    group = await groups.read_session(bench.runtime, session_id)
    return {} if group is None else group.head


async def test_a_session_in_use_is_not_retired(bench: Services):
    await fill(bench)

    assert (await groups.retire_session(bench.runtime, "s")).gone is False
    assert await bench.messages("s") == [b"hello"]


async def test_an_unknown_one_is_gone(bench: Services):
    assert await groups.retire_session(bench.runtime, "s") == groups.Retired(gone=True)
    assert await groups.retire_thread(bench.runtime, "s") == groups.Retired(gone=True)


async def test_an_expired_session_is_removed(bench: Services):
    await fill(bench)
    bench.store.ahead += 2 * DAY

    gone, removed, _ = await groups.retire_session(bench.runtime, "s")

    assert gone
    assert (removed.sessions, removed.messages) == (1, 1)
    assert bench.store.groups() == set()


async def test_an_idle_session_goes_with_its_idle_threads():
    async with services(session_ttl=None, checkpoint_ttl=None) as bench:
        await fill(bench)
        await bench.checkpoints.store("t", "1", {}, session_id="s")
        await bench.settled()
        bench.store.ahead += DAY

        kept = await groups.retire_session(bench.runtime, "s", idle_before=1)
        gone = await groups.retire_session(bench.runtime, "s", idle_before=2**52)

        assert not kept.gone
        assert gone.gone
        assert (gone.removed.sessions, gone.removed.threads) == (1, 1)
        assert bench.store.groups() == set()


async def test_an_idle_session_stays_while_its_thread_is_in_use():
    async with services(session_ttl=None, checkpoint_ttl=None) as bench:
        await fill(bench)
        await bench.checkpoints.store("s", "1", {})
        await bench.settled()
        (idle,) = (await bench.sessions.read("s", port.Get("", ("l",))))[0]

        kept = await groups.retire_session(bench.runtime, "s", idle_before=int(idle))

        assert not kept.gone
        assert await bench.messages("s") == [b"hello"]


@pytest.mark.parametrize("holds", ["a link", "a conversation"])
async def test_a_session_that_wakes_while_it_is_looked_at_stays(monkeypatch, holds):
    async with services(session_ttl=None, checkpoint_ttl=None) as bench:
        await fill(bench)
        if holds == "a link":
            await bench.checkpoints.store("t", "1", {}, session_id="s")
        else:
            await bench.agents.create("s", [{"id": "a", "type": "agent"}], "x")
        await bench.settled()
        (before,) = await bench.sessions.read("s", port.Clock())
        bench.store.ahead += DAY
        read = groups.read_session

        async def read_and_woken(runtime, session_id):
            found = await read(runtime, session_id)
            await bench.write(session_id, "late")
            return found

        monkeypatch.setattr(groups, "read_session", read_and_woken)
        kept = await groups.retire_session(bench.runtime, "s", idle_before=before)

        assert not kept.gone
        assert await bench.messages("s") == [b"hello", b"late"]


async def test_an_expired_session_keeps_its_owner_while_a_thread_lives(bench: Services):
    await fill(bench)
    await bench.checkpoints.store("t", "1", {}, session_id="s")
    await bench.settled()
    bench.store.ahead += 2 * DAY

    first = await groups.retire_session(bench.runtime, "s")
    again = await groups.retire_session(bench.runtime, "s")

    assert not first.gone
    assert again == groups.Retired(gone=False)
    assert (await expired(bench))["u"] == b"ann"
    assert not [key for key in bench.store.groups() if key.endswith("/m")]
    assert await bench.sessions.get("s") is None

    bench.store.ahead += 8 * DAY
    last = await groups.retire_session(bench.runtime, "s")

    assert last.gone
    assert (last.removed.sessions, last.removed.threads) == (0, 1)
    assert bench.store.groups() == set()


async def test_the_owner_is_found_by_deletion_while_only_a_thread_is_left(bench: Services):
    await fill(bench)
    await bench.checkpoints.store("t", "1", {}, session_id="s")
    await bench.settled()
    bench.store.ahead += 2 * DAY
    await groups.retire_session(bench.runtime, "s")

    report = await bench.deletions.delete_user("ann")

    assert (report.sessions, report.threads) == (0, 1)
    assert bench.store.groups() == set()


async def test_room_is_made_for_a_new_session(bench: Services):
    await fill(bench)
    bench.store.ahead += 2 * DAY

    await groups.make_room(bench.runtime, "s")

    assert bench.store.groups() == set()


async def test_no_room_is_made_where_a_session_lives(bench: Services):
    await fill(bench)

    await groups.make_room(bench.runtime, "s")

    assert await bench.messages("s") == [b"hello"]


@pytest.mark.parametrize("swept", [False, True])
async def test_a_session_comes_back_empty_with_owner_and_links(bench: Services, swept: bool):
    await fill(bench)
    await bench.checkpoints.store("t", "1", {}, session_id="s")
    await bench.settled()
    bench.store.ahead += 2 * DAY
    if swept:
        await groups.retire_session(bench.runtime, "s")

    await groups.make_room(bench.runtime, "s")

    session = await bench.sessions.get("s")
    assert session is not None
    assert (session.user_id, session.status, session.metadata) == ("ann", "active", {})
    assert session.created_at == session.last_activity
    assert await bench.messages("s") == []
    assert (await bench.runtime.counters.totals())["sessions"] == 1
    report = await bench.deletions.delete_user("ann")
    assert (report.sessions, report.threads) == (1, 1)
    assert (await bench.runtime.counters.totals())["sessions"] == 0


async def test_a_session_with_much_metadata_comes_back(bench: Services):
    await bench.sessions.create("s", "ann", {f"key {n}": n for n in range(900)})
    for part in range(1, 4):
        metadata = {f"key {part} {n}": n for n in range(900)}
        await bench.sessions.update("s", {"metadata": metadata})
    await bench.checkpoints.store("t", "1", {}, session_id="s")
    await bench.settled()
    bench.store.ahead += 2 * DAY

    await bench.write("s", "new")

    session = await bench.sessions.get("s")
    assert session is not None
    assert (session.user_id, session.metadata) == ("ann", {})


async def test_retiring_cut_anywhere_loses_no_thread(bench: Services):
    for number, when in steps():
        await fill(bench)
        await bench.checkpoints.store("t", "1", {}, session_id="s")
        await bench.settled()
        bench.store.ahead += 2 * DAY
        bench.store.fail(number, when)
        try:
            await groups.retire_session(bench.runtime, "s")
            done = True
        except StoreError:
            done = False
        bench.store.mend()

        report = await bench.deletions.delete_user("ann")

        assert report.threads == 1, (number, when)
        assert bench.store.groups() == set(), (number, when)
        if done:
            return
    pytest.fail("never ran to its end")


async def test_an_expired_thread_is_replaced(bench: Services):
    await bench.checkpoints.store("t", "old", {})
    await bench.settled()
    bench.store.ahead += 8 * DAY

    assert await bench.checkpoints.list("t") == []
    await bench.checkpoints.store("t", "new", {})

    assert [one["checkpoint_id"] for one in await bench.checkpoints.list("t")] == ["new"]


async def test_writes_keep_a_thread_alive(bench: Services):
    await bench.checkpoints.store("t", "1", {})
    for _ in range(3):
        bench.store.ahead += 6 * DAY
        await bench.checkpoints.put_writes("t", "1", "task", [("a", 1)])

    assert await bench.checkpoints.get("t", "1") is not None


@pytest.mark.parametrize(("thread", "session"), [("t", "s"), ("s", None)])
async def test_a_thread_in_use_keeps_its_session_alive(bench: Services, thread, session):
    await bench.sessions.create("s", "ann")
    await bench.checkpoints.store(thread, "1", {}, session_id=session)
    await bench.settled()
    bench.store.ahead += DAY - MINUTE
    bench.forget_threads()  # another process

    await bench.checkpoints.store(thread, "2", {})
    await bench.settled()
    bench.store.ahead += 2 * MINUTE

    assert await bench.sessions.get("s") is not None


async def test_the_head_that_is_kept_is_renewed_once_a_day():
    async with services(checkpoint_ttl=30 * DAY) as bench:
        await fill(bench)
        await bench.checkpoints.store("t", "1", {}, session_id="s")
        await bench.settled()
        times = []
        for _ in range(4):
            bench.store.ahead += 2 * DAY
            await groups.retire_session(bench.runtime, "s")
            times.append(int((await expired(bench))["~x"]))
            await groups.retire_session(bench.runtime, "s")
            assert int((await expired(bench))["~x"]) == times[-1]
            assert await bench.sessions.get("s") is None

    assert all(later - sooner > DAY for sooner, later in itertools.pairwise(times))


async def test_a_thread_in_use_brings_its_expired_session_back(bench: Services):
    await fill(bench)
    await bench.checkpoints.store("t", "1", {}, session_id="s")
    await bench.settled()
    bench.store.ahead += 2 * DAY
    bench.forget_threads()  # a day later

    await bench.checkpoints.store("t", "2", {})
    await bench.settled()

    session = await bench.sessions.get("s")
    assert session is not None
    assert session.user_id == "ann"
    assert await bench.messages("s") == []
    report = await bench.deletions.delete_user("ann")
    assert (report.sessions, report.threads) == (1, 1)
