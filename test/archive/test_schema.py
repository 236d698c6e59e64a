"""The archive's tables: made from nothing, brought forward from every step, never harmed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from support.archive_rows import messages, sample
from support.clickhouse import Database

from aiecs.core.errors import ArchiveNewerError, ArchiveSchemaError, LifecycleError
from aiecs.core.settings import Secret, Settings
from aiecs.infrastructure.persistence.archive import ClickHouseArchive, clickhouse, tables
from aiecs.infrastructure.persistence.archive.migrations import MIGRATIONS_TABLE, checksum, migrate
from aiecs.infrastructure.persistence.archive.tables import (
    CONVERSATIONS,
    LATEST,
    TABLES,
    Column,
    Kind,
    Table,
)
from aiecs.infrastructure.persistence.archive.values import rows_of

RELEASED = {1: "b7eec32e3f3d445ba16023f98a06c09d888506c76b096dd6d91034abfd9fa529"}
"""The steps that releases have made: once released, a number means the same for ever."""

NEXT, AFTER_NEXT = LATEST + 1, LATEST + 2
_LATER = Table(
    "context_later",
    ("session_id",),
    (Column("session_id", Kind.ID), Column("more", Kind.TEXT, since=AFTER_NEXT)),
    since=NEXT,
)
FUTURE = (
    *(
        replace(
            table,
            own=(
                *table.own,
                Column("mood", Kind.WORD, default="'calm'", since=NEXT),
                Column("weight", Kind.COUNT, since=AFTER_NEXT),
            ),
        )
        for table in TABLES
    ),
    _LATER,
)
"""Two releases on: more columns in every table, and one more table."""


def test_released_steps_never_change():
    assert {number: checksum(TABLES, number) for number in range(1, LATEST + 1)} == RELEASED


def test_all_of_the_specification_are_there():
    assert {table.name for table in TABLES} >= {
        "context_sessions",
        "context_conversations",
        "context_task_contexts",
        "context_checkpoints",
        "context_checkpoint_writes",
        "context_conversation_sessions",
    }


def test_it_is_made_from_nothing(archive, archive_database: Database):
    found = archive.select(
        "SELECT name, engine, partition_key, sorting_key FROM system.tables "
        "WHERE database = {database:String} ORDER BY name",
        {"database": archive_database.name},
    )

    expected = [
        (table.name, "ReplacingMergeTree", "toYYYYMM(created_at)", ", ".join(table.key))
        for table in TABLES
    ]
    expected.append((MIGRATIONS_TABLE, "ReplacingMergeTree", "", "version, checksum"))
    assert found == sorted(expected)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_column_is_there_and_holds_its_values(archive, archive_database, table: Table):
    found = archive.select(
        "SELECT name, type FROM system.columns WHERE database = {database:String} "
        "AND table = {table:String} ORDER BY position",
        {"database": archive_database.name, "table": table.name},
    )
    row = sample(table)

    archive.insert(table.name, row, token="t")

    assert found == [(column.name, column.kind.type) for column in table.columns]
    stored = archive.select(
        f"SELECT {', '.join(row)} FROM {table.name}",
        exact=[column.name for column in table.columns if column.kind in (Kind.BLOB, Kind.TIME)],
    )
    assert [str(value) for value in stored[0]] == [
        "1E-9" if value == ["0.000000001"] else str(value[0]) for value in row.values()
    ]


def test_queries_written_for_the_reference_system_run(archive):
    archive.insert("context_conversations", messages(["hello"]), token="t")
    columns = {
        "context_sessions": "session_id, user_id, event_type, payload",
        "context_conversations": "session_id, role, content, metadata",
        "context_task_contexts": "session_id, context_data",
        "context_checkpoints": "thread_id, checkpoint_id, data, metadata",
        "context_checkpoint_writes": "thread_id, checkpoint_id, task_id, writes_data",
        "context_conversation_sessions": "session_key, session_data",
    }

    found = {
        table: archive.select(f"SELECT {names}, created_at FROM {table} ORDER BY created_at")
        for table, names in columns.items()
    }

    assert [row[:4] for row in found["context_conversations"]] == [("s", "user", "hello", "{}")]


def test_the_database_of_the_settings_is_made(archive_database: Database):
    place = urlsplit(archive_database.url())
    settings = Settings(
        clickhouse_host=place.hostname or "",
        clickhouse_port=place.port or 0,
        clickhouse_user=place.username or "default",
        clickhouse_password=Secret(place.password or ""),
        clickhouse_database=archive_database.name,
    )
    archive = ClickHouseArchive.from_url(settings.clickhouse_url)

    archive.open()
    archive.insert("context_conversations", messages(["one"]), token="t")

    found = archive.select("SELECT currentDatabase(), count() FROM context_conversations")
    assert found == [(archive_database.name, 1)]
    archive.close()


def test_opening_again_changes_nothing_and_repairs_what_is_gone(archive, archive_database):
    definitions = (
        "SELECT name, create_table_query FROM system.tables "
        f"WHERE database = '{archive_database.name}' ORDER BY name"
    )
    archive.insert("context_conversations", messages(["kept"]), token="t")
    before = archive.select(definitions)

    archive.open()
    assert archive.select(definitions) == before
    archive.execute("DROP TABLE context_tombstones")
    archive.open()

    assert archive.select(definitions) == before
    assert archive.select("SELECT content FROM context_conversations") == [("kept",)]
    steps = archive.select(f"SELECT version, checksum FROM {MIGRATIONS_TABLE}")
    assert steps == [(number, checksum(TABLES, number)) for number in range(1, LATEST + 1)]


@pytest.mark.parametrize("start", range(AFTER_NEXT))
def test_every_earlier_step_is_brought_forward_with_its_rows(archive_database: Database, start):
    connection = archive_database.connect()
    migrate(connection, tables=FUTURE, to=start)
    there = [table for table in FUTURE if table.since <= start]
    for table in there:
        connection.insert(table.name, rows_of(table, sample(table, start)), "old")

    migrate(connection, tables=FUTURE)

    for table in FUTURE:
        old = connection.select(f"SELECT * FROM {table.name}")
        assert len(old) == (table in there)
        newer = sample(table, AFTER_NEXT) | {"seq": [99]}
        connection.insert(table.name, rows_of(table, newer), "new")
        # A release that has not been upgraded yet goes on writing.
        if table in there:
            older = sample(table, start) | {"seq": [98]}
            connection.insert(table.name, rows_of(table, older), "late")
    if start:
        moods = "SELECT seq, mood, weight FROM context_conversations ORDER BY seq"
        had_mood = "word" if start >= NEXT else "calm"
        assert connection.select(moods) == [(10, had_mood, 0), (98, had_mood, 0), (99, "word", 8)]
    connection.close()


def test_a_step_that_was_cut_short_is_finished(archive_database: Database):
    connection = archive_database.connect()
    for statement in tables.statements(TABLES, 1)[:3]:
        connection.execute(statement)
    connection.close()
    archive = ClickHouseArchive.from_url(archive_database.url())

    archive.open()

    assert archive.select("SELECT count() FROM context_tombstones") == [(0,)]
    archive.close()


OPEN = """
import sys
from threading import Thread
from aiecs.infrastructure.persistence.archive import ClickHouseArchive
archives = [ClickHouseArchive.from_url(sys.argv[1]) for _ in range(3)]
print("ready", flush=True)
sys.stdin.readline()
failed = []
def work(archive):
    try:
        archive.open()
    except Exception as error:
        failed.append(repr(error))
threads = [Thread(target=work, args=(archive,)) for archive in archives]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(failed, archives[0].select("SELECT count() FROM context_tombstones"), flush=True)
"""


def test_processes_that_migrate_at_once_do_no_harm(archive_database: Database):
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", OPEN, archive_database.url()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0] for process in processes]

    assert said == ["[] [(0,)]\n"] * 2
    archive = ClickHouseArchive.from_url(archive_database.url())
    archive.open()
    steps = archive.select(f"SELECT DISTINCT version FROM {MIGRATIONS_TABLE}")
    assert steps == [(number,) for number in range(1, LATEST + 1)]
    archive.close()


def test_who_asks_while_the_tables_are_made_is_told_that_it_is_not_open(
    archive_database: Database, monkeypatch
):
    archive = ClickHouseArchive.from_url(archive_database.url())
    told = []

    def asked_meanwhile(connection):
        migrate(connection)
        with pytest.raises(LifecycleError) as error:
            archive.select("SELECT 1")
        told.append(str(error.value))

    monkeypatch.setattr(clickhouse, "migrate", asked_meanwhile)
    archive.open()
    assert len(told) == 1
    assert archive.select("SELECT 1") == [(1,)]
    archive.close()


def test_an_archive_of_a_later_release_is_refused(archive, archive_database: Database):
    connection = archive_database.connect()
    migrate(connection, tables=FUTURE)
    connection.close()

    with pytest.raises(ArchiveNewerError, match=f"{AFTER_NEXT}.*{LATEST}"):
        archive.open()


def test_an_archive_of_another_build_is_refused(archive, archive_database: Database):
    other = (replace(TABLES[0], searched=""), *TABLES[1:-1])
    connection = archive_database.connect()

    with pytest.raises(ArchiveSchemaError, match="differs"):
        migrate(connection, tables=other)
    connection.close()


def test_tables_of_somebody_else_are_left_alone(archive_database: Database):
    connection = archive_database.connect()
    connection.execute(
        "CREATE TABLE context_conversations (session_id String, role LowCardinality(String), "
        "content String, metadata String, created_at DateTime64(3)) "
        "ENGINE = MergeTree() ORDER BY (session_id, created_at)"
    )
    archive = ClickHouseArchive.from_url(archive_database.url())

    with pytest.raises(ArchiveSchemaError, match="context_conversations"):
        archive.open()

    found = "SELECT count() FROM system.tables WHERE database = {name:String}"
    assert connection.select(found, {"name": archive_database.name}) == [(1,)]
    connection.close()
    archive.close()


# --- options ------------------------------------------------------------------------------------


def test_words_are_indexed_on_request(archive_database: Database):
    for _ in range(2):  # the second time it is there already
        archive = ClickHouseArchive.from_url(archive_database.url(text_index="true"))
        archive.open()
        archive.close()
    archive.open()
    archive.insert(CONVERSATIONS.name, messages(["The Quick fox", "a slow one"]), token="t")

    found = archive.select(
        "SELECT content FROM context_conversations WHERE hasToken(lower(content), 'quick')"
    )

    assert found == [("The Quick fox",)]
    indexes = "SELECT name, type FROM system.data_skipping_indices WHERE database = {name:String}"
    assert sorted(archive.select(indexes, {"name": archive_database.name})) == [
        ("by_id", "bloom_filter"),
        ("words", "text"),
    ]
    archive.close()


def test_rows_age_on_request(archive_database: Database):
    definition = (
        "SELECT name, engine_full LIKE '%toIntervalDay(365000)%' FROM system.tables "
        f"WHERE database = '{archive_database.name}' AND engine_full LIKE '%TTL%'"
    )
    for days in (30, 36_500, 36_500):
        archive = ClickHouseArchive.from_url(archive_database.url(ttl_days=days))
        archive.open()
        aged = {name for name, _ in archive.select(definition)}
        assert aged == {table.name for table in TABLES if table.ages}
        archive.close()
    without = ClickHouseArchive.from_url(archive_database.url())
    without.open()

    aged = {name for name, _ in without.select(definition)}

    assert aged == {table.name for table in TABLES if table.ages}, "what is set stays"
    assert "context_tombstones" not in aged
    without.close()
