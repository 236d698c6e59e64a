"""The cluster's tables are the archive's own; the engine parses them and runs what it can.

There is no Keeper and no second server here. What needs one is left out of a statement before it
runs, and nothing in this file says that replication or sharding work.
"""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archive.test_schema import FUTURE, NEXT
from support.archive_rows import messages
from support.clickhouse import Bridge, Database
from support.samples import Sample, samples_in

from aiecs import ContextEngine
from aiecs.core.errors import ArchiveAuthError, ArchiveQueryError
from aiecs.infrastructure.persistence.archive import ClickHouseArchive, gate
from aiecs.infrastructure.persistence.archive.connection import Connection
from aiecs.infrastructure.persistence.archive.migrations import MIGRATIONS_TABLE, migrate
from aiecs.infrastructure.persistence.archive.tables import CHECKPOINTS, TABLES, TOMBSTONES, Kind
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

TOOL = Path(__file__).parents[2] / "tools" / "cluster_ddl.py"
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "clickhouse-cluster.md"
CLUSTER = "two_shards"
OPTIONS: dict[str, Any] = {"text_index": True, "ttl_days": 365}
#: What cannot run without a cluster, and what stands in its place here.
_ALONE = (
    (re.compile(r" ON CLUSTER '[^']*'"), ""),
    (re.compile(r"ENGINE = Replicated(\w+)\('[^']*', '[^']*', "), r"ENGINE = \1("),
    (
        re.compile(r"\breplicated_(deduplication_window = \d+)(, \w+_seconds = \d+)"),
        r"non_replicated_\1",
    ),
)
_CREATED = re.compile(r"CREATE TABLE IF NOT EXISTS `(\w+)`\.`(\w+)` ON CLUSTER")
_COLUMNS = """
SELECT table, position, name, type, default_kind, default_expression, compression_codec,
    is_in_partition_key, is_in_sorting_key, is_in_primary_key
FROM system.columns WHERE database = {name:String} ORDER BY table, position"""
_ENGINES = """
SELECT name, engine_full FROM system.tables WHERE database = {name:String} ORDER BY name"""
_INDEXES = """
SELECT table, name, type_full, expr FROM system.data_skipping_indices
WHERE database = {name:String} ORDER BY table, name"""

_tool = runpy.run_path(str(TOOL))


def layout(database: str, **options: Any) -> list[str]:
    return _tool["statements_for"](_tool["Layout"](CLUSTER, database), **options)


def alone(statement: str) -> str:
    for pattern, instead in _ALONE:
        statement = pattern.sub(instead, statement)
    return statement


def events_only(statements: list[str]) -> list[str]:
    """Without the database over all shards, whose tables need a cluster to be created."""
    first = next(n for n, one in enumerate(statements) if one.startswith("CREATE DATABASE") and n)
    return statements[:first]


def run(connection: Connection, statements: list[str]) -> None:
    for statement in statements:
        connection.execute(alone(statement))


def looks(connection: Connection, database: str) -> list[Any]:
    queries = (_COLUMNS, _ENGINES, _INDEXES)
    return [connection.select(query, {"name": database}) for query in queries]


@pytest.fixture
def connection(archive_database: Database) -> Iterator[Connection]:
    """Beside the archive, with room for the second database."""
    found = archive_database.connect()
    yield found
    found.execute(f"DROP DATABASE IF EXISTS `{archive_database.name}_all`")
    found.execute(f"DROP DATABASE IF EXISTS `{archive_database.name}_cluster`")
    found.close()


@pytest.mark.parametrize("options", [{}, OPTIONS, {"tables": FUTURE}], ids=["plain", "all", "next"])
def test_the_engine_parses_every_statement(connection: Connection, options: dict[str, Any]):
    statements = layout("app", **options)

    assert all(connection.select(f"EXPLAIN AST {statement}") for statement in statements)
    assert not [one for one in statements if "{version" in one or "non_replicated" in one]
    everywhere = [one for one in statements if not one.startswith("INSERT")]
    assert all(f" ON CLUSTER '{CLUSTER}'" in one for one in everywhere)


@pytest.mark.parametrize("sample", [s for s in samples_in(PAGE) if s.language == "sql"])
def test_the_engine_parses_what_the_page_tells_to_run(connection: Connection, sample: Sample):
    for statement in filter(str.strip, sample.code.split(";")):
        assert connection.select(f"EXPLAIN AST {statement}")


@pytest.mark.parametrize("wrong", ["ON CLUSTR '{c}'", "ON CLUSTER '{c}' ENGIN = X", "("])
def test_the_parser_would_say_so(connection: Connection, wrong: str):
    with pytest.raises(ArchiveQueryError):
        connection.select(f"EXPLAIN AST CREATE DATABASE IF NOT EXISTS `app` {wrong}")


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["plain", "options"])
def test_the_tables_are_those_that_the_archive_makes(
    connection: Connection, archive_database: Database, options: dict[str, Any]
):
    name = f"{archive_database.name}_cluster"
    run(connection, events_only(layout(name, **options)))
    archive = ClickHouseArchive.from_url(archive_database.url(**options))
    archive.open()
    archive.close()

    of_the_layout = looks(connection, name)
    assert of_the_layout == looks(connection, archive_database.name)
    assert len(of_the_layout[1]) == len(TABLES) + 1


def test_each_table_of_the_archive_is_there_twice(
    connection: Connection, archive_database: Database
):
    archive = ClickHouseArchive.from_url(archive_database.url())
    archive.open()
    archive.close()
    made = {name for name, _ in connection.select(_ENGINES, {"name": archive_database.name})}

    created = [_CREATED.match(statement) for statement in layout("app")]
    places = {(found[1], found[2]) for found in created if found}

    assert {name for database, name in places if database == "app"} == made
    assert {name for database, name in places if database == "app_all"} == made - {MIGRATIONS_TABLE}


def test_the_next_release_extends_a_layout_that_stands(
    connection: Connection, archive_database: Database
):
    name = f"{archive_database.name}_cluster"
    run(connection, events_only(layout(name)))
    run(connection, events_only(layout(name, tables=FUTURE)))
    migrate(connection, tables=FUTURE)

    assert looks(connection, name) == looks(connection, archive_database.name)
    added = [one for one in layout(name, tables=FUTURE) if " ADD COLUMN " in one]
    assert len([one for one in added if f"`{name}_all`." in one]) == len(added) / 2
    assert f"SELECT {NEXT}, '" in "".join(layout(name, tables=FUTURE))


def test_what_the_tool_does_not_know_is_an_error():
    with pytest.raises(ValueError, match="no place on a cluster"):
        _tool["Layout"](CLUSTER, "app").placed("RENAME TABLE `a` TO `b`")


def test_rows_that_replace_each_other_share_a_shard():
    chosen = {table.name: _tool["shard_column"](table) for table in TABLES}

    for table in TABLES:
        kinds = {column.name: column.kind for column in table.columns}
        assert chosen[table.name] in table.key
        assert kinds[chosen[table.name]] is Kind.ID
    assert set(chosen.values()) == {"session_id", "thread_id", "session_key", "subject_id"}
    assert chosen[CHECKPOINTS.name] == "thread_id"
    assert chosen[TOMBSTONES.name] == "subject_id"


def test_the_engine_opens_such_tables_without_creating_or_altering_anything(
    clickhouse_bridge: Bridge, archive_database: Database, connection: Connection
):
    run(connection, events_only(layout(archive_database.name, **OPTIONS)))
    for forbidden in ("CREATE TABLE", "CREATE DATABASE", "ALTER TABLE"):
        archive = ClickHouseArchive.from_url(archive_database.url())
        clickhouse_bridge.fault("error", match=forbidden, code=497, times=1000)
        archive.open()
        archive.insert("context_conversations", messages(["a", "b"]), token="t")
        archive.insert("context_conversations", messages(["a", "b"]), token="t")
        archive.close()
        clickhouse_bridge.mend()

    assert connection.select("SELECT count() FROM context_conversations") == [(2,)]


def test_a_new_table_is_not_made_behind_the_clusters_back(
    clickhouse_bridge: Bridge, archive_database: Database, connection: Connection
):
    run(connection, events_only(layout(archive_database.name)))
    clickhouse_bridge.fault("error", match="CREATE TABLE", code=497, times=1000)

    with pytest.raises(ArchiveAuthError):
        migrate(connection, tables=FUTURE)


async def test_a_replica_that_is_away_delays_an_erasure(
    clickhouse_bridge: Bridge, archive_database: Database, monkeypatch: pytest.MonkeyPatch
):
    """ClickHouse then answers 341, and goes on with it; here it has not even begun."""
    monkeypatch.setattr(gate, "LONGEST_PAUSE", 0.2)
    url = archive_database.url()
    async with ContextEngine(store=MemoryStore(), archive=url, operation_timeout=10) as engine:
        await engine.create_session("s", "u")
        await engine.archive_barrier(timeout=20)
        clickhouse_bridge.fault("error", match="DELETE FROM", code=341, times=2)
        await engine.delete_session("s")
        await engine.archive_barrier(timeout=20)

        assert (await engine.health_check())["archive"]["failures"] >= 1

    connection = archive_database.connect()
    left = "SELECT count() FROM context_sessions WHERE event_type != 'deleted'"
    assert connection.select(left) == [(0,)]
    assert connection.select("SELECT count() FROM context_tombstones FINAL") == [(1,)]
    connection.close()


class TestThroughDistributed:
    """What the engine can and cannot do there, on one server that is its own shard."""

    @pytest.fixture
    def everything(
        self, clickhouse_bridge: Bridge, archive_database: Database, connection: Connection
    ) -> Iterator[ClickHouseArchive]:
        name = archive_database.name
        run(connection, events_only(layout(f"{name}_cluster")))
        for table in TABLES:  # remote() makes a Distributed table that needs no configuration
            connection.execute(
                f"CREATE TABLE `{table.name}` AS "
                f"remote('127.0.0.1', '{name}_cluster', '{table.name}')"
            )
        archive = ClickHouseArchive.from_url(archive_database.url())
        archive.open()
        yield archive
        archive.close()

    def test_a_repeated_insert_is_one_and_final_is_passed_on(
        self, everything: ClickHouseArchive, connection: Connection, archive_database: Database
    ):
        for token in ("t", "t", "another"):
            everything.insert("context_conversations", messages(["a", "b"]), token=token)

        local = f"SELECT count() FROM `{archive_database.name}_cluster`.context_conversations"
        assert connection.select(local) == [(4,)]
        assert everything.select("SELECT count() FROM context_conversations FINAL") == [(2,)]

    def test_nothing_can_be_erased(self, everything: ClickHouseArchive):
        everything.insert("context_conversations", messages(["a"]), token="t")

        with pytest.raises(ArchiveQueryError) as caught:
            everything.execute("DELETE FROM context_conversations WHERE session_id = 's'")

        assert caught.value.code == 36
        assert everything.select("SELECT count() FROM context_conversations") == [(1,)]

    async def test_a_deletion_stops_what_ships(
        self, everything: ClickHouseArchive, archive_database: Database
    ):
        """Why no engine may be pointed at such tables: nothing is lost, and nothing arrives."""
        url = archive_database.url()
        async with ContextEngine(store=MemoryStore(), archive=url, operation_timeout=10) as engine:
            await engine.create_session("s", "u")
            await engine.archive_barrier(timeout=20)

            assert not (await engine.delete_session("s")).complete
            seen = (await engine.health_check())["archive"]
            assert seen["waiting"] >= 1
            assert "36 BAD_ARGUMENTS" in seen["alarm"]

        assert everything.select("SELECT count() FROM context_tombstones") == [(0,)]

    def test_a_new_column_does_not_reach_the_shards(
        self, everything: ClickHouseArchive, connection: Connection, archive_database: Database
    ):
        everything.execute("ALTER TABLE context_sessions ADD COLUMN `mood` String")

        local = "SELECT count() FROM system.columns WHERE database = {name:String} AND name='mood'"
        assert connection.select(local, {"name": archive_database.name}) == [(1,)]
        assert connection.select(local, {"name": f"{archive_database.name}_cluster"}) == [(0,)]


_WITH_A_CLUSTER = """
import json, sys, chdb
place, statements = sys.argv[1], json.load(sys.stdin)
engine = chdb.connect(f"{place}/data?config-file={place}/cluster.xml")
for statement in statements:
    engine.query(statement)
print(engine.query("SELECT table, name, type FROM system.columns WHERE database = 'app' "
    "AND table != 'context_schema_migrations' ORDER BY table, position FORMAT JSONCompactEachRow"))
print("--")
print(engine.query("SELECT table, name, type FROM system.columns WHERE database = 'app_all' "
    "ORDER BY table, position FORMAT JSONCompactEachRow"))
print("--")
print(engine.query("SELECT name, engine_full FROM system.tables WHERE database = 'app_all' "
    "ORDER BY name FORMAT JSONCompactEachRow"))
for refused in ("DELETE FROM app_all.context_sessions WHERE 1",
                "ALTER TABLE app_all.context_sessions DELETE WHERE 1"):
    try:
        engine.query(refused)
    except Exception as error:
        print("--", str(error).split(".")[0])
"""
_CONFIGURATION = f"""<clickhouse><remote_servers><{CLUSTER}>
<shard><internal_replication>true</internal_replication>
<replica><host>127.0.0.1</host><port>1</port></replica></shard>
<shard><internal_replication>true</internal_replication>
<replica><host>127.0.0.2</host><port>1</port></replica></shard>
</{CLUSTER}></remote_servers></clickhouse>"""


def test_the_tables_over_all_shards_can_be_created(tmp_path: Path):
    """By an engine that has a cluster of two shards in its configuration, which are not there."""
    (tmp_path / "cluster.xml").write_text(_CONFIGURATION)
    statements = [alone(statement) for statement in layout("app", **OPTIONS)]

    done = subprocess.run(
        [sys.executable, "-c", _WITH_A_CLUSTER, str(tmp_path)],
        input=json.dumps(statements),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    local, across, engines, *refused = done.stdout.split("--")
    assert across.split() == local.split()
    keys = dict(json.loads(line) for line in engines.strip().splitlines())
    assert keys == {
        table.name: f"Distributed('{CLUSTER}', 'app', '{table.name}', "
        f"cityHash64({_tool['shard_column'](table)}))"
        for table in TABLES
    }
    assert [text.strip() for text in refused] == ["Code: 36", "Code: 48"]


class TestTheCommand:
    def test_it_prints_statements_for_a_client(self, capsys: pytest.CaptureFixture[str]):
        assert _tool["main"]([CLUSTER, "app", "--ttl-days", "365", "--text-index"]) == 0

        printed = capsys.readouterr().out.splitlines()
        assert [line.removesuffix(";") for line in printed] == layout("app", **OPTIONS)

    def test_without_arguments_it_takes_the_servers_macro(self):
        printed = subprocess.run(
            [sys.executable, TOOL], capture_output=True, text=True, check=True, timeout=60
        ).stdout

        assert printed.startswith("CREATE DATABASE IF NOT EXISTS `aiecs` ON CLUSTER '{cluster}';\n")

    def test_names_that_would_end_a_quote_are_refused(self):
        with pytest.raises(SystemExit):
            _tool["main"](["a' b"])
        with pytest.raises(SystemExit):
            _tool["main"]([CLUSTER, "a`b"])
        with pytest.raises(SystemExit):
            _tool["main"]([CLUSTER, "aiecs", "--ttl-days", "0"])
