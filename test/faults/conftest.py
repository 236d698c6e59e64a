"""Servers and files that a test may break."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import servers as real


@pytest.fixture(params=real.names())
def own_server(request: pytest.FixtureRequest, servers: real.Servers) -> Iterator[real.Server]:
    """A server of the test's own that forgets nothing it acknowledged."""
    server = servers.start(request.param, aof=True)
    yield server
    server.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of the test's own."""
    return tmp_path / "store.db"
