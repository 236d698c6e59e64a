"""Redis and ClickHouse as `.env.test` and the environment name them; servers of our own if not."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from dotenv import dotenv_values
from support import clickhouse
from support import servers as real

from aiecs.core.settings import load_settings
from aiecs.infrastructure.persistence import ClickHouseClient, RedisClient

ENV_FILE = Path(__file__).parents[3] / ".env.test"
_NAMED = ("REDIS_", "CLICKHOUSE_")
_REDIS_PLACES = ("REDIS_URL", "REDIS_HOST", "REDIS_UNIX_SOCKET_PATH", "REDIS_SENTINELS")
_numbers = count(1)


@pytest.fixture
def environment(
    given_environment: dict[str, str],
    servers: real.Servers,
    clickhouses: clickhouse.ClickHouses,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """The specification's variables, and the test's own database and key prefix."""
    given = {name: value for name, value in given_environment.items() if name.startswith(_NAMED)}
    values = {**dotenv_values(ENV_FILE), **given}
    set_ = {name: value for name, value in values.items() if value}
    if not any(name in set_ for name in _REDIS_PLACES):
        set_ |= _redis_of_our_own(servers)
    if "CLICKHOUSE_HOST" not in set_:
        set_ |= _clickhouse_of_our_own(clickhouses)
    set_["AIECS_KEY_PREFIX"] = f"aiecs-test-{os.getpid()}-{next(_numbers)}"
    # A shared machine may be slow for a while; nothing here is about deadlines.
    set_ |= {"AIECS_OPERATION_TIMEOUT": "10", "AIECS_ARCHIVE_READ_TIMEOUT": "20"}
    for name, value in set_.items():
        monkeypatch.setenv(name, value)
    database = clickhouse.Database(load_settings().clickhouse_url)
    monkeypatch.setenv("CLICKHOUSE_DATABASE", database.name)
    yield
    database.drop()


def _redis_of_our_own(servers: real.Servers) -> dict[str, str]:
    place = urlsplit(servers.shared(real.names()[-1]).url)
    return {"REDIS_HOST": str(place.hostname), "REDIS_PORT": str(place.port)}


def _clickhouse_of_our_own(clickhouses: clickhouse.ClickHouses) -> dict[str, str]:
    place = urlsplit(clickhouses.url())
    names = {
        "CLICKHOUSE_HOST": place.hostname,
        "CLICKHOUSE_PORT": str(place.port or 8123),
        "CLICKHOUSE_USER": unquote(place.username or ""),
        "CLICKHOUSE_PASSWORD": unquote(place.password or ""),
    }
    return {name: value for name, value in names.items() if value}


@pytest.fixture
async def redis(environment: None) -> AsyncIterator[RedisClient]:
    """A plain Redis client; the test's keys are gone afterwards."""
    client = RedisClient.from_url(load_settings().redis_url)
    yield client
    plain = await client.get_client()
    async for key in plain.scan_iter(match=os.environ["AIECS_KEY_PREFIX"] + "*", count=1_000):
        await plain.delete(key)
    await client.close()


@pytest.fixture
async def clickhouse_client(environment: None) -> AsyncIterator[ClickHouseClient]:
    """A plain ClickHouse client on the test's database."""
    client = ClickHouseClient()
    assert await client.initialize()
    yield client
    await client.close()
