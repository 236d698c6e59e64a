"""The plain ClickHouse client: the reference system's calls, with failures that are told."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from support.clickhouse import NOWHERE, Bridge, Database

from aiecs.core.errors import (
    ArchiveAuthError,
    ArchiveQueryError,
    ArchiveUnavailableError,
    InvalidInputError,
    LifecycleError,
)
from aiecs.infrastructure import persistence
from aiecs.infrastructure.persistence.clickhouse_client import ClickHouseClient

CREATE = (
    "CREATE TABLE mine (n UInt32, text Nullable(String), at DateTime64(3)) "
    "ENGINE = MergeTree ORDER BY n"
)


@pytest.fixture
async def client(archive_database: Database):
    client = ClickHouseClient.from_url(archive_database.url())
    assert await client.initialize()
    await client.command(CREATE)
    yield client
    await client.close()


async def test_rows_go_in_and_come_out(client: ClickHouseClient):
    at = datetime(2026, 11, 23, 1, 2, 3)  # noqa: DTZ001 - read as UTC
    rows = [{"n": 1, "text": "a;b", "at": at}, {"n": 2, "text": "c", "at": at}]

    assert await client.insert("mine", rows)
    found = await client.query("SELECT * FROM mine WHERE n = {n:UInt32}", {"n": 1})

    assert found.result_rows == [(1, "a;b", at.replace(tzinfo=UTC))]


async def test_named_columns_may_be_missing_from_rows(client: ClickHouseClient):
    await client.insert("mine", [{"n": 1}, {"n": 2, "text": "x", "ignored": 1}], ["n", "text"])

    found = await client.query("SELECT n, text FROM mine ORDER BY n")

    assert found.result_rows == [(1, None), (2, "x")]


async def test_no_rows_are_no_call(client: ClickHouseClient):
    assert await client.insert("nowhere", [])


@pytest.mark.parametrize("table", ["mine (n) VALUES (1)", "a.b.c", "`x`", ""])
async def test_a_table_is_a_name(client: ClickHouseClient, table):
    with pytest.raises(InvalidInputError):
        await client.insert(table, [{"n": 1}])


async def test_a_failed_call_raises(client: ClickHouseClient):
    with pytest.raises(ArchiveQueryError):
        await client.query("SELECT nothing FROM mine")
    with pytest.raises(ArchiveQueryError):
        await client.command("CREATE TABLE")


async def test_an_insert_is_sent_once(clickhouse_bridge: Bridge, client: ClickHouseClient):
    clickhouse_bridge.fault("lose_reply")

    with pytest.raises(ArchiveUnavailableError):
        await client.insert("mine", [{"n": 1}], ["n"])

    assert (await client.query("SELECT count() FROM mine")).result_rows == [(1,)]


async def test_a_server_that_is_not_there_is_false_and_tried_again(caplog):
    client = ClickHouseClient.from_url(NOWHERE)

    assert [await client.initialize(), await client.initialize()] == [False, False]

    assert not client.is_available
    assert "cannot be reached" in caplog.text
    with pytest.raises(LifecycleError):
        await client.query("SELECT 1")


async def test_a_wrong_password_raises(clickhouses):
    bridge = clickhouses.start(password="right")
    client = ClickHouseClient("127.0.0.1", bridge.port, password="wrong")

    with pytest.raises(ArchiveAuthError) as failed:
        await client.initialize()

    assert "wrong" not in f"{failed.value} {client!r}"
    bridge.close()


async def test_callers_that_come_together_connect_once(archive_database: Database):
    client = ClickHouseClient.from_url(archive_database.url())

    assert await asyncio.gather(*[client.initialize() for _ in range(4)]) == [True] * 4

    assert client.is_available
    await client.close()
    await client.close()
    assert not client.is_available


async def test_the_process_has_one_by_the_settings(
    archive_database: Database, monkeypatch: pytest.MonkeyPatch
):
    place = urlsplit(archive_database.url())
    monkeypatch.setenv("CLICKHOUSE_HOST", str(place.hostname))
    monkeypatch.setenv("CLICKHOUSE_PORT", str(place.port))
    monkeypatch.setenv("CLICKHOUSE_USER", place.username or "default")
    monkeypatch.setenv("CLICKHOUSE_PASSWORD", place.password or "")
    monkeypatch.setenv("CLICKHOUSE_DATABASE", archive_database.name)
    with pytest.raises(LifecycleError):
        await persistence.get_clickhouse_client()

    assert await persistence.initialize_clickhouse_client()
    client = await persistence.get_clickhouse_client()
    found = await client.query("SELECT currentDatabase()")

    assert found.result_rows == [(archive_database.name,)]
    await persistence.close_clickhouse_client()
    await persistence.close_clickhouse_client()
    with pytest.raises(LifecycleError):
        await persistence.get_clickhouse_client()


async def test_arguments_beat_the_settings(
    archive_database: Database, monkeypatch: pytest.MonkeyPatch
):
    place = urlsplit(archive_database.url())
    monkeypatch.setenv("CLICKHOUSE_HOST", "nowhere.invalid")
    monkeypatch.setenv("CLICKHOUSE_DATABASE", "other")
    client = ClickHouseClient(
        place.hostname, place.port, place.username, place.password, archive_database.name
    )

    assert await client.initialize()

    found = await client.query("SELECT currentDatabase()")
    assert found.result_rows == [(archive_database.name,)]
    await client.close()
