"""Histories that are read while something happens: nothing twice, nothing hidden, nobody else's."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest
from support.clocks import HandClock
from support.held_archive import HeldArchive, Idle

from aiecs import ContextEngine
from aiecs.core import registry
from aiecs.core.errors import ArchiveUnavailableError
from aiecs.core.interface.store import Batch
from aiecs.domain.context import unshipped
from aiecs.infrastructure.persistence.archive import reading
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

TTL = 60


class Between:
    """A store that lets something happen before a call of it."""

    def __init__(self, clock):
        self.held = MemoryStore(clock=clock)
        self.capabilities = self.held.capabilities
        self.before = None

    async def apply(self, batch, *, timeout=None):
        if self.before is not None:
            self.before(batch)
        return await self.held.apply(batch, timeout=timeout)

    async def ping(self):
        await self.held.ping()

    async def close(self):
        await self.held.close()


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def store(clock):
    return Between(clock)


@pytest.fixture
def archive():
    return HeldArchive()


@pytest.fixture
def service(store, archive, monkeypatch):
    """What ships when it is told to; of the engine."""
    service = Idle(store, archive)
    monkeypatch.setattr(registry, "open_archive", lambda *_: service)
    monkeypatch.setattr(reading, "_REST", 0.0)
    monkeypatch.setattr(reading, "_LONGEST_REST", 0.0)
    monkeypatch.setenv("AIECS_ARCHIVE_READ_TIMEOUT", "10")
    return service


@pytest.fixture
async def engine(store, service):
    async with ContextEngine(store=store, archive="held://", session_ttl=TTL) as engine:
        yield engine


@pytest.fixture
def over(clock):
    """Let every session expire."""
    return lambda: clock.advance((TTL + 1) * 1_000_000)


async def say(engine, *texts):
    for text in texts:
        await engine.add_conversation_message("s", "user", text)


async def texts(engine, limit=None, **options):
    found = await engine.get_conversation_history("s", limit, **options)
    return [message.content for message in found]


def reads_the_head(batch):
    """Whether a call asks to which life a session has come."""
    return isinstance(batch, Batch) and any("~i" in str(op) for op in batch.ops)


@pytest.mark.parametrize("shipped", [False, True])
async def test_a_session_that_expires_during_a_read(engine, store, service, over, shipped):
    await say(engine, "earlier")
    over()
    await say(engine, "one", "two")
    if shipped:
        await service.ship()

    def expire(batch):
        if reads_the_head(batch):
            over()

    store.before = expire
    assert await texts(engine) == ["earlier", "one", "two"]
    await say(engine, "three")
    assert await texts(engine, 50) == ["earlier", "one", "two", "three"]


async def test_a_session_that_goes_to_somebody_else_during_a_read(engine, store, service, over):
    await engine.create_session("s", "bob")
    await say(engine, "of bob")
    over()
    await engine.create_session("s", "alice")
    await say(engine, "of alice")
    other = ContextEngine(store=store.held, archive="held://", session_ttl=TTL)
    await other.initialize()
    stopped, reached = asyncio.Event(), asyncio.Event()
    whole = store.held.apply

    async def apply(batch, *, timeout=None):
        if reads_the_head(batch) and not reached.is_set():
            reached.set()
            await stopped.wait()
        return await whole(batch, timeout=timeout)

    store.apply = apply
    read = asyncio.create_task(texts(engine))
    await reached.wait()
    over()
    await other.create_session("s", "bob")
    await say(other, "of bob again")
    stopped.set()
    assert await read == ["of alice"]
    await other.close()


async def test_an_answer_from_before_the_events_arrived_is_not_taken_over(
    engine, service, archive, over
):
    """A query that began before the shipper was done cannot stand for one that begins after."""
    await say(engine, "one")
    over()
    asked, go_on = threading.Event(), threading.Event()

    def hold(_):
        asked.set()
        assert go_on.wait(10)

    archive.after_select = hold
    first = asyncio.create_task(texts(engine))
    await asyncio.to_thread(asked.wait)
    archive.after_select = lambda _: None
    await service.ship()
    await say(engine, "two")
    async with asyncio.timeout(10):
        assert await texts(engine) == ["one", "two"]
    go_on.set()
    assert await first == ["one"]
    assert await texts(engine) == ["one", "two"]


async def test_more_waits_than_is_read_at_once(engine, store, service, over, monkeypatch):
    monkeypatch.setattr(unshipped, "_FIRST_PAGE", 5)
    monkeypatch.setattr(unshipped, "_PAGE", 7)
    said = [str(number) for number in range(40)]
    await say(engine, *said)
    over()
    assert await texts(engine) == said
    await say(engine, "new")
    assert await texts(engine) == [*said, "new"]
    assert (await engine.health_check())["archive"]["gaps"] == 0


async def test_more_waits_than_can_be_read_is_a_gap(engine, service, over, monkeypatch):
    monkeypatch.setattr(unshipped, "_FIRST_PAGE", 5)
    monkeypatch.setattr(unshipped, "_now", iter(range(0, 10**9, 1_000)).__next__)
    said = [str(number) for number in range(40)]
    await say(engine, *said)
    over()
    await say(engine, "new")
    assert await texts(engine) == [*said[-2:], "new"]  # and that the session ended, and began
    assert (await engine.health_check())["archive"]["gaps"] == 1
    with pytest.raises(ArchiveUnavailableError, match="more waits"):
        await texts(engine, include_archived=True)
    monkeypatch.undo()
    assert await texts(engine) == [*said, "new"], "the gap was remembered"


async def test_what_waits_of_somebody_else_is_not_shown_while_only_the_archive_knows_whose_it_is(
    engine, service, archive, over
):
    await engine.create_session("s", "alice")
    await service.ship()
    await say(engine, "of alice")
    over()
    archive.down = True
    await engine.create_session("s", "bob")
    await say(engine, "of bob")
    assert await texts(engine) == ["of bob"]
    archive.down = False
    assert await texts(engine, include_archived=True) == ["of bob"]
    over()
    await engine.create_session("s", "alice")
    assert await texts(engine) == ["of alice"]


async def test_who_has_time_does_not_share_the_deadline_of_others(engine, service, archive, over):
    await say(engine, "one")
    await service.ship()
    over()
    asked, go_on = threading.Event(), threading.Event()

    def hang(_):
        if asked.is_set():
            return
        asked.set()
        go_on.wait(10)
        raise ArchiveUnavailableError("too late for who asked")

    archive.after_select = hang
    hurried = asyncio.create_task(texts(engine))
    await asyncio.to_thread(asked.wait)
    patient = asyncio.create_task(texts(engine, include_archived=True))
    await asyncio.sleep(0)
    go_on.set()
    assert await hurried == []
    assert await patient == ["one"]


async def test_an_answer_that_fails_when_nobody_waits_any_more_is_no_news(
    engine, service, archive, over, monkeypatch
):
    await say(engine, "one")
    await service.ship()
    over()
    monkeypatch.setattr(engine._on.cold._earlier, "_timeout", 0.01)
    go_on, failed, told = threading.Event(), threading.Event(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    def hang(_):
        go_on.wait(10)
        failed.set()
        raise ArchiveUnavailableError("too late for who asked")

    archive.after_select = hang
    assert await texts(engine) == []  # the deadline of a read has passed
    go_on.set()
    await asyncio.to_thread(failed.wait)
    await engine.archive_barrier()  # its threads have said what they had to
    gc.collect()
    assert not told
