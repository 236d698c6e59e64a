"""A process that is forked beside an open archive: it is the parent's."""

from __future__ import annotations

import os

import pytest

from aiecs.core.errors import LifecycleError
from aiecs.infrastructure.persistence.archive import ClickHouseArchive


def test_a_forked_child_does_not_use_the_connections_of_its_parent(archive, monkeypatch):
    with monkeypatch.context() as child, archive._lock:  # as a thread of the parent may hold it
        child.setattr(os, "getpid", lambda: -1)
        with pytest.raises(LifecycleError, match="forked"):
            archive.open()
        with pytest.raises(LifecycleError, match="forked"):
            archive.select("SELECT 1")
        archive.close()
    assert archive.select("SELECT 1") == [(1,)]


def test_what_was_only_named_before_a_fork_is_the_childs_own(archive_database, monkeypatch):
    archive = ClickHouseArchive.from_url(archive_database.url())
    monkeypatch.setattr(os, "getpid", lambda: -1)
    archive.open()
    assert archive.select("SELECT 1") == [(1,)]
    archive.close()
