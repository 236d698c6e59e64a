"""How long what was moved lives on."""

from __future__ import annotations

from support.services import Store

from aiecs.core.interface.store import Batch, Get
from aiecs.core.keys import session_place
from aiecs.domain.context.migration import migrate


async def test_lifetimes_go_on_where_both_expire(engine_on):
    stores = Store(), Store()
    source, target = [await engine_on("memory", store=store) for store in stores]
    await source.create_session("s", "u")
    await source.store_checkpoint("t", "c", {}, session_id="s")
    for store in stores:
        store.ahead += 20 * 3_600_000_000
    await migrate(source, target)
    assert await target.get_session("s")

    for store in stores:
        store.ahead += 5 * 3_600_000_000

    assert await target.get_session("s") is None
    assert await target.get_checkpoint("t") is not None


async def test_what_never_expired_lives_as_new_ones_there(engine_on):
    source, store = await engine_on("memory", session_ttl=None), Store()
    await source.create_session("s", "u")
    target = await engine_on("memory", store=store)
    await migrate(source, target)
    store.ahead += 23 * 3_600_000_000
    assert await target.get_session("s")
    store.ahead += 2 * 3_600_000_000
    assert await target.get_session("s") is None

    forever = await engine_on("sqlite")
    await migrate(source, forever)
    assert "~x" not in (await forever._on.runtime.read(_head("s")))[0]


def _head(session_id):
    return Batch(*session_place(session_id), (Get(""),))


async def test_an_expired_one_is_left_and_does_not_stand_in_the_way(engine_on):
    stores = Store(), Store()
    source, target = [await engine_on("memory", store=store) for store in stores]
    await source.create_session("old", "u")
    await target.create_session("again", "eve")
    for store in stores:
        store.ahead += 48 * 3_600_000_000
    await source.create_session("again", "u")

    report = await migrate(source, target)

    assert report.complete, report.troubles
    assert report.sessions == {"moved": 1, "absent": 1}
    assert (await target.get_session("again")).user_id == "u"


async def test_the_owner_of_a_thread_goes_with_it(engine_on):
    stores = Store(), Store()
    source, target = [await engine_on("memory", store=store) for store in stores]
    await source.create_session("s", "ann")
    await source.store_checkpoint("t", "c", {"x": 1}, session_id="s")
    for store in stores:
        store.ahead += 48 * 3_600_000_000
    await source.cleanup_expired_sessions(24 * 30)

    report = await migrate(source, target)

    assert report.complete, report.troubles
    assert await target.get_session("s") is None
    assert (await target.get_checkpoint("t"))["data"] == {"x": 1}
    assert (await target.delete_user("ann")).threads == 1
