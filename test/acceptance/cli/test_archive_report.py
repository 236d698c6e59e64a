"""`aiecs archive report`: tables, bars and JSON of what a real archive holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.archive_rows import messages
from support.cli import Calls
from support.clickhouse import NOWHERE, Database

from aiecs.core.clock import from_micros, now_micros
from aiecs.infrastructure.persistence.archive import ClickHouseArchive
from aiecs.infrastructure.persistence.archive.reports import REPORTS

A_DAY = 86_400_000_000
NOW = now_micros()
"""When this run began. It may end on the next day, and no expectation depends on that."""
CONTENTS = ["Where is my parcel?", "In \x1b]Berlin.", "Thanks!"]


@pytest.fixture
def url(archive_database: Database) -> Iterator[str]:
    """An archive with three messages: two of five days ago, one of three days ago."""
    archive = ClickHouseArchive.from_url(archive_database.url())
    archive.open()
    columns = messages(CONTENTS)
    past = NOW - 5 * A_DAY
    columns |= {
        "created_at": [past, past, past + 2 * A_DAY],
        "user_id": ["ada", "ada", "bo"],
        "model": ["", "big", "small"],
        "input_tokens": [0, 20_000, 500],
        "cost_usd": ["0", "0.25", "0.000000001"],
        "latency_ms": [0, 1_200, 80],
        "error": [0, 0, 1],
    }
    archive.insert("context_conversations", columns, token="a")
    archive.close()
    return archive_database.url()


def day(ago: int) -> str:
    return from_micros(NOW - ago * A_DAY).date().isoformat()


def test_in_a_pipe_a_report_is_lines_with_tabs(cli: Calls, url: str):
    out, err = cli("archive", "report", "messages", "--archive", url)

    assert out.splitlines() == [
        "day\tmessages\tsessions",
        f"{day(5)}\t2\t1",
        f"{day(4)}\t0\t0",
        f"{day(3)}\t1\t1",
    ]
    assert err == f"archive: {url} (--archive)\n"


def test_on_a_terminal_there_are_bars_as_wide_as_it(cli: Calls, url: str):
    terminal = {"FORCE_COLOR": "1", "COLUMNS": "40"}

    out, _ = cli("archive", "report", "costs", "--archive", url, **terminal)

    bars = out.splitlines()[-2:]
    assert bars == [f"big ada  {'█' * 25} 0.25", "small bo ▏ 1e-09"]
    assert len(bars[0]) == 39


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("messages", ("--user", "bo"), [{"day": day(3), "messages": 1, "sessions": 1}]),
        (
            "costs",
            ("--limit", "1"),
            [
                {
                    "model": "big",
                    "user_id": "ada",
                    "messages": 1,
                    "input_tokens": 20_000,
                    "output_tokens": 0,
                    "tokens": 20_000,
                    "cost_usd": 0.25,
                }
            ],
        ),
        (
            "errors",
            ("--days", "5"),
            [{"day": day(3), "model": "small", "messages": 1, "errors": 1, "error_rate": 1.0}],
        ),
        (
            "latency",
            ("--user", "ada", "--session", "s"),
            [
                {
                    "model": "big",
                    "messages": 1,
                    "p50_ms": 1_200.0,
                    "p90_ms": 1_200.0,
                    "p99_ms": 1_200.0,
                    "longest_ms": 1_200,
                }
            ],
        ),
        ("messages", ("--session", "t"), []),
    ],
)
def test_json_has_the_rows_by_column(
    cli: Calls, url: str, name: str, options: tuple[str, ...], expected: list[Any]
):
    found = cli.json("archive", "report", name, "--archive", url, *options)

    assert found["rows"] == expected
    assert found["report"] == name
    assert found["archive"] == url
    assert [column["name"] for column in found["columns"]] == [
        column.name for column in REPORTS[name].columns
    ]


def test_a_search_shows_what_was_found(cli: Calls, url: str):
    found = cli.json("archive", "report", "search", "--text", "PARCEL", "--archive", url)
    out, _ = cli("archive", "report", "search", "--text", "berlin", "--archive", url)

    assert [row["excerpt"] for row in found["rows"]] == ["Where is my parcel?"]
    assert "In ]Berlin." in out, "what would steer the terminal is gone"
    assert "\x1b" not in out


def test_nothing_found_is_said_and_is_no_error(cli: Calls, url: str):
    out, err = cli("archive", "report", "search", "--text", "nowhere", "--archive", url)

    assert out == ""
    assert "nothing in the archive matches" in err


def test_the_archive_comes_from_the_settings_too(cli: Calls, archive_database: Database, url: str):
    _, err = cli("archive", "report", "messages", AIECS_ARCHIVE_URL=url)
    assert "(AIECS_ARCHIVE_URL)" in err

    host, port = url.partition("://")[2].partition("/")[0].rpartition("@")[2].split(":")
    settings = {"CLICKHOUSE_HOST": host, "CLICKHOUSE_PORT": port}
    settings["CLICKHOUSE_DATABASE"] = archive_database.name
    _, err = cli("archive", "report", "messages", CLICKHOUSE_ENABLED="true", **settings)
    assert "(the CLICKHOUSE_* settings)" in err
    _, err = cli("archive", "report", "messages", code=1, **settings)
    assert "error: no archive is named: --archive URL" in err


def test_without_a_name_the_reports_are_listed(cli: Calls):
    out, _ = cli("archive", "report")
    found = cli.json("archive", "report")

    assert [line.partition("\t")[0] for line in out.splitlines()] == ["report", *REPORTS]
    assert [one["name"] for one in found["reports"]] == list(REPORTS)
    assert found["reports"][0]["options"] == ["--days", "--user", "--session"]


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (2, ("nonsense",), "error: there is no report 'nonsense'; there are messages, costs"),
        (2, ("messages", "--text", "x"), "error: messages has no use for --text; it takes --days"),
        (2, ("messages", "--days", "0"), "error: days is 1 to 3,650"),
        (2, ("search",), "error: search needs --text WORDS"),
        (2, ("--days", "3"), "error: --days: of which report? one of messages, costs"),
        (1, ("messages",), "error: no archive is named"),
        (2, ("messages", "--archive", "sqlite:///a.db"), "error: an archive is clickhouse://"),
        (1, ("messages", "--archive", "chdb:///missing"), "error: there is no directory"),
    ],
)
def test_mistakes_are_one_line(cli: Calls, code: int, arguments: tuple[str, ...], message: str):
    out, err = cli("archive", "report", *arguments, code=code)

    assert out == ""
    assert message in err.splitlines()[-1]
    assert list(cli.directory.iterdir()) == []


def test_a_server_that_is_not_there_is_one_line_without_the_password(cli: Calls):
    url = NOWHERE.replace("//", "//ada:hunter2@")

    out, err = cli("archive", "report", "messages", "--archive", url, code=1)

    assert out == ""
    (said,) = err.splitlines()[1:]
    assert said.startswith(f"error: {NOWHERE} cannot be reached (ConnectionRefusedError); is it")


def test_json_is_json_alone(cli: Calls, url: str):
    out, _ = cli("archive", "report", "costs", "--archive", url, "--json", FORCE_COLOR="1")

    json.loads(out)
