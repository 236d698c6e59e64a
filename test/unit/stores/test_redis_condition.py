"""Verdicts on a server, from what it says of itself."""

from __future__ import annotations

import pytest

from aiecs.core.interface.finding import Finding
from aiecs.infrastructure.persistence.stores.redis import condition


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
def test_server_version(info: condition.Info, level: str):
    assert condition.server_version(info).level == level


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

    assert condition.eviction(info).level == level


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
def test_persistence(info: condition.Info, config: dict[str, str], level: str, words: str):
    found = condition.persistence(info, config)

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
    info: condition.Info, config: dict[str, str], advice: str | None
):
    found = condition.torn_tail(info | {"aof_enabled": 1}, config)

    assert [one.level for one in found] == ["note"] * (advice is not None)
    assert all(advice in one.advice for one in found if advice)
    assert not condition.torn_tail(info | {"aof_enabled": 0}, config)


def test_of_several_servers_the_gravest_finding_is_told_with_its_name():
    fine = Finding("memory", "ok", "plenty")
    bad = Finding("memory", "warn", "nearly full", "make room")
    role = Finding("role", "ok", "primary")

    assert condition.worst({"a:1": [fine, role], "b:2": [bad, role]}) == [
        bad._replace(detail="nearly full (b:2)"),
        role,
    ]
    assert condition.worst({"": [bad]}) == [bad]


@pytest.mark.parametrize(
    ("clustered", "setting", "told"), [(1, "yes", 1), (1, "no", 0), (1, None, 0), (0, "yes", 0)]
)
def test_a_cluster_that_stops_for_one_primary(clustered: int, setting: str | None, told: int):
    config = {"cluster-require-full-coverage": setting} if setting else {}

    found = condition.coverage({"cluster_enabled": clustered}, config)

    assert [one.level for one in found] == ["note"] * told


def test_a_replica_is_no_place_to_write():
    found = condition.role({"role": "slave", "master_host": "10.0.0.1", "master_port": 6379})

    assert (found.level, found.advice) == ("fail", "connect to the primary 10.0.0.1:6379")
    assert condition.role({"role": "master", "connected_slaves": 2}).level == "ok"


@pytest.mark.parametrize(
    ("used", "limit", "level"), [(5, 0, "ok"), (5, 10, "ok"), (95, 100, "warn")]
)
def test_memory(used: int, limit: int, level: str):
    assert condition.memory({"used_memory": used, "maxmemory": limit}).level == level


def test_refused_settings_leave_the_rest_of_the_answers():
    told = b"# Server\r\nredis_version:7.2.0\r\naof_enabled:1\r\nrole:master\r\nmaxmemory:0\r\n"
    refused = Exception("NOPERM no permissions to run 'config|get'")
    always = [b"appendfsync", b"always"]

    found = {one.check: one for one in condition.findings_of([told, refused, always])}

    assert found["server"].detail == "Redis 7.2.0"
    assert "a power cut loses nothing" in found["persistence"].detail


def test_a_server_that_tells_nothing():
    (found,) = condition.findings_of([Exception("NOPERM no permissions to run 'info'")])

    assert (found.check, found.level) == ("server", "note")
    assert "NOPERM" in found.detail
