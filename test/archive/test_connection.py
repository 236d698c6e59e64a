"""Inserts arrive once, values as they were, and every failure is one that a shipper can act on."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from support.archive_rows import A_MONTH, NOVEMBER, messages
from support.clickhouse import NOWHERE, Bridge, ClickHouses, Database

from aiecs.core.errors import (
    ArchiveAuthError,
    ArchiveRowError,
    ArchiveSchemaError,
    ArchiveUnavailableError,
)
from aiecs.infrastructure.persistence.archive import ClickHouseArchive

TABLE = "context_conversations"
MEGABYTE = 2**20
CONTENTS = [
    "plain",
    "",
    "semi;colon; ';\" \\ \\N \t\r\n",
    "nul\0 in the middle\0",
    "😀 é \u202e \ufffd",
    bytes(range(256)) * 4,
    ";" * 70_000,
    "x" * (4 * MEGABYTE),
]


def raw(archive: ClickHouseArchive) -> int:
    return archive.select(f"SELECT count() FROM {TABLE}")[0][0]


# --- once -----------------------------------------------------------------------------------------


def test_the_same_token_adds_nothing_the_second_time(archive):
    rows = messages(["one", "two"])

    archive.insert(TABLE, rows, token="a")
    archive.insert(TABLE, rows, token="a")

    assert raw(archive) == 2


def test_the_token_counts_not_the_content(archive):
    archive.insert(TABLE, messages(["same"]), token="a")
    archive.insert(TABLE, messages(["same"]), token="b")

    assert raw(archive) == 2
    assert archive.select(f"SELECT count() FROM {TABLE} FINAL") == [(1,)], "the second net"


def test_the_same_token_in_another_table_is_another_insert(archive):
    for table in ("context_sessions", "context_task_contexts"):
        archive.insert(table, {"session_id": ["s"], "event_id": [UUID(int=1)]}, token="a")

        assert archive.select(f"SELECT count() FROM {table}") == [(1,)]


def test_an_insert_over_many_months_arrives_once(archive):
    rows = messages(["x"] * 150)
    rows["created_at"] = [NOVEMBER - number * A_MONTH for number in range(150)]

    archive.insert(TABLE, rows, token="a")
    archive.insert(TABLE, rows, token="a")

    assert raw(archive) == 150


def test_a_large_insert_is_one_request_and_one_part(archive, archive_database):
    archive.insert(TABLE, messages(["x" * 2000] * 2000), token="a")

    parts = "SELECT count() FROM system.parts WHERE database = {name:String} AND table = {t:String}"
    assert archive.select(parts, {"name": archive_database.name, "t": TABLE}) == [(1,)]


def test_a_lost_reply_is_told_and_the_insert_arrives_once(clickhouse_bridge: Bridge, archive):
    before = clickhouse_bridge.statistics()["inserts"]
    clickhouse_bridge.fault("lose_reply", times=3)

    for _ in range(3):
        with pytest.raises(ArchiveUnavailableError):
            archive.insert(TABLE, messages(["one", "two"]), token="a")
    archive.insert(TABLE, messages(["one", "two"]), token="a")

    assert raw(archive) == 2
    after = clickhouse_bridge.statistics()["inserts"]
    assert after - before == 4, "the driver has sent nothing again"


def test_a_lost_request_is_told_and_can_be_sent_again(clickhouse_bridge: Bridge, archive):
    clickhouse_bridge.fault("lose_request")

    with pytest.raises(ArchiveUnavailableError):
        archive.insert(TABLE, messages(["one"]), token="a")
    assert raw(archive) == 0
    archive.insert(TABLE, messages(["one"]), token="a")

    assert raw(archive) == 1


def test_a_late_insert_and_its_repetition_arrive_once(clickhouse_bridge: Bridge, archive_database):
    archive = ClickHouseArchive.from_url(archive_database.url(timeout=0.5))
    archive.open()
    before = clickhouse_bridge.statistics()["rows"]
    clickhouse_bridge.fault("slow", seconds=60)

    started = time.monotonic()
    with pytest.raises(ArchiveUnavailableError, match="Timeout"):
        archive.insert(TABLE, messages(["one"]), token="a")
    assert time.monotonic() - started < 5
    clickhouse_bridge.mend()
    archive.insert(TABLE, messages(["one"]), token="a")
    clickhouse_bridge.wait_for(rows=before + 2)

    assert raw(archive) == 1
    archive.close()


def test_threads_insert_side_by_side(archive):
    def work(session: str) -> None:
        for number in range(5):
            rows = messages(["x"], session, number + 1)
            archive.insert(TABLE, rows, token=f"{session}-{number}")

    threads = [threading.Thread(target=work, args=(f"s{place}",)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert raw(archive) == 20


# --- values ---------------------------------------------------------------------------------------


def test_content_comes_back_byte_for_byte(archive):
    archive.insert(TABLE, messages(CONTENTS), token="a")

    found = archive.select(f"SELECT content FROM {TABLE} ORDER BY seq", exact=["content"])

    expected = [text.encode() if isinstance(text, str) else text for text in CONTENTS]
    assert [content for (content,) in found] == expected


@pytest.mark.parametrize("compression", ["lz4", "zstd", "gzip", "none"])
def test_inserts_travel_in_every_compression(archive_database, compression):
    archive = ClickHouseArchive.from_url(archive_database.url(compression=compression))
    archive.open()
    archive.insert(TABLE, messages(CONTENTS[:7]), token="a")

    found = archive.select(f"SELECT content FROM {TABLE} ORDER BY seq", exact=["content"])

    assert found[5] == (CONTENTS[5],)
    archive.close()


@pytest.mark.parametrize("session", ["a'b", "a\\", "a;b", "nul\0", "{x:String}", "%(x)s", "😀\n"])
def test_ids_are_values_and_never_text_of_a_query(archive, session):
    archive.insert(TABLE, messages(["mine"], session), token="a")
    archive.insert(TABLE, messages(["other"], "other"), token="b")
    where = "WHERE session_id = {id:String} AND incarnation IN {lives:Array(String)}"
    ids = {"id": session, "lives": ["one", session]}

    found = archive.select(f"SELECT content, session_id FROM {TABLE} {where}", ids)
    archive.execute(f"DELETE FROM {TABLE} {where}", ids)

    assert found == [("mine", session)]
    assert archive.select(f"SELECT content FROM {TABLE}") == [("other",)]


def test_times_are_aware_or_exact_microseconds(archive):
    archive.insert(TABLE, messages(["x"]), token="a")
    query = f"SELECT created_at FROM {TABLE}"

    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=NOVEMBER + 1)
    assert archive.select(query) == [(moment,)]
    assert archive.select(query, exact=["created_at"]) == [(NOVEMBER + 1,)]


def test_columns_left_out_have_their_defaults(archive):
    archive.insert(TABLE, {"session_id": ["s"], "created_at": [NOVEMBER]}, token="a")

    found = archive.select(f"SELECT content, seq, cost_usd, schema_v, event_id FROM {TABLE}")

    assert found == [("", 0, 0, 1, UUID(int=0))]


def test_no_rows_are_no_call(clickhouse_bridge: Bridge, archive):
    before = clickhouse_bridge.statistics()["requests"]

    archive.insert(TABLE, {}, token="a")
    archive.insert(TABLE, messages([]), token="a")

    assert clickhouse_bridge.statistics()["requests"] == before


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (252, ArchiveUnavailableError),
        (241, ArchiveUnavailableError),
        (999, ArchiveUnavailableError),
        (4711, ArchiveUnavailableError),
        (60, ArchiveSchemaError),
        (16, ArchiveSchemaError),
        (516, ArchiveAuthError),
        (469, ArchiveRowError),
        (27, ArchiveRowError),
    ],
)
def test_each_class_of_errors(clickhouse_bridge: Bridge, archive, code, kind):
    clickhouse_bridge.fault("error", code=code)

    with pytest.raises(kind) as failed:
        archive.insert(TABLE, messages(["one"]), token="a")
    archive.insert(TABLE, messages(["one"]), token="a")

    assert type(failed.value) is kind
    assert failed.value.code == code
    assert raw(archive) == 1


def test_a_proxy_without_a_server_is_waited_for(clickhouse_bridge: Bridge, archive):
    clickhouse_bridge.fault("unavailable")

    with pytest.raises(ArchiveUnavailableError, match="503") as failed:
        archive.insert(TABLE, messages(["one"]), token="a")

    assert not failed.value.unexpected


def test_a_row_that_the_server_refuses_is_not_quoted_and_takes_none_along(archive, caplog):
    archive.execute(f"ALTER TABLE {TABLE} ADD CONSTRAINT short CHECK length(content) < 9")

    with pytest.raises(ArchiveRowError) as failed:
        archive.insert(TABLE, messages(["fine", "a long secret", "fine"]), token="a")

    assert failed.value.code == 469
    assert "secret" not in f"{failed.value} {failed.value!r} {caplog.text}"
    assert failed.value.__cause__ is None
    assert failed.value.__context__ is None
    assert raw(archive) == 0


def test_a_value_that_no_column_can_hold_never_reaches_the_driver(archive, caplog):
    rows = messages(["fine", "lone \ud800 secret"])

    with pytest.raises(ArchiveRowError) as failed:
        archive.insert(TABLE, rows, token="a")

    assert failed.value.row == 1
    assert "secret" not in f"{failed.value} {caplog.text}"
    assert raw(archive) == 0


def test_a_missing_table_raises_an_alarm_until_it_is_opened_again(archive):
    archive.execute(f"DROP TABLE {TABLE}")

    with pytest.raises(ArchiveSchemaError):
        archive.insert(TABLE, messages(["one"]), token="a")
    archive.open()
    archive.insert(TABLE, messages(["one"]), token="a")

    assert raw(archive) == 1


def test_a_wrong_password_raises_an_alarm_and_is_not_shown(clickhouses: ClickHouses, caplog):
    with_password = clickhouses.start(password="right") if not clickhouses.named else None
    server = with_password.url if with_password else clickhouses.named
    place = urlsplit(server or "").netloc.rpartition("@")[2]
    archive = ClickHouseArchive.from_url(f"clickhouse://default:wr0ng@{place}/x")

    with pytest.raises(ArchiveAuthError) as failed:
        archive.open()

    assert failed.value.code == 516
    assert "wr0ng" not in f"{failed.value} {archive!r} {caplog.text}"
    archive.close()
    if with_password:
        with_password.close()


def test_a_server_that_is_not_there_is_told_at_once():
    archive = ClickHouseArchive.from_url(NOWHERE)
    started = time.monotonic()

    with pytest.raises(ArchiveUnavailableError, match="ConnectionRefused") as failed:
        archive.open()

    assert not failed.value.unexpected
    assert time.monotonic() - started < 5


def test_a_server_that_dies_and_comes_back_is_used_again(own_clickhouse: Bridge):
    archive = ClickHouseArchive.from_url(Database(own_clickhouse.url).url(timeout=2))
    archive.open()
    archive.insert(TABLE, messages(["one"]), token="a")
    own_clickhouse.kill()

    started = time.monotonic()
    with pytest.raises(ArchiveUnavailableError):
        archive.insert(TABLE, messages(["two"]), token="b")
    with pytest.raises(ArchiveUnavailableError):
        raw(archive)
    assert time.monotonic() - started < 5
    own_clickhouse.start()
    archive.insert(TABLE, messages(["one"]), token="a")
    archive.insert(TABLE, messages(["two"]), token="b")

    assert raw(archive) == 2, "the token of before the kill still counts"
    archive.close()


def test_a_server_that_answers_nothing_costs_no_more_than_the_timeout(own_clickhouse: Bridge):
    archive = ClickHouseArchive.from_url(Database(own_clickhouse.url).url(timeout=0.5))
    archive.open()
    own_clickhouse.pause()

    started = time.monotonic()
    with pytest.raises(ArchiveUnavailableError):
        archive.insert(TABLE, messages(["one"]), token="a")
    with pytest.raises(ArchiveUnavailableError):
        archive.select("SELECT 1", timeout=0.1)

    assert time.monotonic() - started < 5
    own_clickhouse.resume()
    archive.close()


def test_a_slow_query_ends_with_its_deadline(archive):
    started = time.monotonic()

    with pytest.raises(ArchiveUnavailableError):
        archive.select("SELECT sleep(3)", timeout=0.25)

    assert time.monotonic() - started < 2.5
    assert archive.select("SELECT 1") == [(1,)]


def test_a_lost_request_is_not_printed_where_nobody_has_set_up_logging():
    script = f"""
from aiecs.core.errors import ArchiveUnavailableError
from aiecs.infrastructure.persistence.archive import ClickHouseArchive
try:
    ClickHouseArchive.from_url({NOWHERE!r}).open()
except ArchiveUnavailableError:
    print("told")
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert (run.stdout, run.stderr) == ("told\n", "")
