"""The archive fails in every way on the list: what was acknowledged arrives, once.

Beside each fault tasks write numbered messages; then all rows and ids in the archive are counted.
How long the writes took meanwhile is printed, not asserted.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from support.archive_storm import COUNTS, PATIENT, Storm, check
from support.clocks import HandClock
from support.waiting import expired, until

from aiecs import ContextEngine
from aiecs.core.errors import ArchiveRowError
from aiecs.core.keys import bucket_of
from aiecs.infrastructure.persistence.archive import ClickHouseArchive, gate, letters
from aiecs.infrastructure.persistence.archive.delivery import Delivery
from aiecs.infrastructure.persistence.archive.leases import group_of
from aiecs.infrastructure.persistence.archive.outboxes import Outboxes
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

POISON = "ALTER TABLE context_conversations ADD CONSTRAINT pure CHECK content != 'poison'"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(gate, "LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(gate, "_FIRST_PACE", 0.02)
    monkeypatch.setenv("AIECS_ARCHIVE_READ_TIMEOUT", "20")


@pytest.fixture
def database(archive_database):
    """A connection beside the archive's, to break it."""
    connection = archive_database.connect()
    yield connection
    connection.close()


async def letters_of(engine):
    return [letter async for letter in letters.all_of(engine._on.runtime.store)]


# --- inserts that fail --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "lose_reply", "times": 5},
        {"kind": "lose_request", "times": 5},
        {"kind": "unavailable", "times": 5},
        {"kind": "error", "times": 12, "code": 252},
        {"kind": "slow", "times": 2, "seconds": 2},
    ],
    ids=lambda fault: fault["kind"],
)
async def test_inserts_that_fail(clickhouse_bridge, archive_database, measured, fault):
    kind, times = fault["kind"], fault["times"]
    url = archive_database.url(timeout=1) if kind == "slow" else archive_database.url()
    async with ContextEngine(store=MemoryStore(), archive=url) as engine:
        storm = await Storm(engine).blow("before ", 5)
        await engine.archive_barrier(timeout=PATIENT)
        clickhouse_bridge.fault(**fault)
        states = set()
        watching = asyncio.create_task(watch(engine, states))
        await storm.blow()
        await check(engine, storm.said)
        watching.cancel()
        state = (await engine.health_check())["archive"]
        assert state["failures"] >= times
        assert state["dead"] == 0
        if times > 5:
            assert states >= {"open", "recovering"}
        measured(storm.figures())


async def watch(engine, states):
    while True:
        states.add((await engine.get_metrics())["archive"]["breaker"])
        await asyncio.sleep(0)


async def test_one_poisoned_row_among_five_thousand(archive_database, database, measured):
    async with ContextEngine(store=MemoryStore(), archive=archive_database.url()) as engine:
        await engine.add_conversation_message("s", "user", "first")
        await engine.archive_barrier(timeout=PATIENT)
        database.execute(POISON)
        texts = [str(number) for number in range(4_998)]
        wanted = [*texts[:3_000], "poison", *texts[3_000:]]
        for at in range(0, len(wanted), 1_000):
            messages = [{"role": "user", "content": text} for text in wanted[at : at + 1_000]]
            await engine.add_conversation_messages("s", messages)
        with pytest.raises(ArchiveRowError, match="1 events"):
            await engine.archive_barrier("s", timeout=PATIENT)
        assert await engine.archive.query(COUNTS) == [(4_999, 4_999)]
        (letter,) = await letters_of(engine)
        assert b'"poison"' in letter.shipped.item
        measured(f"{(await engine.get_metrics())['archive']['failures']} failures told")


async def test_poison_and_lost_replies_on_the_way_to_it(
    clickhouse_bridge, archive_database, database
):
    async with ContextEngine(store=MemoryStore(), archive=archive_database.url()) as engine:
        await engine.add_conversation_message("s", "user", "first")
        await engine.archive_barrier(timeout=PATIENT)
        database.execute(POISON)
        clickhouse_bridge.fault("lose_reply", times=4, match="INSERT INTO context_conv")
        said = [{"role": "user", "content": str(number)} for number in range(200)]
        await engine.add_conversation_messages("s", [*said, {"role": "user", "content": "poison"}])
        with pytest.raises(ArchiveRowError, match="1 events"):
            await engine.archive_barrier("s", timeout=PATIENT)
        assert len(await letters_of(engine)) == 1
        ((_, unique),) = await engine.archive.query(COUNTS)
        assert unique == 201


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE context_conversations",
        "ALTER TABLE context_conversations DROP COLUMN metadata",
    ],
)
async def test_a_schema_that_is_damaged_in_use(archive_database, database, measured, damage):
    async with ContextEngine(store=MemoryStore(), archive=archive_database.url()) as engine:
        await engine.create_session("s")
        await engine.archive_barrier(timeout=PATIENT)
        database.execute(damage)
        storm = await Storm(engine).blow()
        await check(engine, storm.said)
        measured(storm.figures())


async def test_a_wrong_password_loses_nothing(clickhouses, tmp_path, measured):
    bridge, store = clickhouses.start("right"), f"sqlite:///{tmp_path}/store.db"
    wrong = bridge.url.replace("right", "wrong")
    async with ContextEngine(store=store, archive=wrong, operation_timeout=10) as engine:
        storm = await Storm(engine).blow(each=10)

        async def told():
            return "Auth" in (await engine.get_metrics())["archive"]["alarm"]

        await until(told)
        measured(storm.figures())
    async with ContextEngine(store=store, archive=bridge.url, operation_timeout=10) as engine:
        await check(engine, storm.said)
    bridge.close()


async def test_the_server_is_killed_twice_under_load(own_clickhouse, measured):
    async with ContextEngine(store=MemoryStore(), archive=own_clickhouse.url) as engine:
        storm = Storm(engine)
        for number in range(2):
            blowing = asyncio.create_task(storm.blow(f"{number} "))
            await asyncio.to_thread(own_clickhouse.wait_for, inserts=1)
            await asyncio.to_thread(own_clickhouse.kill)
            await blowing
            await storm.blow(f"{number} while it is down ", 10)
            await asyncio.to_thread(own_clickhouse.start)
        await check(engine, storm.said)
        measured(storm.figures())


# --- time and repetition ------------------------------------------------------------------------


async def test_a_delivery_repeated_after_the_archive_has_forgotten_its_token(
    archive_database, database
):
    store = MemoryStore()
    async with ContextEngine(store=store, archive=archive_database.url()) as engine:
        await engine.create_session("other")
        await engine.archive_barrier(timeout=PATIENT)
        messages = [{"role": "user", "content": str(number)} for number in range(20)]
        await engine.add_conversation_messages("s", messages)
        outboxes = Outboxes(store, group_of(bucket_of("s")))
        items = (await outboxes.gather([bucket_of("s")], 100, 10**6, 100)).items
        archive = ClickHouseArchive.from_url(archive_database.url())
        await asyncio.to_thread(archive.open)
        window = "MODIFY SETTING non_replicated_deduplication_window = 1"
        database.execute(f"ALTER TABLE context_conversations {window}")
        database.execute("SYSTEM STOP MERGES context_conversations")
        delivery = Delivery(archive, "again")
        for token in ("one", "two", "three", "four", "one"):
            await asyncio.to_thread(delivery.deliver, token, items)
        await asyncio.to_thread(archive.close)
        ((rows, unique),) = await engine.archive.query(COUNTS)
        assert rows > unique >= len(messages)
        limit = "SELECT count() FROM (SELECT 1 FROM context_conversations LIMIT 1 BY event_id)"
        assert await engine.archive.query(limit) == [(unique,)]


async def test_a_clock_that_jumps_between_two_tries(clickhouse_bridge, archive_database):
    clock = HandClock(1_794_000_000_000_000)
    url = archive_database.url()
    options = {"session_ttl": None, "checkpoint_ttl": None}
    async with ContextEngine(store=MemoryStore(clock=clock), archive=url, **options) as engine:
        clickhouse_bridge.fault("lose_reply", times=6)
        old = [{"role": "user", "content": "old", "timestamp": "2019-05-06T07:08:09+00:00"}]
        await engine.add_conversation_messages("s", old)
        storm = await Storm(engine).blow(each=5)
        clock.advance(40 * 86_400 * 1_000_000)  # the leases have run out, too
        await storm.blow("later ", 5)
        clock.advance(-80 * 86_400 * 1_000_000)
        await storm.blow("earlier ", 5)
        await check(engine, [*storm.said, "old"])
        month = "SELECT toYYYYMM(created_at) FROM context_conversations WHERE content = 'old'"
        assert await engine.archive.query(month) == [(201905,)]


async def test_closing_with_ten_thousand_events_and_no_server(
    own_clickhouse, tmp_path, monkeypatch, measured
):
    monkeypatch.setattr("aiecs.domain.context.lifecycle._DRAIN_SECONDS", 1.0)
    store, options = f"sqlite:///{tmp_path}/store.db", {"operation_timeout": 20}
    async with ContextEngine(store=store, archive=own_clickhouse.url, **options) as engine:
        await engine.create_session("s 0")
        await engine.archive_barrier(timeout=PATIENT)
        own_clickhouse.kill()
        texts = [str(number) for number in range(10_000)]
        for at in range(0, len(texts), 1_000):
            messages = [{"role": "user", "content": text} for text in texts[at : at + 1_000]]
            await engine.add_conversation_messages(f"s {at}", messages)
        begun = time.monotonic()
    measured(f"closed in {time.monotonic() - begun:.1f} s")
    await asyncio.to_thread(own_clickhouse.start)
    async with ContextEngine(store=store, archive=own_clickhouse.url, **options) as engine:
        await check(engine, texts)


async def test_any_content_comes_back(archive_database):
    contents = [
        "a;b'\\\"--\n\t` {x:String}",
        "nul \0 nul",
        "\N{ROBOT FACE}\N{ZERO WIDTH JOINER}e\u0301",
        "lone \ud800 surrogate",
        "x" * (1024 * 1024 - 1_000),
        "",
    ]
    options = {"session_ttl": 0.5, "operation_timeout": 20}
    async with ContextEngine(
        store=MemoryStore(), archive=archive_database.url(), **options
    ) as engine:
        messages = [{"role": "user", "content": text} for text in contents]
        await engine.add_conversation_messages("s", messages)
        hot = await engine.get_conversation_history("s")
        assert len(hot) == len(contents)
        await engine.archive_barrier("s", timeout=PATIENT)
        await expired(engine, "s")
        cold = await engine.get_conversation_history("s", include_archived=True)
        assert [one.to_dict() for one in cold] == [one.to_dict() for one in hot]


# --- callers that give up -----------------------------------------------------------------------


async def test_callers_that_give_up_while_the_archive_hangs_disturb_nobody(own_clickhouse):
    options = {"session_ttl": 0.3}
    url = own_clickhouse.url
    async with ContextEngine(store=MemoryStore(), archive=url, **options) as engine:
        await engine.add_conversation_message("s", "user", "archived")
        await engine.archive_barrier(timeout=PATIENT)
        await expired(engine, "s")
        own_clickhouse.fault("slow", seconds=60, match="", times=1_000)
        await engine.add_conversation_message("other", "user", "waits")
        await asyncio.to_thread(own_clickhouse.wait_for, faults=1)
        readers = [asyncio.create_task(engine.get_conversation_history("s")) for _ in range(20)]
        barriers = [
            asyncio.create_task(engine.archive_barrier("other", timeout=PATIENT)) for _ in range(20)
        ]
        await asyncio.to_thread(own_clickhouse.wait_for, faults=2)
        given_up = [*readers[::2], *barriers[::2]]
        for task in given_up:
            task.cancel()
        for task in given_up:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert all(task.cancelled() for task in given_up)
        own_clickhouse.mend()
        for found in await asyncio.gather(*readers[1::2]):
            assert [message.content for message in found] == ["archived"]
        await asyncio.gather(*barriers[1::2])
        assert await engine.archive.query(COUNTS) == [(2, 2)]
