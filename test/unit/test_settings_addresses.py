"""Which Redis, which archive and which store the environment names."""

from __future__ import annotations

import pytest
from redis.asyncio.connection import parse_url
from support.settings import SECRET, load

from aiecs.core.errors import InvalidInputError
from aiecs.infrastructure.persistence.stores.redis.target import target_of


def test_no_redis_variable_means_that_redis_was_not_asked_for() -> None:
    settings = load(AIECS_SESSION_TTL="5", CLICKHOUSE_HOST="x", REDIS_HOST="")

    assert (settings.redis_url, settings.redis_explicit) == ("redis://localhost:6379/1", False)


@pytest.mark.parametrize("name", ["REDIS_HOST", "REDIS_PASSWORD", "REDIS_USERNAME"])
def test_any_redis_variable_means_that_redis_was_asked_for(name: str) -> None:
    assert load(**{name: "localhost"}).redis_explicit is True
    assert load(REDIS_URL="redis://x").redis_explicit is True


def test_redis_url_wins_over_the_rest() -> None:
    settings = load(REDIS_URL="rediss://u:p@h:1/2", REDIS_HOST="x", REDIS_CLUSTER="1", REDIS_DB="3")

    assert settings.redis_url == "rediss://u:p@h:1/2"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"REDIS_HOST": "h", "REDIS_PORT": "1", "REDIS_DB": "0"}, "redis://h:1/0"),
        ({"REDIS_HOST": "::1"}, "redis://[::1]:6379/1"),
        ({"REDIS_HOST": "[::1]"}, "redis://[::1]:6379/1"),
        ({"REDIS_PASSWORD": "p"}, "redis://:p@localhost:6379/1"),
        ({"REDIS_USERNAME": "u"}, "redis://u@localhost:6379/1"),
        ({"REDIS_USERNAME": "u", "REDIS_PASSWORD": "p"}, "redis://u:p@localhost:6379/1"),
        ({"REDIS_TLS": "1"}, "rediss://localhost:6379/1"),
        (
            {"REDIS_SSL_CA_CERTS": "/a b/ca&", "REDIS_SSL_KEYFILE": "/k"},
            "rediss://localhost:6379/1?ssl_ca_certs=/a%20b/ca%26&ssl_keyfile=/k",
        ),
        ({"REDIS_UNIX_SOCKET_PATH": "/run/r s"}, "unix:///run/r%20s?db=1"),
        (
            {"REDIS_UNIX_SOCKET_PATH": "/s", "REDIS_PASSWORD": "p", "REDIS_DB": "2"},
            "unix://:p@/s?db=2",
        ),
        ({"REDIS_CLUSTER": "1", "REDIS_HOST": "n"}, "redis+cluster://n:6379"),
        (
            {"REDIS_CLUSTER": "1", "REDIS_DB": "0", "REDIS_TLS": "1"},
            "rediss+cluster://localhost:6379",
        ),
        (
            {"REDIS_SENTINELS": "a:1,[::2]:2", "REDIS_SENTINEL_MASTER": "my/master"},
            "redis+sentinel://a:1,[::2]:2/my%2Fmaster/1",
        ),
        (
            {
                "REDIS_SENTINELS": "a:1",
                "REDIS_SENTINEL_MASTER": "m",
                "REDIS_PASSWORD": "p",
                "REDIS_SSL_CERTFILE": "/c",
            },
            "rediss+sentinel://:p@a:1/m/1?ssl_certfile=/c",
        ),
        (
            {"REDIS_DURABILITY": "replicated", "REDIS_SSL_CERTFILE": "/c"},
            "rediss://localhost:6379/1?ssl_certfile=/c&durability=replicated&replicas=1",
        ),
        (
            {
                "REDIS_DURABILITY": "replicated",
                "REDIS_REPLICAS": "2",
                "REDIS_UNIX_SOCKET_PATH": "/s",
            },
            "unix:///s?db=1&durability=replicated&replicas=2",
        ),
    ],
)
def test_the_url_of_a_redis(given: dict[str, str], url: str) -> None:
    assert load(**given).redis_url == url
    assert target_of(url).seeds


def test_redis_py_reads_back_what_was_set() -> None:
    login = {"REDIS_USERNAME": "u:s@r", "REDIS_PASSWORD": SECRET}
    tcp = parse_url(load(**login, REDIS_HOST="h", REDIS_PORT="7", REDIS_DB="3").redis_url)
    unix = parse_url(load(**login, REDIS_UNIX_SOCKET_PATH="/a b#/s?", REDIS_DB="3").redis_url)

    for found in (tcp, unix):
        assert (found["username"], found["password"], found["db"]) == ("u:s@r", SECRET, 3)
    assert (tcp["host"], tcp["port"]) == ("h", 7)
    assert unix["path"] == "/a b#/s?"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"REDIS_CLUSTER": "1", "REDIS_UNIX_SOCKET_PATH": "/s"}, "SOCKET_PATH and REDIS_CLUSTER"),
        ({"REDIS_CLUSTER": "1", "REDIS_SENTINELS": "a:1"}, "REDIS_CLUSTER and REDIS_SENTINELS"),
        ({"REDIS_CLUSTER": "1", "REDIS_DB": "2"}, "REDIS_DB"),
        ({"REDIS_SENTINELS": "a:1"}, "REDIS_SENTINEL_MASTER"),
        ({"REDIS_UNIX_SOCKET_PATH": "s"}, "REDIS_UNIX_SOCKET_PATH"),
        ({"REDIS_UNIX_SOCKET_PATH": "/s", "REDIS_TLS": "1"}, "TLS"),
        ({"REDIS_UNIX_SOCKET_PATH": "/s", "REDIS_SSL_CA_CERTS": "/c"}, "TLS"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given: dict, named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        load(**given)


def test_the_archive() -> None:
    assert load().archive_url is None
    assert load(CLICKHOUSE_HOST="h").archive_url is None
    assert (
        load(CLICKHOUSE_ENABLED="true").archive_url == "clickhouse://default@localhost:8123/default"
    )
    settings = load(
        CLICKHOUSE_ENABLED="true",
        CLICKHOUSE_HOST="::1",
        CLICKHOUSE_PASSWORD="p@",
        CLICKHOUSE_DATABASE="a/b",
    )
    assert settings.archive_url == "clickhouse://default:p%40@[::1]:8123/a%2Fb"
    assert load(CLICKHOUSE_ENABLED="1", AIECS_ARCHIVE_URL="chdb:///x").archive_url == "chdb:///x"


def test_the_store() -> None:
    assert load().store_url is None
    assert load(AIECS_STORE_URL="redis://:p@h").store_url == "redis://:p@h"
