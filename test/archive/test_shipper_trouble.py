"""What must not stop a shipper, make it forget something, or let its counts run away."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from support.held_archive import HeldArchive, Idle
from support.waiting import until

from aiecs import ContextEngine
from aiecs.core import registry
from aiecs.core.errors import ArchiveRowError, ArchiveUnavailableError
from aiecs.core.events import OUTBOX, About, header
from aiecs.core.interface.store import Append, Batch, Put, Read, Truncate
from aiecs.core.keys import bucket_of
from aiecs.infrastructure.persistence.archive import backlog, gate, letters, shipper
from aiecs.infrastructure.persistence.archive.delivery import Delivery
from aiecs.infrastructure.persistence.archive.destination import ArchiveDestination
from aiecs.infrastructure.persistence.archive.leases import GROUPS, Lease, group_of, home_of
from aiecs.infrastructure.persistence.archive.outboxes import Outboxes, leave_hints
from aiecs.infrastructure.persistence.archive.rows import Shipped
from aiecs.infrastructure.persistence.archive.service import Bounds
from aiecs.infrastructure.persistence.archive.shipper import Shipper
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

MEGABYTE = 1024 * 1024


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(gate, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(gate, "_FIRST_PACE", 0.001)
    monkeypatch.setattr(gate, "LONGEST_PAUSE", 0.01)


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def archive():
    return HeldArchive()


@pytest.fixture
def service(store, archive, monkeypatch):
    service = Idle(store, archive)
    monkeypatch.setattr(registry, "open_archive", lambda *_: service)
    return service


@pytest.fixture
async def engine(store, service):
    async with ContextEngine(store=store, archive="held://") as engine:
        yield engine


def of_one_group(count):
    """Names of sessions whose outboxes one lease covers."""
    names = (f"session {number}" for number in range(count * GROUPS * 4))
    return [name for name in names if group_of(bucket_of(name)) == 0][:count]


async def set_aside(store):
    return [letter async for letter in letters.all_of(store)]


def event(session, text, sequence=5):
    head = header(About.MESSAGE, session)
    record = b'{"role":"user","content":"%s","timestamp":"2025-01-01T00:00:00Z"}' % text.encode()
    return b"0000000000000001ab %d 1794000000000000 %b\n%b" % (sequence, head, record)


# --- nothing stops it ---------------------------------------------------------------------------


async def test_an_error_that_nobody_knows_is_an_alarm_and_not_the_end(engine, store, archive):
    destination = ArchiveDestination(archive, "test")
    opened, failures = destination.open, iter(range(20))

    async def fail():
        if next(failures, None) is not None:
            raise RuntimeError("what stands here may quote a message")
        await opened()

    destination.open = fail
    await engine.add_conversation_message("s", "user", "hello")
    await leave_hints(store, [bucket_of("s")])
    one = Shipper(store, destination, linger=0.001)
    running = asyncio.create_task(one.run())
    alarms = set()
    async with asyncio.timeout(20):
        while not archive.said():
            alarms.add(one.progress.alarm)
            await asyncio.sleep(0)
    one.stop()
    await running
    await destination.close()
    assert any(alarm.startswith("RuntimeError at test_shipper_trouble.py:") for alarm in alarms)
    assert not any("quote" in alarm for alarm in alarms)


async def test_a_row_that_breaks_the_driver_goes_aside_and_the_rest_arrives(
    engine, store, service, archive
):
    def break_on_poison(rows):
        if any(row.get("content") == "poison" for row in rows):
            raise OverflowError("of the driver")

    archive.before_insert = break_on_poison
    for text in ("one", "poison", "two"):
        await engine.add_conversation_message("s", "user", text)
    for _ in range(8):  # it gives up waiting when it is to end, and goes on where it was
        await service.ship()
    one = Shipper(store, ArchiveDestination(archive, "test"), linger=0.001)
    running = asyncio.create_task(one.run())
    await until(partial(set_aside, store))
    one.stop()
    await running
    await one._destination.close()
    assert archive.said() == {"one": 1, "two": 1}
    (letter,) = await set_aside(store)
    assert b"poison" in letter.shipped.item
    assert "OverflowError" in letter.reason


async def test_more_dead_letters_than_a_batch_takes(engine, store, service, archive):
    def refuse(rows):
        if "content" in rows[0]:
            raise ArchiveRowError("none of these")

    archive.before_insert = refuse
    sessions = of_one_group(24)
    for session in sessions:
        await engine.add_conversation_message(session, "user", "x" * (MEGABYTE - 1_000))
    await service.ship()
    assert len(await set_aside(store)) == len(sessions)
    assert (await backlog.waiting(store)).events == 0


async def test_what_is_gathered_is_bounded_by_bytes_whatever_the_average_says(engine, store):
    sessions = of_one_group(40)
    for session in sessions:
        for _ in range(3):
            await engine.add_conversation_message(session, "user", "x" * 200_000)
    outboxes = Outboxes(store, 0)
    buckets = sorted({bucket_of(session) for session in sessions})
    found = await outboxes.gather(buckets, 2_000, 4 * MEGABYTE, average=1)
    assert 4 * MEGABYTE <= found.size < 5 * MEGABYTE
    assert not found.is_all
    assert sum(one.stop - one.start for one in found.ranges) == found.rows


# --- nothing is lost ----------------------------------------------------------------------------


def test_the_order_in_which_events_were_gathered_does_not_count():
    archive = HeldArchive()
    items = [Shipped(n % 2, n, event("s", f"{n} {'x' * MEGABYTE}", n)) for n in range(10)]
    archive.faults += [None, ArchiveUnavailableError("in the middle")]
    delivery = Delivery(archive, "test")
    with pytest.raises(ArchiveUnavailableError):
        delivery.deliver("token", items)
    delivery.deliver("token", sorted(items))
    assert sorted(row["seq"] for _, row in archive.rows) == list(range(10))


def test_what_was_erased_between_two_tries_moves_nobody_out():
    archive = HeldArchive()
    items = [Shipped(1, n, event("s", f"{n} {'x' * MEGABYTE}", n)) for n in range(1, 11)]
    archive.faults += [None, None, ArchiveUnavailableError("in the middle")]
    delivery = Delivery(archive, "test")
    with pytest.raises(ArchiveUnavailableError):
        delivery.deliver("token", items)
    erased = [one._replace(item=b"") if one.number < 4 else one for one in items]
    delivery.deliver("token", erased)
    ids = {row["event_id"] for _, row in archive.rows if row["seq"] >= 4}
    assert len(ids) == 7


async def test_a_store_that_comes_back_in_an_earlier_state_loses_nothing_new(
    engine, store, service, archive
):
    """Its last second was not in its file: other events have the sequences of a delivery."""
    bucket = bucket_of("s")
    await engine.add_conversation_message("s", "user", "kept")
    (before,) = await store.apply(Batch(bucket, "", (Read(OUTBOX),)))
    await engine.add_conversation_message("s", "user", "forgotten")

    async def set_back():
        await store.apply(Batch(bucket, "", (Truncate(OUTBOX, before.next),)))
        forgotten = Put("_manifest", {"open": b"", "token": b""})
        await store.apply(Batch(home_of(group_of(bucket)), "", (forgotten,)))
        await store.apply(Batch(bucket, "", (Append(OUTBOX, (event("s", "new"),)),)))

    def once(_):
        archive.before_insert = lambda _: None
        asyncio.run(set_back())

    archive.before_insert = once
    await service.ship()
    await leave_hints(store, [bucket])
    await service.ship()
    assert archive.said().keys() == {"kept", "forgotten", "new"}


async def test_a_lease_that_changed_hands_before_its_reply_came_is_not_held(store):
    class Late:
        """Answers the first write when somebody else has the lease already."""

        async def apply(self, batch, *, timeout=None):
            results = await store.apply(batch, timeout=timeout)
            if any(isinstance(op, Put) for op in batch.ops):
                await store.apply(Batch(home_of(0), "", (Put("_ship", {"until": b"0"}),)))
                assert await Lease.take(store, 0, "second") is not None
                return None
            return results

    assert await Lease.take(Late(), 0, "first") is None


# --- counts and bounds --------------------------------------------------------------------------


async def test_counts_of_what_was_never_written_do_not_add_up_for_ever(
    engine, store, service, archive, monkeypatch
):
    """Where something is written all the time nobody ever finds all outboxes empty."""
    monkeypatch.setattr(shipper, "_SETTLED_EVERY", 0.0)
    (session,) = of_one_group(1)
    destination = ArchiveDestination(archive, "test")
    one = Shipper(store, destination, linger=0.0)
    lease = await Lease.take(store, 0, "holder")
    for number in range(20):
        await engine.add_conversation_message(session, "user", str(number))
        for bucket, noted in service._events.take_noted().items():
            await leave_hints(store, [bucket])
            await backlog.add(store, 0, noted)
            await backlog.add(store, 0, noted._replace(events=7, size=7_000))  # was refused
        await one._round(lease, one._groups[0])
    await destination.close()
    waiting = await backlog.waiting(store)
    assert waiting.events <= 7
    assert archive.said().total() == 20


async def test_the_oldest_are_given_up_also_while_the_archive_only_is_slow(
    store, archive, monkeypatch
):
    bounds, destination = Bounds(200_000, drop=True), ArchiveDestination(archive, "test")

    async def excess():
        return bounds.filling(await backlog.waiting(store)) >= 1.0

    service = Idle(store, archive)
    monkeypatch.setattr(registry, "open_archive", lambda *_: service)
    async with ContextEngine(store=store, archive="held://") as engine:
        (session,) = of_one_group(1)
        await engine.add_conversation_message(session, "user", "first")
        one = Shipper(store, destination, linger=0.0, excess=excess)

        async def count():
            for bucket, noted in service._events.take_noted().items():
                await leave_hints(store, [bucket])
                await backlog.add(store, group_of(bucket), noted)

        async def write_more():
            for number in range(60):
                await engine.add_conversation_message(session, "user", f"{number} {'x' * 10_000}")
            await count()

        def while_it_is_sent(_):
            archive.before_insert = lambda _: None
            asyncio.run(write_more())

        archive.before_insert = while_it_is_sent
        await count()
        running = asyncio.create_task(one._hold(one._groups[0]))

        async def all_gone():
            dropped = (await backlog.waiting(store)).dropped
            return dropped and archive.said().total() + dropped >= 61

        await until(all_gone)
        one.stop()
        await running
        await destination.close()
    assert archive.said()["59 " + "x" * 10_000] == 1
