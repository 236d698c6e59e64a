"""Lists of sessions: in order, in pages, of one user or status, and never of the deleted."""

from __future__ import annotations

import pytest

from aiecs import InvalidInputError


async def pages(engine, **wanted):
    found, cursor = [], None
    while True:
        page = await engine.list_sessions(**wanted, cursor=cursor)
        found += [session.session_id for session in page]
        cursor = page.cursor
        if cursor is None:
            return found


async def test_sessions_are_listed_latest_first_in_pages(engine):
    for number in range(7):
        await engine.create_session(f"s{number}", "u")
        await engine.create_session(f"other{number}", "v")

    assert await pages(engine, user_id="u", limit=3) == [f"s{n}" for n in range(6, -1, -1)]
    everyone = await pages(engine, limit=4)
    assert len(everyone) == len(set(everyone)) == 14
    assert everyone[0] == "other6"


async def test_sessions_are_listed_by_status(engine):
    for number in range(6):
        await engine.create_session(f"s{number}", "u")
        if number % 2:
            await engine.end_session(f"s{number}")

    listed = await engine.list_sessions("u", status="completed")
    assert [s.session_id for s in listed] == ["s5", "s3", "s1"]
    assert [s.session_id for s in (await engine.list_sessions(status="active"))] == [
        "s4",
        "s2",
        "s0",
    ]


@pytest.mark.parametrize("wanted", [{}, {"status": "failed"}, {"user_id": "u"}])
async def test_pages_of_any_size_are_parts_of_one_list(engine, wanted):
    for number in range(130):
        await engine.create_session(f"s{number}", "u" if number % 2 else "v")
        if number % 9 == 0:
            await engine.end_session(f"s{number}", "failed")
    whole = [session.session_id for session in await engine.list_sessions(**wanted, limit=1000)]

    for limit in (1, 3, 50):
        assert await pages(engine, **wanted, limit=limit) == whole
    oldest_first = [session.session_id async for session in engine.iter_sessions(**wanted)]
    assert oldest_first == whole[::-1]


async def test_a_rare_status_costs_one_look_at_each_session(timed):
    engine, store = timed
    for number in range(1_000):
        await engine.create_session(f"s{number}", "u")
    await engine.end_session("s0", "failed")
    calls, apply = 0, store.apply

    async def counted(*words, **options):
        nonlocal calls
        calls += 1
        return await apply(*words, **options)

    store.apply = counted

    page = await engine.list_sessions(status="failed", limit=1)

    assert [session.session_id for session in page] == ["s0"]
    assert calls < 1_500


async def test_a_page_looks_at_a_thousand_sessions_at_most(timed):
    engine, _ = timed
    for number in range(1_005):
        await engine.create_session(f"s{number}", "u")
    await engine.end_session("s2", "failed")

    first = await engine.list_sessions(status="failed", limit=3)
    rest = await engine.list_sessions(status="failed", limit=3, cursor=first.cursor)

    assert (first.items, rest.cursor) == ([], None)
    assert [session.session_id for session in rest] == ["s2"]


async def test_all_sessions_come_oldest_activity_first(engine):
    for number in range(250):
        await engine.create_session(f"s{number}", f"u{number % 3}")

    everyone = [session.session_id for session in await engine.list_all_sessions()]
    assert everyone == [f"s{number}" for number in range(250)]
    walked = [session.session_id async for session in engine.iter_sessions("u1")]
    assert walked == [f"s{number}" for number in range(1, 250, 3)]


async def test_a_walk_misses_no_session_that_moves(make_engine):
    engine = await make_engine()
    for number in range(150):
        await engine.create_session(f"s{number}", "u")

    seen = []
    async for session in engine.iter_sessions():
        seen.append(session.session_id)
        if len(seen) == 1:
            # Another process has not seen these sessions lately: its writes move them up.
            other = await make_engine()
            for number in range(140, 150):
                await other.update_session(f"s{number}", increment_requests=True)

    assert sorted(seen) == sorted(f"s{number}" for number in range(150))


async def test_a_deleted_session_is_listed_no_more(engine):
    await engine.create_session("s", "u")
    await engine.create_session("t", "u")

    report = await engine.delete_session("s")

    assert report.sessions == 1
    assert [s.session_id for s in await engine.list_sessions("u")] == ["t"]
    assert [s.session_id for s in await engine.list_all_sessions()] == ["t"]


async def test_a_session_that_changed_hands_is_listed_for_its_owner_only(engine):
    await engine.create_session("s", "u")
    await engine.delete_session("s")
    await engine.create_session("s", "v")

    assert (await engine.list_sessions("u")).items == []
    assert [s.session_id for s in await engine.list_sessions("v")] == ["s"]


@pytest.mark.parametrize("bad", ["x", "💥", "e30", "WzEsMl0"])
async def test_a_foreign_cursor_is_refused(engine, bad):
    with pytest.raises(InvalidInputError):
        await engine.list_sessions(cursor=bad)


@pytest.mark.parametrize("bad", [0, -1, 1001, None, "5"])
async def test_a_limit_of_nothing_is_refused(engine, bad):
    with pytest.raises(InvalidInputError):
        await engine.list_sessions(limit=bad)
