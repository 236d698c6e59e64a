"""Queries read only, take values by parameters alone, and need an archive that is open here."""

from __future__ import annotations

import os

import pytest
from support.archive_rows import messages

from aiecs.core.errors import ArchiveQueryError, InvalidInputError, LifecycleError
from aiecs.infrastructure.persistence.archive import ClickHouseArchive

TABLE = "context_conversations"


@pytest.mark.parametrize(
    "query",
    ["SELECT nothing FROM context_sessions", "SELECT FROM", "SELECT * FROM nowhere"],
)
def test_a_wrong_query_is_told_from_a_wrong_archive(archive, query):
    with pytest.raises(ArchiveQueryError):
        archive.select(query)


@pytest.mark.parametrize(
    "query", ["DROP TABLE context_sessions", "INSERT INTO context_sessions VALUES ()", "", "/**/"]
)
def test_a_query_reads_only(archive, query):
    with pytest.raises(ArchiveQueryError):
        archive.select(query)

    assert archive.select("SELECT count() FROM context_sessions") == [(0,)]


@pytest.mark.parametrize("name", ["absent", "x}", "$x$"])
def test_parameters_need_their_places(archive, name):
    with pytest.raises(InvalidInputError):
        archive.select("SELECT {x:String} LIKE '%a%'", {name: "x"})


def test_percent_signs_mean_what_they_say(archive):
    found = archive.select("SELECT {x:String} LIKE '%a%', '%s %(x)s'", {"x": "bab"})

    assert found == [(1, "%s %(x)s")]


@pytest.mark.parametrize("table", ["nowhere", "context_sessions; DROP TABLE x", "system.tables"])
def test_only_declared_tables_are_written(archive, table):
    with pytest.raises(InvalidInputError):
        archive.insert(table, {"session_id": ["s"]}, token="a")


# --- life -----------------------------------------------------------------------------------------


def test_before_open_and_after_close_nothing_is_done(archive_database):
    archive = ClickHouseArchive.from_url(archive_database.url())
    with pytest.raises(LifecycleError):
        archive.select("SELECT 1")
    archive.open()
    archive.close()
    archive.close()
    with pytest.raises(LifecycleError):
        archive.insert(TABLE, messages(["x"]), token="a")

    archive.open()
    assert archive.select("SELECT 1") == [(1,)]
    archive.close()


def test_a_forked_child_is_told_to_open_its_own(archive, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as forked:
        forked.setattr(os, "getpid", lambda: 1)
        with pytest.raises(LifecycleError, match="fork"):
            archive.select("SELECT 1")
        with pytest.raises(LifecycleError, match="fork"):
            archive.insert(TABLE, messages(["x"]), token="a")

    assert archive.select("SELECT 1") == [(1,)]
