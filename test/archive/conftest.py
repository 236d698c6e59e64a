"""An archive of the test's own, opened."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.clickhouse import Database

from aiecs.infrastructure.persistence.archive import ClickHouseArchive


@pytest.fixture
def archive(archive_database: Database) -> Iterator[ClickHouseArchive]:
    archive = ClickHouseArchive.from_url(archive_database.url())
    archive.open()
    yield archive
    archive.close()
