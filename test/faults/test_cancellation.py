"""Calls of the engine given up at each place where they wait, one place after the other.

Nothing is known of a call that was given up: it may have been applied, once, or not at all. Calls
beside it get their own answers, and nothing of it stays under way.
"""

from __future__ import annotations

import asyncio
import itertools

import pytest
from support import servers as real
from support.waiting import until

from aiecs import ContextEngine
from aiecs.infrastructure.persistence.stores.redis import RedisStore
from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore

REPEATS = 5


class GivenUp:
    """A call whose task is cancelled at its `at`-th wait, or so many turns of the loop `later`."""

    def __init__(self, call, at, later):
        self.met = False
        self._call = call
        self._at = at
        self._later = later

    def __await__(self):
        steps = self._call.__await__()
        go_on, value = steps.send, None
        for number in itertools.count(1):
            try:
                waits_for = go_on(value)
            except StopIteration as end:
                return end.value
            if number == self._at:
                self.met = True
                _cancel(asyncio.current_task(), self._later)
            try:
                go_on, value = steps.send, (yield waits_for)
            except BaseException as error:  # noqa: BLE001 - handed on to the call
                go_on, value = steps.throw, error
        return None


def _cancel(task, turns):
    if turns:
        asyncio.get_running_loop().call_soon(_cancel, task, turns - 1)
    else:
        task.cancel()


@pytest.fixture(params=[0, 2, 5])
def later(request):
    """At once, when what was asked is on its way, and about when it is answered."""
    return request.param


@pytest.fixture(params=["sqlite", *real.names()])
async def store(request, servers, prefix, tmp_path):
    """Each store on which calls wait."""
    if request.param == "sqlite":
        opened = SqliteStore(tmp_path / "store.db", timeout=10.0)
    else:
        url = servers.shared(request.param).url
        opened = RedisStore.from_url(url, prefix=prefix, timeout=10.0)
    yield opened
    await opened.close()


@pytest.fixture
async def engine(store):
    """An engine with a session that others use meanwhile."""
    async with ContextEngine(store=store, operation_timeout=10.0) as engine:
        for number in range(3):
            await engine.add_conversation_message("other", "user", f"o{number}")
        yield engine


async def given_up_everywhere(engine, later, make):
    """Calls of `make(name)`, given up one wait further on each time, until none waits so long.

    The names of those that ended, and of those that were given up.
    """
    ended, gone = [], []
    for at in itertools.count(1):
        met = False
        for name in (f"n{at}.{number}" for number in range(REPEATS)):
            given_up = GivenUp(make(name), at, later)
            (told,), beside = await asyncio.gather(
                asyncio.gather(_told(given_up), return_exceptions=True),
                engine.get_conversation_history("other"),
            )
            assert [message.content for message in beside] == ["o0", "o1", "o2"], "a wrong answer"
            cancelled = isinstance(told, asyncio.CancelledError)
            assert cancelled or not isinstance(told, BaseException), told
            (gone if cancelled else ended).append(name)
            met |= given_up.met
        if not met:
            break
    return ended, gone


async def _told(call):
    return await call


async def nothing_under_way(store):
    """Return when no place on a connection is taken any more; totals are written now and then."""

    async def idle():
        await store.ping()
        return all(lane.under_way == (0, 0) for lane in store.lanes())

    if isinstance(store, RedisStore):
        await until(idle)


@pytest.mark.parametrize("key", [None, "key"])
@pytest.mark.parametrize("new", [False, True], ids=["known session", "new session"])
async def test_messages(engine, store, later, new, key):
    def place(name):
        return f"s{name}" if new else "s"

    def add(name):
        own = None if key is None else key + name
        return engine.add_conversation_message(place(name), "user", name, idempotency_key=own)

    async def stored():
        found = [
            message.content
            for session in {place(name) for name in (*ended, *gone)}
            for message in await engine.get_conversation_history(session, limit=None)
        ]
        assert len(found) == len(set(found)), "stored twice"
        return {*found}

    await engine.create_session("s")
    ended, gone = await given_up_everywhere(engine, later, add)

    await nothing_under_way(store)
    found = await stored()
    assert {*ended} <= found <= {*ended, *gone}
    if key is not None:
        for name in (*gone, *ended):
            await add(name)
        assert await stored() == {*ended, *gone}


async def test_counted_requests(engine, store, later):
    await engine.create_session("s")

    ended, gone = await given_up_everywhere(
        engine, later, lambda _: engine.update_session("s", increment_requests=True)
    )

    await nothing_under_way(store)
    counted = (await engine.get_session("s")).request_count
    assert len(ended) <= counted <= len(ended) + len(gone)


async def test_new_sessions_and_their_index(engine, store, later):
    ended, gone = await given_up_everywhere(
        engine, later, lambda name: engine.create_session(name, "ann")
    )

    await nothing_under_way(store)
    for name in gone:
        there = await engine.get_session(name) is not None
        listed = {one.session_id for one in (await engine.list_sessions("ann")).items}
        assert there == (name in listed)
        await engine.create_session(name, "ann")
    assert (await engine.delete_user("ann")).sessions == len(gone) + len(ended)


async def test_checkpoints_of_new_threads(engine, store, later):
    def save(name):
        return engine.store_checkpoint(f"t{name}", "c", {"n": name}, session_id="s")

    ended, gone = await given_up_everywhere(engine, later, save)

    await nothing_under_way(store)
    for name in (*ended, *gone):
        found = await engine.get_checkpoint(f"t{name}")
        assert found["data"] == {"n": name} if found else name in gone
    await engine.delete_session("s")
    assert [await engine.get_checkpoint(f"t{name}") for name in (*ended, *gone)] == [None] * (
        len(ended) + len(gone)
    )


async def test_a_deletion_that_was_given_up_is_done_by_the_next(engine, store, later):
    for number in (f"{at}.{n}" for at in range(1, 20) for n in range(REPEATS)):
        await engine.add_conversation_message(f"n{number}", "user", "x")
        await engine.store_checkpoint(f"tn{number}", "c", {}, session_id=f"n{number}")

    ended, gone = await given_up_everywhere(engine, later, engine.delete_session)

    await nothing_under_way(store)
    for name in gone:
        history = await engine.get_conversation_history(name)
        assert len(history) == (await engine.get_session(name) is not None)
        await engine.delete_session(name)
    for name in (*ended, *gone):
        assert await engine.get_session(name) is None
        assert await engine.get_checkpoint(f"t{name}") is None
