"""What Prometheus scrapes: real engines on every store, and every series that anybody asks for."""

from __future__ import annotations

import asyncio
import json
import math
import re
import threading
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support import servers as real

from aiecs import ContextEngine, InvalidInputError
from aiecs.integrations.prometheus import PrometheusObserver

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "context-engine.json"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
RUNBOOK = Path(__file__).parents[2] / "docs" / "how-to" / "observe.md"
CANARY = "canary-3f"


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture(params=["memory", "sqlite", *real.names()])
def url(request, servers, prefix, tmp_path, monkeypatch):
    if request.param == "memory":
        return "memory://"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/a.db"
    monkeypatch.setenv("AIECS_KEY_PREFIX", prefix.strip(":"))
    return servers.shared(request.param).url


def scraped(registry):
    """Every sample: name and labels to value."""
    text = generate_latest(registry).decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def used(url, registry, archive=None):
    """The store's name, and what is scraped while an engine on it is open."""
    observers = [PrometheusObserver(registry)]
    async with ContextEngine(
        store=url, archive=archive, observers=observers, operation_timeout=10
    ) as engine:
        await engine.create_session(CANARY, CANARY, {CANARY: CANARY})
        for _ in range(3):
            await engine.add_conversation_message(CANARY, "user", CANARY)
        with pytest.raises(InvalidInputError):
            await engine.end_session(CANARY, CANARY)
        await engine._on.diagnosis.tell()
        return engine._on.runtime.store.capabilities.name, scraped(registry)


async def test_operations_and_state_are_scraped(url, registry):
    name, found = await used(url, registry)

    store = ("store", name)
    added = ("operation", "add_conversation_message")
    assert found["aiecs_operations_total", added, ("outcome", "ok"), store] == 3
    ended = ("operation", "end_session")
    refused = ("outcome", "InvalidInputError")
    assert found["aiecs_operations_total", ended, refused, store] == 1
    assert found["aiecs_operation_seconds_count", added, store] == 3
    assert 0 < found["aiecs_operation_seconds_sum", added, store] < 60
    assert found["aiecs_store_up", store] == 1
    assert found["aiecs_storage_fallback", store] == 0
    assert found["aiecs_breaker_open", store] == 0
    assert found["aiecs_sessions_active", store] == 1
    assert found["aiecs_messages_ever", store] == 3
    assert 0 < found["aiecs_memory_usage_ratio", store] < 1
    assert (("aiecs_transport_connections", store) in found) == (name == "redis")
    assert CANARY not in generate_latest(registry).decode()


async def test_while_the_store_is_down_numbers_are_unknown(registry):
    class Down(ContextEngine):
        pass

    observer = PrometheusObserver(registry)
    async with Down(store="memory://", observers=[observer]) as engine:
        await engine.create_session("s", "u")
        await engine._on.diagnosis.tell()

        async def gone():
            from aiecs import StoreUnavailableError

            raise StoreUnavailableError("gone")

        engine._on.runtime.counters.totals = gone
        await engine._on.diagnosis.tell()
        del engine._on.runtime.counters.totals
        found = scraped(registry)

    assert found["aiecs_store_up", ("store", "memory")] == 0
    assert math.isnan(found["aiecs_sessions_active", ("store", "memory")])


async def test_several_engines_share_a_registry(registry, tmp_path):
    names = [
        (await used(url, registry))[0]
        for url in ("memory://", f"sqlite:///{tmp_path}/a.db", "memory://")
    ]

    found = scraped(registry)
    counts = {
        name: found[
            "aiecs_operations_total",
            ("operation", "create_session"),
            ("outcome", "ok"),
            ("store", name),
        ]
        for name in names
    }
    assert counts == {"memory": 2, "sqlite": 1}


async def test_a_scrape_from_another_thread_meets_no_half_of_anything(registry):
    observer, stop = PrometheusObserver(registry), threading.Event()
    failed = []

    def scrape():
        while not stop.is_set():
            try:
                scraped(registry)
            except Exception as error:  # noqa: BLE001 - shown by the test
                failed.append(error)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        async with ContextEngine(store="memory://", observers=[observer]) as engine:
            for number in range(300):
                await engine.create_session(f"s{number}", "u")
                await asyncio.sleep(0)
            await engine._on.diagnosis.tell()
    finally:
        stop.set()
        thread.join()
    assert failed == []


def expressions():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel["targets"]]
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    return found, [rule["expr"] for rule in rules]


async def test_every_series_of_dashboard_and_alerts_exists(servers, registry, archive_database):
    server = servers.shared(real.names()[0])
    _, found = await used(server.url, registry, archive_database.url())
    names = {name for name, *_ in found}

    shown, alerts = expressions()

    assert len(shown) > 20
    assert len(alerts) > 8
    for expression in [*shown, *alerts]:
        series = set(re.findall(r"\baiecs_\w+", expression))
        assert series, expression
        assert series <= names, (expression, series - names)
        assert expression.count("(") == expression.count(")")


def test_what_one_process_does_not_know_hides_no_other():
    shown, alerts = expressions()
    added = [one for one in [*shown, *alerts] if re.match(r"(sum|avg) by \(\w+\) \(aiecs_", one)]

    assert len(added) > 5
    for expression in added:  # one NaN makes a sum NaN; a comparison leaves it out
        assert re.search(r">= 0\)( > 0)?$", expression), expression


def test_every_alert_has_its_page():
    headings = {
        line[4:].strip().lower()
        for line in RUNBOOK.read_text().splitlines()
        if line.startswith("### ")
    }
    for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]:
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["runbook"].partition("#")[2] in headings, rule["alert"]
        assert rule["alert"].lower() in headings


def test_what_becomes_unknown_is_not_shown_as_it_was(registry):
    observer, store = PrometheusObserver(registry), ("store", "redis")
    observer.opened("redis", "configured")
    mode = {"storage_mode": "configured", "breaker": "closed"}
    known = {**mode, "total_sessions": 1, "transport": {"connections": 1}}
    archive = {"waiting": 7, "breaker": "open"}
    observer.state({**known, "archive": archive})
    assert scraped(registry)["aiecs_archive_waiting_events", store] == 7

    observer.state({**known, "total_sessions": None, "archive": {}})

    found = scraped(registry)
    assert math.isnan(found["aiecs_archive_waiting_events", store])
    assert math.isnan(found["aiecs_archive_breaker_open", store])
    assert found["aiecs_transport_connections", store] == 1


async def test_a_closed_engine_is_not_shown_as_it_was(registry):
    engine = ContextEngine(store="memory://", observers=[PrometheusObserver(registry)])
    for _ in range(2):
        async with engine:
            await engine.create_session("s", "u")
            await engine._on.diagnosis.tell()
            assert scraped(registry)["aiecs_store_up", ("store", "memory")] == 1
        found = scraped(registry)
        assert math.isnan(found["aiecs_store_up", ("store", "memory")])
        assert math.isnan(found["aiecs_sessions_active", ("store", "memory")])


def test_of_two_engines_on_one_kind_of_store_the_one_that_is_down_shows(registry):
    up = {"total_sessions": 1, "breaker": "closed", "storage_mode": "configured", "archive": {}}
    down = {**up, "total_sessions": None, "breaker": "open"}
    first, second = PrometheusObserver(registry), PrometheusObserver(registry)
    for one in (first, second):
        one.opened("redis", "configured")
    first.state(down)
    second.state(up)

    found, store = scraped(registry), ("store", "redis")
    assert (found["aiecs_store_up", store], found["aiecs_breaker_open", store]) == (0, 1)
    first.closed()
    found = scraped(registry)
    assert (found["aiecs_store_up", store], found["aiecs_breaker_open", store]) == (1, 0)
