"""What a store tells of its connections while they are busy, broken and gone."""

from __future__ import annotations

import asyncio

from support.proxy import Proxy
from support.redis_store import adding, creating, opened, recovered

from aiecs.domain.context import ContextEngine


async def test_gauges_follow_an_outage(server, prefix):
    async with Proxy(server.port) as proxy, opened(proxy.url, prefix, 0.4) as store:
        assert store.gauges().connections == 0
        await store.apply(creating())
        assert store.gauges()._replace(connections=0) == (0, 0, 0, 0, 0, 0, ())
        proxy.blackhole()
        calls = [asyncio.create_task(store.apply(adding(b"x" * 100))) for _ in range(10)]
        await asyncio.sleep(0)
        busy = store.gauges()
        assert busy.in_flight == 10
        assert busy.in_flight_bytes >= 1_000
        await asyncio.gather(*calls, return_exceptions=True)
        failed = store.gauges()
        assert failed.unknown_outcomes == 10
        assert failed.down == (f"127.0.0.1:{proxy.port}",)
        proxy.heal()
        await recovered(store)
        healed = store.gauges()
        assert healed.down == ()
        assert healed.in_flight == 0


async def test_an_engine_shows_them_in_its_metrics(server):
    async with ContextEngine(store=server.url) as engine:
        await engine.create_session("s1")
        transport = (await engine.get_metrics())["transport"]
        assert transport["connections"] == 1
        assert transport["down"] == ()
    async with ContextEngine(store="memory://") as engine:
        assert (await engine.get_metrics())["transport"] == {}
