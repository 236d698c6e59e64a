"""The hot store fails while its events are shipped, and several engines ship from one store."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

import pytest
from support import servers as real
from support.archive_storm import Storm, check
from support.waiting import until

from aiecs import ContextEngine
from aiecs.core.errors import StoreError
from aiecs.infrastructure.persistence.archive import gate

ENGINES = 3


@pytest.fixture(autouse=True)
def impatient(monkeypatch, prefix):
    monkeypatch.setattr(gate, "LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(gate, "_FIRST_PACE", 0.02)
    monkeypatch.setenv("AIECS_KEY_PREFIX", prefix.strip(":"))


async def answers(engine):
    with contextlib.suppress(StoreError):
        await engine.get_session("session 0")
        return True
    return False


async def test_the_store_is_killed_while_its_events_are_shipped(
    own_server, archive_database, measured
):
    url = archive_database.url()
    async with ContextEngine(store=own_server.url, archive=url, operation_timeout=1) as engine:
        storm = await Storm(engine).blow("before ")
        for number in range(2):
            blowing = asyncio.create_task(storm.blow(f"{number} "))
            await asyncio.to_thread(own_server.kill)
            await blowing
            own_server.mend_torn_tail()
            await asyncio.to_thread(own_server.start)
            await until(partial(answers, engine))
        await storm.blow("after ")
        await check(engine, storm.said, storm.unknown)
        measured(f"{storm.figures()}; {len(storm.unknown)} unknown")


@pytest.mark.parametrize("store", ["sqlite", *real.names()])
async def test_several_engines_on_one_store_ship_each_event_once(
    store, servers, archive_database, tmp_path
):
    url = f"sqlite:///{tmp_path}/s.db" if store == "sqlite" else servers.shared(store).url
    archive = archive_database.url()
    options = {"operation_timeout": 20}
    engines = [ContextEngine(store=url, archive=archive, **options) for _ in range(ENGINES)]
    for engine in engines:
        await engine.initialize()
    storms = [Storm(engine) for engine in engines]
    await asyncio.gather(*(storm.blow(f"{n} ") for n, storm in enumerate(storms)))
    await engines[0].close()  # whoever held a lease: another one goes on
    await storms[1].blow("later ")
    await check(engines[1], [text for storm in storms for text in storm.said])
    for engine in engines[1:]:
        await engine.close()
