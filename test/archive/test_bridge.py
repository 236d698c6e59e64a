"""The bridge to chDB answers as a ClickHouse server would, and goes wrong as told."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request

import clickhouse_connect
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, Error
from support.clickhouse import Bridge, ClickHouses

CREATE = "CREATE TABLE t (n UInt32, text String) ENGINE = MergeTree ORDER BY n"
VALUES = ["plain", "semi;colon", "nul\0", "line\nbreak", "quote'\"\\", "😀", ";" * 1000, ""]


def client(bridge: Bridge, **options):
    return clickhouse_connect.get_client(
        host="127.0.0.1",
        port=bridge.port,
        autogenerate_session_id=False,
        query_retries=0,
        **options,
    )


@pytest.fixture
def table(clickhouse_bridge: Bridge):
    with client(clickhouse_bridge) as connected:
        connected.command("DROP TABLE IF EXISTS t")
        connected.command(CREATE)
        yield connected
        connected.command("DROP TABLE t")


def count(connected) -> int:
    return connected.query("SELECT count() FROM t").result_rows[0][0]


@pytest.mark.parametrize("compress", ["lz4", "zstd", "gzip", False])
def test_values_come_back_as_they_were(clickhouse_bridge, table, compress):
    with client(clickhouse_bridge, compress=compress) as connected:
        rows = list(enumerate(VALUES))

        connected.insert("t", rows, column_names=["n", "text"])

        assert connected.query("SELECT n, text FROM t ORDER BY n").result_rows == rows


@pytest.mark.parametrize("value", VALUES)
def test_parameters_are_values_and_never_text_of_the_query(table, value):
    table.insert("t", [(1, value), (2, "other")], column_names=["n", "text"])

    found = table.query("SELECT n FROM t WHERE text = {text:String}", parameters={"text": value})

    assert found.result_rows == [(1,)]


def test_a_large_parameter_travels_in_a_form(table):
    value = "x;'" * 50_000
    table.insert("t", [(1, value)], column_names=["n", "text"])

    found = table.query("SELECT n FROM t WHERE text = {text:String}", parameters={"text": value})

    assert found.result_rows == [(1,)]


def test_large_answers_are_compressed_when_the_client_takes_it(table):
    table.insert("t", [(n, "x" * 100) for n in range(10_000)], column_names=["n", "text"])

    found = table.query("SELECT * FROM t ORDER BY n").result_rows

    assert (len(found), found[-1]) == (10_000, (9_999, "x" * 100))


def test_errors_have_the_numbers_of_clickhouse(table):
    with pytest.raises(DatabaseError) as failed:
        table.query("SELECT nothing FROM t")

    assert (failed.value.code, failed.value.name) == (47, "UNKNOWN_IDENTIFIER")


def test_settings_last_for_one_request(table):
    assert table.command("SELECT getSetting('max_threads')", settings={"max_threads": 3}) == 3
    assert table.command("SELECT getSetting('max_threads')", settings={"max_threads": 2}) == 2


def test_a_password_is_asked_for(clickhouses: ClickHouses):
    bridge = clickhouses.start(password="pass wörd")
    try:
        with client(bridge, password="pass wörd") as connected:
            assert connected.command("SELECT 1") == 1
        with pytest.raises(DatabaseError) as failed:
            client(bridge, password="wrong")
        assert failed.value.code == 516
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"http://127.0.0.1:{bridge.port}/?query=SELECT%201")
    finally:
        bridge.close()


# --- what goes wrong ------------------------------------------------------------------------------


def insert(connected, n: int) -> None:
    connected.insert(
        "t", [(n, "x")], column_names=["n", "text"], column_type_names=["UInt32", "String"]
    )


def test_an_error_strikes_as_often_as_told_and_applies_nothing(clickhouse_bridge, table):
    clickhouse_bridge.fault("error", code=252, times=2)

    for n in (1, 2):
        with pytest.raises(DatabaseError) as failed:
            insert(table, n)
        assert failed.value.code == 252
    insert(table, 3)

    assert count(table) == 1


def test_faults_leave_other_statements_alone(clickhouse_bridge, table):
    clickhouse_bridge.fault("error", code=252)

    assert count(table) == 0
    with pytest.raises(DatabaseError):
        insert(table, 1)


def test_unavailable_is_an_answer_without_a_number(clickhouse_bridge, table):
    clickhouse_bridge.fault("unavailable")

    with pytest.raises(Error) as failed:
        insert(table, 1)

    assert failed.value.code is None
    assert "503" in str(failed.value)


def test_a_lost_request_is_not_applied(clickhouse_bridge, table):
    clickhouse_bridge.fault("lose_request", times=2)  # the driver tries a second time

    with pytest.raises(Error):
        insert(table, 1)

    assert count(table) == 0


def test_a_lost_reply_hides_what_was_applied(clickhouse_bridge, table):
    clickhouse_bridge.fault("lose_reply", times=2)

    with pytest.raises(Error):
        insert(table, 1)

    assert count(table) == 2, "the driver has sent it twice"


def test_a_slow_insert_is_applied_late_though_nobody_waits_for_it(clickhouse_bridge, table):
    clickhouse_bridge.fault("slow", seconds=60)
    before = clickhouse_bridge.statistics()

    with client(clickhouse_bridge, send_receive_timeout=1) as impatient, pytest.raises(Error):
        insert(impatient, 1)
    assert count(table) == 0
    clickhouse_bridge.mend()
    clickhouse_bridge.wait_for(rows=before["rows"] + 1)

    assert count(table) == 1


def test_statistics_count_what_arrives_and_what_is_applied(clickhouse_bridge, table):
    before = clickhouse_bridge.statistics()

    table.insert("t", [(n, "x") for n in range(7)], column_names=["n", "text"])
    clickhouse_bridge.fault("error", code=60)
    with pytest.raises(DatabaseError):
        insert(table, 8)
    after = clickhouse_bridge.statistics()

    gained = {name: after[name] - before[name] for name in after}
    assert gained == {"requests": 3, "inserts": 2, "rows": 7, "faults": 1}, "one more: DESCRIBE"


def test_it_says_when_something_has_happened(clickhouse_bridge, table):
    before = clickhouse_bridge.statistics()["inserts"]
    later = threading.Thread(target=insert, args=(table, 1))

    later.start()
    found = clickhouse_bridge.wait_for(inserts=before + 1)
    later.join()

    assert found["inserts"] == before + 1


def test_acknowledged_rows_survive_a_kill(own_clickhouse: Bridge):
    with client(own_clickhouse) as connected:
        connected.command(CREATE)
        insert(connected, 1)
    own_clickhouse.restart()

    with client(own_clickhouse) as connected:
        assert count(connected) == 1


def test_a_client_that_dies_in_the_middle_of_an_insert_adds_nothing(clickhouse_bridge, table):
    def broken():
        yield b"INSERT INTO t (n, text) FORMAT TabSeparated\n1\tx\n"
        raise OSError("the client dies")

    with pytest.raises(Error, match="the client dies"):
        table.raw_insert(insert_block=broken())

    assert count(table) == 0
