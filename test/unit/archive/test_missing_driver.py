"""Without its optional packages an archive says which command installs them."""

from __future__ import annotations

import sys

import pytest

from aiecs.core.errors import MissingExtraError
from aiecs.infrastructure.persistence.archive import ClickHouseArchive


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("clickhouse://127.0.0.1:1/x", "clickhouse_connect", "clickhouse"),
        ("chdb:///nowhere", "clickhouse_connect", "chdb"),
        ("chdb:///nowhere", "chdb", "chdb"),
    ],
)
def test_the_command_is_named(monkeypatch: pytest.MonkeyPatch, url, package, extra):
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(MissingExtraError, match=rf"aiecs-context-engine\[{extra}\]"):
        ClickHouseArchive.from_url(url).open()
