"""Servers of several processes, shared by the tests of this folder; each takes seconds to start."""

from __future__ import annotations

import pytest
from support import servers as real
from support.clusters import Cluster


@pytest.fixture(scope="session", params=real.names())
def cluster(request, servers):
    """Three primaries with a replica each. Tests that kill a node start a cluster of their own."""
    with Cluster(servers, request.param) as cluster:
        yield cluster
