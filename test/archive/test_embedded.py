"""The archive in a directory, without a server: the same promises, one process at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.embedded import begin, run


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"chdb:///{tmp_path}/new/archive"


def test_it_keeps_what_it_was_given_for_the_next_process(url):
    assert run("insert", url, "a", "one", "two") == ["2"]
    assert run("insert", url, "a", "one", "two") == ["2"]
    assert run("insert", url, "b", "three") == ["3"]


def test_content_comes_back_byte_for_byte(url):
    assert run("round_trip", url) == ["6"]


def test_what_it_acknowledged_survives_the_process(url):
    assert run("die", url, "a", "one") == ["inserted"]
    assert run("insert", url, "a", "one") == ["1"]


def test_a_second_process_is_told_who_is_in_the_way(url):
    with begin("hold", url) as first:
        assert first.stdout is not None
        assert first.stdin is not None
        assert first.stdout.readline() == "open\n"

        (said,) = run("fail", url)

        assert said.startswith("ArchiveInUseError chdb:////")
        assert "one process at a time" in said
        first.stdin.write("\n")
        first.stdin.flush()
        assert first.stdout.readline() == "closed\n"
        assert run("fail", url) == ["opened"]


def test_a_process_uses_one_directory_at_a_time(url, tmp_path: Path):
    said, then = run("second", url, f"chdb:///{tmp_path}/other")

    assert said.startswith("ArchiveSchemaError")
    assert "another embedded archive" in said
    assert then == "opened"


def test_failures_are_told_as_those_of_a_server(url):
    *reads, insert, found = run("refuse", url)

    assert reads == ["ArchiveQueryError", "ArchiveQueryError", "ArchiveUnavailableError"]
    assert insert.startswith("ArchiveRowError")
    assert "secret" not in insert
    assert found == "[('fine',)]"


def test_a_query_cannot_write(url):
    *refused, left = run("read", url)

    assert refused == ["ArchiveQueryError"] * 4
    assert left == "[('two',)]"


@pytest.mark.parametrize("options", ["", "?text_index=true"])
def test_it_has_the_same_reports(url, options):
    assert run("report", url + options) == ["(2, 1)", "['Where is my Parcel?']", "[(2,)]"]


def test_threads_share_it(url):
    assert run("threads", url) == ["40"]


def test_only_its_owner_sees_the_files(url):
    assert run("rights", url) == ["0o700"]


def test_what_a_failed_question_left_is_no_answer_to_the_next(url):
    assert run("fail_and_ask", url) == [
        "0 rows after an error",
        "0 rows after too many",
        "3 threads",
    ]
