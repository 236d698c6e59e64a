"""Reports count each message once, over the days, users and sessions that were asked for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from support.clickhouse import Bridge, Database

from aiecs.core.clock import to_micros
from aiecs.core.errors import ArchiveQueryError, ArchiveUnavailableError, InvalidInputError
from aiecs.infrastructure.persistence.archive import ClickHouseArchive
from aiecs.infrastructure.persistence.archive.read_only import read_only
from aiecs.infrastructure.persistence.archive.reports import (
    MOST_ROWS,
    REPORTS,
    query,
    run_report,
)

TABLE = "context_conversations"
NOW = datetime.now(UTC)
"""When this run began. It may end on the next day, and no expectation depends on that."""


def insert(archive: ClickHouseArchive, *rows: dict[str, Any], token: str = "a") -> None:
    """Messages; each is of the session "s" and of three days ago unless it says otherwise."""
    usual = {
        "session_id": "s",
        "parent_session_id": "",
        "user_id": "ada",
        "role": "user",
        "content": "",
        "model": "",
        "input_tokens": 0,
        "output_tokens": 0,
        "cost_usd": 0,
        "latency_ms": 0,
        "error": 0,
        "incarnation": "one",
        "version": 1,
    }
    columns: dict[str, list[Any]] = {name: [] for name in (*usual, "seq", "event_id", "created_at")}
    for number, row in enumerate(rows, 1):
        days = row.get("days_ago", 3)
        stamps = {
            "seq": number,
            "event_id": UUID(int=number),
            "created_at": to_micros(NOW - timedelta(days=days)),
        }
        for name, values in columns.items():
            values.append(({**usual, **stamps} | row)[name])
    archive.insert(TABLE, columns, token=token)


def day(ago: int) -> Any:
    return (NOW - timedelta(days=ago)).date()


@pytest.fixture
def doubled(archive: ClickHouseArchive) -> ClickHouseArchive:
    """Seven messages, each of which arrived twice, and merges are not awaited."""
    archive.execute(f"SYSTEM STOP MERGES {TABLE}")
    rows = [
        {"content": "How long?", "days_ago": 5},
        {"model": "big", "input_tokens": 70, "output_tokens": 30, "cost_usd": 2, "days_ago": 5},
        {"model": "big", "input_tokens": 7, "cost_usd": "0.000000001", "error": 1},
        {"model": "small", "input_tokens": 1, "session_id": "t", "user_id": "bo"},
        {"session_id": "agents", "parent_session_id": "s", "user_id": ""},
        {"model": "old", "input_tokens": 9, "days_ago": 40},
        {"model": "ahead", "input_tokens": 9, "days_ago": -2},
    ]
    insert(archive, *rows, token="a")
    insert(archive, *rows, token="b")
    assert archive.select(f"SELECT count() FROM {TABLE}") == [(14,)], "as they are before a merge"
    return archive


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [(5, 2, 1), (4, 0, 0), (3, 3, 2)]),
        ({"days": 5}, [(3, 3, 2)]),
        ({"user_id": "bo"}, [(3, 1, 1)]),
        ({"session_id": "s"}, [(5, 2, 1), (4, 0, 0), (3, 2, 1)]),
        ({"session_id": "s'; DROP"}, []),
    ],
)
def test_messages_per_day(doubled, given, expected):
    found = run_report(doubled, "messages", given)

    assert found.rows == [(day(ago), count, sessions) for ago, count, sessions in expected]
    assert [column.name for column in found.columns] == ["day", "messages", "sessions"]
    assert (found.label, found.value) == (("day",), "messages")
    assert found.parameters == {"days": 30, "user_id": "", "session_id": ""} | given


def test_costs_per_model_and_user(doubled):
    found = run_report(doubled, "costs")

    assert found.rows == [
        ("big", "ada", 2, 77, 30, 107, Decimal("2.000000001")),
        ("small", "bo", 1, 1, 0, 1, Decimal(0)),
    ]
    assert run_report(doubled, "costs", {"limit": 1}).rows == found.rows[:1]
    assert [row[0] for row in run_report(doubled, "costs", {"days": 90}).rows] == [
        "big",
        "old",
        "small",
    ]


def test_errors_per_day_and_model(doubled):
    found = run_report(doubled, "errors")

    assert found.rows == [
        (day(3), "big", 1, 1, 1.0),
        (day(3), "small", 1, 0, 0.0),
        (day(5), "big", 1, 0, 0.0),
    ]


def test_percentiles_of_the_latency(archive):
    rows = [{"model": "big", "latency_ms": number} for number in range(1, 102)]
    insert(archive, *rows, {"model": "small", "latency_ms": 3_000}, {"model": "none"})

    found = run_report(archive, "latency")

    assert found.rows == [("small", 1, 3_000, 3_000, 3_000, 3_000), ("big", 101, 51, 91, 100, 101)]


@pytest.mark.parametrize("name", REPORTS)
def test_an_empty_archive_has_empty_reports(archive, name):
    given = {"text": "word"} if name == "search" else {}

    found = run_report(archive, name, given)

    assert found.rows == []
    assert found.report == name


@pytest.mark.parametrize("name", [name for name in REPORTS if name != "search"])
def test_rows_have_the_declared_columns(doubled, name):
    insert(doubled, {"model": "big", "latency_ms": 5, "error": 1}, token="c")
    types = {"date": "date", "int": "int", "str": "str", "float": "float", "decimal": "Decimal"}

    (row, *_) = run_report(doubled, name).rows

    assert [type(value).__name__ for value in row] == [
        types[column.type] for column in REPORTS[name].columns
    ]


def test_what_was_erased_is_in_no_report(doubled):
    doubled.execute(f"SYSTEM START MERGES {TABLE}")  # a deletion waits for its own
    doubled.execute(f"DELETE FROM {TABLE} WHERE session_id = {{id:String}}", {"id": "t"})

    assert [row[0] for row in run_report(doubled, "costs").rows] == ["big"]


# --- search ---------------------------------------------------------------------------------------

CONTENTS = [
    "Where is my Parcel? It left BERLIN.",
    "The parcel is in Berlin-Mitte",
    "parcels to berlin",
    "Größe 38, Paket nach Köln",
    "x" * 500 + " needle " + "y" * 500,
    "100%_safe 'quotes' \\ and {word_0:String}",
]


@pytest.fixture(params=["false", "true", "later"])
def searched(request: pytest.FixtureRequest, archive_database: Database) -> Iterator[Any]:
    """An archive without the text index, with it, and with it for half of the rows only."""
    url = archive_database.url(text_index="false" if request.param == "later" else request.param)
    archive = ClickHouseArchive.from_url(url)
    archive.open()
    rows = [{"content": text, "days_ago": 9 - place} for place, text in enumerate(CONTENTS)]
    insert(archive, *rows, token="a")
    if request.param == "later":
        archive.close()
        archive = ClickHouseArchive.from_url(archive_database.url(text_index="true"))
        archive.open()
    insert(archive, *rows, token="b")
    yield archive
    archive.close()


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("parcel", [1, 0]),
        ("PARCEL berlin", [1, 0]),
        ("berlin", [2, 1, 0]),
        ("berlin, parcels!", [2]),
        ("parce", []),
        ("größe", [3]),
        ("Needle", [4]),
        ("100 safe quotes", [5]),
        ("'quotes' word_0", [5]),
        ("word", [5]),
        ("nowhere parcel", []),
    ],
)
def test_words_are_found_in_any_case_the_latest_first(searched, text, places):
    found = run_report(searched, "search", {"text": text})

    assert [row[4][:9] for row in found.rows if len(row[4]) < 100] == [
        CONTENTS[place][:9] for place in places if len(CONTENTS[place]) < 100
    ]
    assert len(found.rows) == len(places), "each once, though it arrived twice"


def test_a_search_shows_the_place_and_not_the_whole(searched):
    ((*_, excerpt),) = run_report(searched, "search", {"text": "needle"}).rows

    assert "needle" in excerpt
    assert len(excerpt) == 240


def test_a_search_is_limited_to_users_sessions_days_and_rows(searched):
    insert(searched, {"content": "parcel", "user_id": "bo", "session_id": "t", "days_ago": 1})

    def sessions(**given: Any) -> list[str]:
        return [row[1] for row in run_report(searched, "search", {"text": "parcel"} | given).rows]

    assert sessions() == ["s", "s"], "an insert with a token of before adds nothing"
    insert(searched, {"content": "parcel", "user_id": "bo", "session_id": "t"}, token="c")
    assert sessions() == ["t", "s", "s"]
    assert sessions(user_id="ada") == ["s", "s"]
    assert sessions(session_id="t") == ["t"]
    assert sessions(days=5) == ["t"]
    assert sessions(limit=2) == ["t", "s"]


def test_a_search_uses_the_index_when_there_is_one(archive_database, clickhouse_bridge: Bridge):
    for wanted, function in (("false", "hasTokenCaseInsensitive"), ("true", "hasAllTokens")):
        archive = ClickHouseArchive.from_url(archive_database.url(text_index=wanted))
        archive.open()
        before = clickhouse_bridge.statistics()["faults"]
        clickhouse_bridge.fault("error", code=159, match=function)

        with pytest.raises(ArchiveUnavailableError):
            run_report(archive, "search", {"text": "word"})

        assert clickhouse_bridge.statistics()["faults"] == before + 1
        archive.close()


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("nonsense", {}, "there are messages, costs, errors, latency, search"),
        ("messages", {"limit": 1}, "takes days, user_id, session_id"),
        ("messages", {"days": 0}, "days is 1 to 3,650"),
        ("messages", {"days": 3_651}, "days is 1 to 3,650"),
        ("messages", {"days": "7"}, "days is of type int"),
        ("messages", {"days": True}, "days is of type int"),
        ("messages", {"user_id": None}, "needs user_id"),
        ("messages", {"user_id": "x" * 1_025}, "user_id is 0 to 1,024 characters"),
        ("messages", {"user_id": "\ud800"}, "lone surrogate"),
        ("costs", {"limit": 1_001}, "limit is 1 to 1,000"),
        ("search", {}, "needs text"),
        ("search", {"text": ""}, "text is 1 to 1,000 characters"),
        ("search", {"text": "?! --"}, "1 to 16 different words"),
        ("search", {"text": " ".join(map(str, range(17)))}, "1 to 16 different words"),
    ],
)
def test_bad_parameters_never_reach_the_archive(name, given, said):
    never_opened = ClickHouseArchive.from_url("clickhouse://nowhere")

    with pytest.raises(InvalidInputError, match=said):
        run_report(never_opened, name, given)


def test_a_report_that_takes_too_long_ends(clickhouse_bridge: Bridge, archive):
    clickhouse_bridge.fault("slow", match="count()", seconds=60)

    with pytest.raises(ArchiveUnavailableError):
        run_report(archive, "messages", timeout=0.2)


# --- questions of one's own -----------------------------------------------------------------------


def test_a_question_of_ones_own_reads(doubled):
    sql = (
        f"SELECT role, uniqExact(event_id) FROM {TABLE} WHERE user_id = {{who:String}} GROUP BY 1;"
    )

    assert query(doubled, sql, {"who": "ada"}) == [("user", 5)]


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        (123, None),
        (None, None),
        (b"SELECT 1", None),
        ("SELECT '\ud800'", None),
        ("SELECT {a:String}", {"a": "\ud800"}),
        ("SELECT {a:String}", {1: "x"}),
        ("SELECT {a:String}", [("a", "x")]),
    ],
)
def test_a_question_of_the_wrong_kind_is_refused(archive, sql, parameters):
    with pytest.raises(InvalidInputError):
        query(archive, sql, parameters)
    with pytest.raises(InvalidInputError, match="there is no report"):
        run_report(archive, ["costs"])


def test_a_question_with_a_million_rows_and_more_ends_before_they_come(archive):
    assert len(query(archive, f"SELECT number FROM numbers({MOST_ROWS})")) == MOST_ROWS
    with pytest.raises(ArchiveQueryError, match="396"):
        query(archive, "SELECT number FROM numbers(100000000)")


def test_a_question_that_writes_never_reaches_the_archive():
    never_opened = ClickHouseArchive.from_url("clickhouse://nowhere")

    for sql in ("DROP TABLE x", "SELECT 1; DROP TABLE x", "SELECT * FROM url('http://x')"):
        with pytest.raises(InvalidInputError, match="a question to the archive"):
            query(never_opened, sql)


def test_every_function_of_the_engine_that_makes_tables_is_known(archive):
    """A new one has to be looked at: does it reach out of the archive?"""
    names = {name for (name,) in archive.select("SELECT name FROM system.table_functions")}

    assert {name for name in names if is_let_through(f"SELECT * FROM {name}()")} <= HARMLESS


def is_let_through(sql: str) -> bool:
    try:
        read_only(sql)
    except InvalidInputError:
        return False
    return True


HARMLESS = {
    *("SQLStandardValues", "dictionary", "format", "fuzzJSON", "fuzzQuery", "generateRandom"),
    *("generateSeries", "generate_series", "input", "loop", "merge", "null", "numbers"),
    *("mergeTreeAnalyzeIndexes", "mergeTreeAnalyzeIndexesUUID", "mergeTreeIndex"),
    *("mergeTreeProjection", "mergeTreeTextIndex", "numbers_mt", "primes", "prometheusQuery"),
    *("prometheusQueryRange", "timeSeriesData", "timeSeriesMetrics", "timeSeriesSelector"),
    *("timeSeriesTags", "values", "view", "viewExplain", "viewIfPermitted", "zeros", "zeros_mt"),
}
