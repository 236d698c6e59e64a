"""The doctor's verdicts on the installation."""

from __future__ import annotations

import pytest

from aiecs.cli import examine, findings
from aiecs.core.interface.finding import size


def test_latency_looks_at_the_median():
    assert findings.latency([0.001, 0.001, 0.5]).level == "ok"
    assert findings.latency([0.03, 0.04, 0.05]).level == "warn"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 1024**4, "3.0 TiB")]
)
def test_size(count: int, text: str):
    assert size(count) == text


def test_settings_are_shown_without_secrets():
    found = examine.settings(
        {
            "REDIS_URL": "rediss://ada:hunter2@cache:6380/1",
            "REDIS_PASSWORD": "hunter2",
            "CLICKHOUSE_HOST": "archive",
            "AIECS_API_TOKEN": "hunter2",
            "PATH": "/bin",
            "REDIS_HOST": "",
        }
    )

    assert "hunter2" not in found.detail
    assert "CLICKHOUSE_HOST=archive" in found.detail
    assert "REDIS_PASSWORD=***" in found.detail
    assert "cache:6380/1" in found.detail
    assert "PATH" not in found.detail
    assert "REDIS_HOST" not in found.detail


def test_no_settings_are_said_to_be_none():
    assert examine.settings({}).detail == "none in the environment"


def test_the_other_aiecs_is_noticed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(examine.metadata, "version", lambda name: "2.2.0")

    found = examine.name_clash()

    assert found.level == "fail"
    assert found.advice.startswith("pip uninstall aiecs && pip install --force-reinstall")
