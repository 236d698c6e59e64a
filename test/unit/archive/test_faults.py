"""Every answer of ClickHouse becomes the error that a shipper acts on, without quoting a row."""

from __future__ import annotations

import pickle
import ssl

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from urllib3.exceptions import ConnectTimeoutError, ProtocolError, SSLError

from aiecs.core.errors import (
    ArchiveAuthError,
    ArchiveError,
    ArchiveNewerError,
    ArchiveQueryError,
    ArchiveRowError,
    ArchiveSchemaError,
    ArchiveUnavailableError,
)
from aiecs.infrastructure.persistence.archive.faults import explain
from aiecs.infrastructure.persistence.archive.transport import NotSentError

READ_ONLY, FULL_DISK = 164, 243
PASSING = (159, 160, READ_ONLY, 202, 209, 210, 241, 242, 252, 279, 319, 425, 999)
ROWS = (6, 26, 27, 33, 38, 53, 69, 70, 72, 117, 131, 349, 469)


def said(code: int) -> DatabaseError:
    text = f"Code: {code}. DB::Exception: row holds 'the content'. (SOME_NAME)"
    return DatabaseError(text, code=code, name="SOME_NAME")


@pytest.mark.parametrize("code", [*PASSING, FULL_DISK])
@pytest.mark.parametrize("doing", ["open", "insert", "query"])
def test_what_passes_is_waited_for(code, doing):
    found = explain(said(code), doing, "t")

    is_answer = (code, doing) == (READ_ONLY, "query")
    expected = ArchiveQueryError if is_answer else ArchiveUnavailableError
    assert (type(found), found.code) == (expected, code)
    assert is_answer or not found.unexpected


@pytest.mark.parametrize("code", ROWS)
def test_row_faults_are_bisected(code):
    assert type(explain(said(code), "insert", "t")) is ArchiveRowError


@pytest.mark.parametrize("code", [16, 47, 60, 81])
def test_wrong_tables_raise_an_alarm(code):
    assert type(explain(said(code), "insert", "t")) is ArchiveSchemaError


@pytest.mark.parametrize("code", [192, 193, 194, 497, 516])
@pytest.mark.parametrize("doing", ["open", "insert", "query"])
def test_refused_credentials_raise_an_alarm(code, doing):
    assert type(explain(said(code), doing, "t")) is ArchiveAuthError


def test_an_unknown_number_is_waited_for_and_marked():
    found = explain(said(4711), "insert", "t")

    assert (type(found), found.code) == (ArchiveUnavailableError, 4711)
    assert found.unexpected


def test_while_opening_an_unknown_number_is_about_the_tables():
    assert type(explain(said(4711), "open", "t")) is ArchiveSchemaError


@pytest.mark.parametrize("code", [62, 60, 6, 4711])
def test_a_question_that_cannot_be_answered_is_its_own_fault(code):
    assert type(explain(said(code), "query", "t")) is ArchiveQueryError


def test_a_syntax_error_is_quoted_for_whoever_wrote_the_query():
    error = DatabaseError("Code: 62. DB::Exception: Syntax error: at FORM", code=62)

    assert "at FORM" in str(explain(error, "query", "t"))


@pytest.mark.parametrize("code", [*PASSING, *ROWS, 60, 516, 4711])
@pytest.mark.parametrize("doing", ["open", "insert"])
def test_nothing_of_a_row_is_quoted(code, doing):
    found = explain(said(code), doing, "the_table")

    assert "content" not in str(found)
    assert str(code) in str(found)
    assert "SOME_NAME" in str(found)
    assert "the_table" in str(found)


@pytest.mark.parametrize(
    ("status", "kind", "unexpected"),
    [
        (503, ArchiveUnavailableError, False),
        (429, ArchiveUnavailableError, False),
        (404, ArchiveUnavailableError, True),
        (403, ArchiveAuthError, None),
        (401, ArchiveAuthError, None),
    ],
)
def test_answers_of_a_proxy(status, kind, unexpected):
    found = explain(DatabaseError(f"HTTP driver received HTTP status {status}"), "insert", "t")

    assert type(found) is kind
    assert getattr(found, "unexpected", None) is unexpected


def lost(reason) -> OperationalError:
    error = OperationalError("Error executing HTTP request")
    error.__cause__ = NotSentError(reason)
    return error


@pytest.mark.parametrize(
    "reason",
    [
        ProtocolError("Connection aborted.", ConnectionResetError(104, "reset")),
        ConnectTimeoutError("slow"),
    ],
)
def test_a_lost_connection_is_waited_for(reason):
    found = explain(lost(reason), "insert", "t")

    assert type(found) is ArchiveUnavailableError
    assert not found.unexpected


def test_a_server_that_talks_nonsense_is_marked():
    error = OperationalError("Unexpected response to server version query: 'hello'")

    found = explain(error, "open", "t")

    assert (type(found), found.unexpected) == (ArchiveUnavailableError, True)


def test_a_certificate_that_nobody_trusts_raises_an_alarm():
    reason = SSLError(ssl.SSLCertVerificationError(1, "self-signed certificate"))

    assert type(explain(lost(reason), "open", "t")) is ArchiveAuthError


@pytest.mark.parametrize(
    "error",
    [
        ArchiveError("m", code=1),
        ArchiveUnavailableError("m", code=2, unexpected=True),
        ArchiveRowError("m", row=7),
        ArchiveNewerError("m"),
    ],
)
def test_the_errors_travel_between_processes(error):
    found = pickle.loads(pickle.dumps(error))

    assert (type(found), str(found), vars(found)) == (type(error), "m", vars(error))
