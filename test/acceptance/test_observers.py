"""Whoever observes an engine is told what it was opened on, what it does, and how it is."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from contextlib import contextmanager

import pytest

from aiecs import ContextEngine, CorruptRecordError, InvalidInputError, StoreUnavailableError
from aiecs.core.interface.store import CorruptField
from aiecs.domain.context import diagnosis

INSIDE = contextvars.ContextVar("INSIDE", default=())


class Watcher:
    """An observer of everything."""

    def __init__(self):
        self.told, self.states, self.spans = [], [], []
        self.state_came = asyncio.Event()

    def opened(self, storage_backend, storage_mode):
        self.told.append(("opened", storage_backend, storage_mode))

    def operation(self, name, seconds, outcome):
        assert seconds >= 0
        self.told.append((name, outcome, INSIDE.get()))

    def state(self, metrics):
        self.states.append(metrics)
        self.state_came.set()

    @contextmanager
    def span(self, name, subject):
        token = INSIDE.set((*INSIDE.get(), name))
        try:
            yield
        except Exception as error:
            self.spans.append((name, subject, type(error).__name__))
            raise
        else:
            self.spans.append((name, subject, "ok"))
        finally:
            INSIDE.reset(token)


class Broken:
    """An observer that fails whenever it can."""

    def opened(self, *_):
        raise RuntimeError("opened")

    def operation(self, *_):
        raise RuntimeError("operation")

    def state(self, _):
        raise RuntimeError("state")

    @contextmanager
    def span(self, *_):
        try:
            yield
        finally:
            raise RuntimeError("span")


async def test_what_it_is_opened_on_comes_first(make_engine):
    watcher = Watcher()
    engine = await make_engine(observers=[watcher])
    await engine.create_session("s", "u")

    name = engine._on.runtime.store.capabilities.name
    assert watcher.told == [
        ("opened", name, "configured"),
        ("create_session", "ok", ("create_session",)),
    ]


async def test_the_fallback_is_told(monkeypatch):
    monkeypatch.setenv("REDIS_PORT", "1")
    watcher = Watcher()
    async with ContextEngine(observers=[watcher]) as engine:
        health, metrics = await engine.health_check(), await engine.get_metrics()

    assert watcher.told[0] == ("opened", "memory", "fallback")
    assert health["storage_mode"] == metrics["storage_mode"] == "fallback"
    assert health["status"] == "degraded"


async def test_spans_surround_operations_and_name_their_subject(make_engine):
    watcher = Watcher()
    engine = await make_engine(observers=[watcher])
    await engine.create_session("s", "u")
    await engine.get_session(session_id="s")
    await engine.store_checkpoint("t", "c", {}, session_id="s")
    await engine.delete_user("u")
    await engine.get_metrics()
    with pytest.raises(InvalidInputError):
        await engine.end_session("s", "nonsense")
    with pytest.raises(InvalidInputError):
        await engine.get_session(7)

    assert watcher.spans == [
        ("create_session", {"session_id": "s"}, "ok"),
        ("get_session", {"session_id": "s"}, "ok"),
        ("store_checkpoint", {"session_id": "s"}, "ok"),
        ("delete_user", {"user_id": "u"}, "ok"),
        ("get_metrics", {}, "ok"),
        ("end_session", {"session_id": "s"}, "InvalidInputError"),
        ("get_session", {}, "InvalidInputError"),
    ]
    assert INSIDE.get() == ()


async def test_observers_that_fail_are_logged_and_disturb_nobody(make_engine, caplog):
    watcher = Watcher()
    engine = await make_engine(observers=[Broken(), watcher])
    with caplog.at_level(logging.ERROR, logger="aiecs"):
        await engine.create_session("s", "u")
        with pytest.raises(InvalidInputError):
            await engine.end_session("s", "nonsense")
        await engine._on.diagnosis.tell()

    assert (await engine.get_session("s")).user_id == "u"
    assert [one[:2] for one in watcher.told[1:3]] == [
        ("create_session", "ok"),
        ("end_session", "InvalidInputError"),
    ]
    faults = {str(record.exc_info[1]) for record in caplog.records}
    assert faults >= {"operation", "span", "state"}


async def test_the_state_is_told_at_once_and_again(make_engine, monkeypatch):
    monkeypatch.setattr(diagnosis, "TELL_EVERY", 0.05)
    watcher = Watcher()
    engine = await make_engine(observers=[watcher])
    for _ in range(3):
        await asyncio.wait_for(watcher.state_came.wait(), 20)
        watcher.state_came.clear()

    assert watcher.states[-1].keys() == (await engine.get_metrics()).keys()
    assert watcher.states[0]["total_sessions"] == 0


async def test_while_the_store_is_down_totals_are_unknown_not_zero(timed):
    engine, store = timed
    watcher = Watcher()
    engine.monitor.observe(watcher)
    assert watcher.told == [("opened", "memory", "configured")]
    store.fail(1)

    await engine._on.diagnosis.tell()

    store.mend()
    assert watcher.states[0].keys() == (await engine.get_metrics()).keys()
    assert watcher.states[0]["total_sessions"] is None
    assert watcher.states[0]["storage_backend"] == "memory"


async def test_the_last_fault_is_that_of_a_store_not_of_a_caller(timed):
    engine, store = timed
    assert (await engine.health_check())["last_error"] is None
    store.fail(1)
    with pytest.raises(StoreUnavailableError):
        await engine.create_session("s")
    store.mend()
    with pytest.raises(InvalidInputError):
        await engine.get_session("")

    fault = (await engine.health_check())["last_error"]

    assert (fault["error"], fault["operation"]) == ("StoreUnavailableError", "create_session")
    assert fault["at"]


async def test_observers_are_told_of_the_error_that_the_caller_gets(timed):
    engine, store = timed
    watcher = Watcher()
    engine.monitor.observe(watcher)
    store.fail(1, error=CorruptField(0))
    with pytest.raises(CorruptRecordError):
        await engine.get_session("s")
    store.mend()

    assert watcher.told[-1][:2] == ("get_session", "CorruptRecordError")
    assert engine.monitor.errors("get_session") == {"CorruptRecordError": 1}
    assert (await engine.health_check())["last_error"]["error"] == "CorruptRecordError"
