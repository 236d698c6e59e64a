"""The specification's monitor and logger, as real parts."""

from __future__ import annotations

import logging
import math

import pytest

from aiecs import InvalidInputError
from aiecs.domain.context.monitoring import ContentEngineLogger, ContentEngineMonitor, type_of

LOGGER = "aiecs.domain.context.monitoring"
FIELDS = {"total_operations", "success_rate", "avg_latency", "min_latency", "max_latency"}


async def test_the_monitor_is_told_of_every_operation(engine):
    monitor = ContentEngineMonitor(engine)
    assert monitor.get_performance_report() == {}
    for number in range(3):
        await engine.create_session(f"s{number}", "u")
    await engine.add_conversation_message("s0", "user", "x")
    await engine.store_checkpoint("t", "c", {})
    await engine.get_metrics()
    with pytest.raises(InvalidInputError):
        await engine.end_session("s0", "nonsense")

    report = monitor.get_performance_report()

    kinds = ("session", "conversation", "checkpoint", "maintenance")
    assert set(report) == {f"{kind}_operations" for kind in kinds}
    sessions = report["session_operations"]
    assert set(sessions) == FIELDS
    assert (sessions["total_operations"], sessions["success_rate"]) == (4, 0.75)
    assert 0 < sessions["min_latency"] <= sessions["avg_latency"] <= sessions["max_latency"]


async def test_the_monitor_remembers_the_last_thousand(engine):
    monitor = ContentEngineMonitor(engine, automatic=False)
    for number in range(1_500):
        await monitor.record_operation("session", "get_session", number, success=number >= 1_000)
    await engine.create_session("s", "u")

    report = monitor.get_performance_report()["session_operations"]

    assert report == {
        "total_operations": 1_000,
        "success_rate": 0.5,
        "avg_latency": 999.5,
        "min_latency": 500,
        "max_latency": 1_499,
    }
    assert len(monitor.operation_metrics["session_operations"]) == 1_000
    assert monitor.operation_metrics["session_operations"][-1]["operation"] == "get_session"


@pytest.mark.parametrize(
    ("kind", "latency"), [("nonsense", 1.0), ("session", -1), ("session", math.nan), (None, 1)]
)
async def test_measurements_that_make_no_sense_are_refused(engine, kind, latency):
    monitor = ContentEngineMonitor(engine, automatic=False)
    with pytest.raises(InvalidInputError):
        await monitor.record_operation(kind, "x", latency, success=True)
    assert monitor.get_performance_report() == {}


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("create_session", "session"),
        ("store_task_context", "session"),
        ("delete_user", "session"),
        ("add_conversation_message", "conversation"),
        ("create_conversation_session", "conversation"),
        ("get_agent_conversation_history", "conversation"),
        ("store_checkpoint", "checkpoint"),
        ("put_writes", "checkpoint"),
        ("delete_thread", "checkpoint"),
        ("aput", "checkpoint"),
        ("aget_tuple", "checkpoint"),
        ("cleanup_expired_sessions", "maintenance"),
        ("archive_barrier", "maintenance"),
        ("get_metrics", "maintenance"),
    ],
)
def test_every_operation_has_a_type(operation, kind):
    assert type_of(operation) == kind


async def test_the_logger_writes_a_line_for_every_operation(engine, caplog):
    ContentEngineLogger(engine)
    with caplog.at_level(logging.INFO, logger=LOGGER):
        await engine.create_session("s", "u", {"secret": "canary"})
        await engine.add_conversation_message("s", "user", "canary")
        with pytest.raises(InvalidInputError):
            await engine.end_session("s", "canary\nINFO forged")

    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in lines] == ["INFO", "INFO", "ERROR"]
    assert lines[0][1].startswith("Session operation completed: ")
    assert lines[1][1].startswith("Conversation operation completed: ")
    assert lines[2][1].startswith("Session operation failed: ")
    assert caplog.records[2].operation == "end_session"
    assert caplog.records[2].error == "InvalidInputError"
    assert "canary" not in caplog.text
    assert all("\n" not in line for _, line in lines)


async def test_the_logger_s_own_calls_are_those_of_the_specification(engine, caplog):
    log = ContentEngineLogger(engine, automatic=False)
    with caplog.at_level(logging.INFO, logger=LOGGER):
        await engine.create_session("s", "u")
        await log.log_session_operation("create", "s", True, 0.01)
        await log.log_session_operation("create", "s", False, 0.01, error="broken\nforged")
        await log.log_conversation_operation("add", "s", 3, True)
        await log.log_conversation_operation("add", "s", 3, False)

    assert [record.levelname for record in caplog.records] == ["INFO", "ERROR", "INFO", "ERROR"]
    first, second, third, _ = caplog.records
    assert (first.session_id, first.latency, first.success) == ("s", 0.01, True)
    assert second.error == "broken\nforged"
    assert "\n" not in second.getMessage()
    assert third.message_count == 3
    assert first.timestamp.endswith("+00:00")
