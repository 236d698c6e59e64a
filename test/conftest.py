"""What every test may rely on: a clean environment, real servers, and nothing left running."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from support import clickhouse
from support import servers as real

_FOREIGN = ("REDIS_", "AIECS_", "CLICKHOUSE_")
_KEPT = "AIECS_SPEC"  # where the specification lies, for the tests that run its samples
_CLICKHOUSES = pytest.StashKey[clickhouse.ClickHouses]()
_BRIDGED = ("clickhouse_bridge", "own_clickhouse")
_GIVEN = pytest.StashKey[dict[str, str]]()
_MEASURED = pytest.StashKey[list[str]]()
_SERVERS = pytest.StashKey[real.Servers]()
_THREADS = pytest.StashKey[set[threading.Thread]]()
_ENDING_SECONDS = 2.0
_TITLES = pytest.StashKey[set[str]]()
_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_CLICKHOUSES] = clickhouse.ClickHouses(os.environ.get(clickhouse.VARIABLE))
    foreign = [name for name in os.environ if name.startswith(_FOREIGN) and name != _KEPT]
    config.stash[_GIVEN] = {name: os.environ.pop(name) for name in foreign}
    config.stash[_SERVERS] = real.Servers()
    config.stash[_MEASURED] = []
    config.stash[_TITLES] = set()


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_SERVERS].close()
    config.stash[_CLICKHOUSES].close()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for line in config.stash[_MEASURED]:
        terminalreporter.write_line(line)
    used = config.stash[_TITLES] | _titles(config)
    if used:
        terminalreporter.write_line(f"Real servers in this run: {', '.join(sorted(used))}")


def _titles(config: pytest.Config) -> set[str]:
    servers = {real.title(name) for name in config.stash[_SERVERS].used}
    return servers.union(config.stash[_CLICKHOUSES].titles())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that prints the summary, where this one is a worker of it."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["measured"] = session.config.stash[_MEASURED]
        output["titles"] = sorted(_titles(session.config))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    told = getattr(node, "workeroutput", {})
    node.config.stash[_MEASURED] += told.get("measured", [])
    node.config.stash[_TITLES].update(told.get("titles", ()))


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> real.Servers:
    """Starts real servers; those of `start` are the test's own and die with the run."""
    return pytestconfig.stash[_SERVERS]


@pytest.fixture(scope="session")
def given_environment(pytestconfig: pytest.Config) -> dict[str, str]:
    """The variables that were taken out of the environment, for tests that go by them."""
    return pytestconfig.stash[_GIVEN]


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Notes what a test has counted and does not assert; the end of the run prints it."""
    lines = request.config.stash[_MEASURED]
    return lambda line: lines.append(f"{request.node.name}: {line}")


@pytest.fixture(params=real.names())
def server(request: pytest.FixtureRequest, servers: real.Servers) -> real.Server:
    """Each server present, shared by all tests: take a `prefix`, leave others' keys alone."""
    return servers.shared(request.param)


@pytest.fixture(scope="session")
def clickhouses(pytestconfig: pytest.Config) -> clickhouse.ClickHouses:
    """The ClickHouse servers of this run."""
    return pytestconfig.stash[_CLICKHOUSES]


@pytest.fixture
def clickhouse_bridge(clickhouses: clickhouse.ClickHouses) -> Iterator[clickhouse.Bridge]:
    """The shared ClickHouse, for faults; without a fault left when the test ends."""
    bridge = clickhouses.shared_bridge()
    yield bridge
    bridge.mend()


@pytest.fixture
def own_clickhouse(clickhouses: clickhouse.ClickHouses) -> Iterator[clickhouse.Bridge]:
    """A ClickHouse of the test's own, to be killed and started again."""
    bridge = clickhouses.start()
    yield bridge
    bridge.close()


@pytest.fixture
def archive_database(clickhouses: clickhouse.ClickHouses) -> Iterator[clickhouse.Database]:
    """A database of the test's own in the shared ClickHouse; it does not exist yet."""
    database = clickhouse.Database(clickhouses.url())
    yield database
    database.drop()


@pytest.fixture
def prefix() -> str:
    """A key prefix that no other test uses."""
    return f"test{next(_numbers)}:"


# --- nothing is left behind ---------------------------------------------------------------------


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.stash[_CLICKHOUSES].named:  # a real server has no faults on demand
        bridged = [item for item in items if set(_BRIDGED) & set(item.fixturenames)]
        config.hook.pytest_deselected(items=bridged)
        items[:] = [item for item in items if item not in bridged]
    for item in items:
        if inspect.iscoroutinefunction(getattr(item, "obj", None)):
            # First, so that it looks when all other fixtures are gone and the loop still runs.
            item.fixturenames.insert(0, "_no_task_left")  # type: ignore[attr-defined]


@pytest.fixture
async def _no_task_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    left = {task for task in asyncio.all_tasks() - before if not task.done()}
    left.discard(asyncio.current_task())  # type: ignore[arg-type]
    assert not left, f"tasks left running: {left}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    item.stash[_THREADS] = set(threading.enumerate())
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    result = yield
    left = [thread for thread in threading.enumerate() if thread not in item.stash[_THREADS]]
    for thread in left:
        thread.join(_ENDING_SECONDS)  # one that has been told to end may still be about to
    left = [thread for thread in left if thread.is_alive()]
    assert not left, f"threads left running: {left}"
    return result
