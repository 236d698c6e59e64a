"""The doctor's verdicts, from what servers say of themselves."""

from __future__ import annotations

import pytest

from aiecs.cli import examine, findings


@pytest.mark.parametrize(
    ("info", "level"),
    [
        ({"redis_version": "6.2.0"}, "ok"),
        ({"redis_version": "8.0"}, "ok"),
        ({"redis_version": "8.4-rc1"}, "ok"),
        ({"redis_version": "6.0.16"}, "fail"),
        ({"redis_version": "7.2.4", "valkey_version": "9.0.1"}, "ok"),
        ({"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "7.0.0"}, "fail"),
        ({"redis_version": "unstable"}, "warn"),
        ({}, "warn"),
    ],
)
def test_server_version(info: findings.Info, level: str):
    assert findings.server_version(info).level == level


@pytest.mark.parametrize(
    ("policy", "limit", "level"),
    [
        ("noeviction", 0, "ok"),
        ("noeviction", 100, "ok"),
        ("allkeys-lru", 100, "fail"),
        ("volatile-ttl", 100, "fail"),
        ("allkeys-lru", 0, "warn"),
        (None, 0, "note"),
    ],
)
def test_eviction(policy: str | None, limit: int, level: str):
    info = {"maxmemory": limit} | ({"maxmemory_policy": policy} if policy else {})

    assert findings.eviction(info).level == level


@pytest.mark.parametrize(
    ("info", "config", "level", "words"),
    [
        ({"aof_enabled": 1}, {"appendfsync": "everysec"}, "ok", "the last second"),
        ({"aof_enabled": 1}, {"appendfsync": "always"}, "ok", "nothing"),
        ({"aof_enabled": 1}, {}, "ok", "append-only file"),
        ({"aof_enabled": 0}, {"save": "3600 1"}, "warn", "snapshots only"),
        ({"aof_enabled": 0}, {"save": ""}, "warn", "a restart loses everything"),
        ({"aof_enabled": 0}, {}, "warn", "snapshots only"),
        ({"aof_enabled": 1, "aof_last_write_status": "err"}, {}, "fail", "could not save"),
        ({"rdb_last_bgsave_status": "err"}, {"save": "1 1"}, "fail", "could not save"),
        ({"loading": 1}, {}, "warn", "loading"),
    ],
)
def test_persistence(info: findings.Info, config: dict[str, str], level: str, words: str):
    found = findings.persistence(info, config)

    assert found.level == level
    assert words in found.detail


@pytest.mark.parametrize(
    ("info", "config", "advice"),
    [
        ({"redis_version": "7.0.15"}, {}, "redis-check-aof --fix"),
        ({"redis_version": "8.2.1"}, {"aof-load-truncated": "yes"}, "BGREWRITEAOF"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.1"}, {}, "upgrade to 9.1.2"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, {}, None),
        ({"redis_version": "7.2.4", "valkey_version": "10.0.0"}, {}, None),
        ({"redis_version": "7.0.15"}, {"aof-load-truncated": "no"}, None),
    ],
)
def test_servers_that_replay_half_a_transaction(
    info: findings.Info, config: dict[str, str], advice: str | None
):
    found = findings.torn_tail(info | {"aof_enabled": 1}, config)

    assert [one.level for one in found] == ["note"] * (advice is not None)
    assert all(advice in one.advice for one in found if advice)
    assert not findings.torn_tail(info | {"aof_enabled": 0}, config)


def test_of_several_servers_the_gravest_finding_is_told_with_its_name():
    fine = findings.Finding("memory", "ok", "plenty")
    bad = findings.Finding("memory", "warn", "nearly full", "make room")
    role = findings.Finding("role", "ok", "primary")

    assert findings.worst({"a:1": [fine, role], "b:2": [bad, role]}) == [
        bad._replace(detail="nearly full (b:2)"),
        role,
    ]
    assert findings.worst({"": [bad]}) == [bad]


@pytest.mark.parametrize(
    ("clustered", "setting", "told"), [(1, "yes", 1), (1, "no", 0), (1, None, 0), (0, "yes", 0)]
)
def test_a_cluster_that_stops_for_one_primary(clustered: int, setting: str | None, told: int):
    config = {"cluster-require-full-coverage": setting} if setting else {}

    found = findings.coverage({"cluster_enabled": clustered}, config)

    assert [one.level for one in found] == ["note"] * told


def test_a_replica_is_no_place_to_write():
    found = findings.role({"role": "slave", "master_host": "10.0.0.1", "master_port": 6379})

    assert (found.level, found.advice) == ("fail", "connect to the primary 10.0.0.1:6379")
    assert findings.role({"role": "master", "connected_slaves": 2}).level == "ok"


@pytest.mark.parametrize(
    ("used", "limit", "level"), [(5, 0, "ok"), (5, 10, "ok"), (95, 100, "warn")]
)
def test_memory(used: int, limit: int, level: str):
    assert findings.memory({"used_memory": used, "maxmemory": limit}).level == level


def test_latency_looks_at_the_median():
    assert findings.latency([0.001, 0.001, 0.5]).level == "ok"
    assert findings.latency([0.03, 0.04, 0.05]).level == "warn"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 1024**4, "3.0 TiB")]
)
def test_size(count: int, text: str):
    assert findings.size(count) == text


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
