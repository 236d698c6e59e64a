"""`aiecs archive ship`: from a process of its own, once or until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import Iterator

import pytest
from support import servers as real
from support.archiving import poison, texts, write
from support.cli import Calls, Cli, Processes
from support.clickhouse import NOWHERE, Bridge, ClickHouses, Database

from aiecs import ContextEngine
from aiecs.core import registry
from aiecs.core.settings import load_settings
from aiecs.infrastructure.persistence.archive import leases

SAID = [f"message {number} ; \0 é" for number in range(20)]


@pytest.fixture(autouse=True)
def shipped_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines of this process do not ship; the setting does not hold for who is told to."""
    monkeypatch.setenv("AIECS_ARCHIVE_SHIP", "false")


@pytest.fixture(params=["sqlite", *real.names()])
def store(request, servers, prefix, tmp_path, monkeypatch) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("AIECS_KEY_PREFIX", prefix.strip(":"))
    return servers.shared(request.param).url


@pytest.fixture
def file(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/store.db"


def ship(cli: Cli, store: str, archive: str, *options: str, code: int = 0, **env: str):
    where = ("--store", store, "--archive", archive)
    return cli("archive", "ship", *where, *options, code=code, **env)


@contextlib.contextmanager
def shipping(
    processes: Processes, store: str, archive: str, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    command = ("archive", "ship", "--store", store, "--archive", archive, *options)
    process = processes.start(*command)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def groups_held(url: str) -> int:
    store = registry.open_store(url, load_settings())
    try:
        return await leases.held(store)
    finally:
        await store.close()


def test_once_brings_in_all_that_waits(cli: Calls, store: str, archive_database: Database):
    url = archive_database.url()
    asyncio.run(write(store, url, SAID))

    out, err = ship(cli, store, url, "--once")

    assert out == "shipped 21 events; 0 waiting, 0 dead\n"
    assert texts(url) == SAID
    assert f"archive: {url} (--archive)" in err
    assert asyncio.run(groups_held(store)) == 0


async def test_it_ships_beside_an_engine_until_a_signal(
    processes: Processes, store: str, archive_database: Database
):
    url = archive_database.url()
    async with ContextEngine(store=store, archive=url, operation_timeout=10) as engine:
        await engine.create_session("s")
        with shipping(processes, store, url, "--linger", "0.05") as process:
            for text in SAID:
                await engine.add_conversation_message("s", "user", text)
            await engine.archive_barrier("s", timeout=30)
            assert await groups_held(store) == leases.GROUPS
            process.send_signal(signal.SIGTERM)
            out, err = await asyncio.to_thread(process.communicate)

        assert (process.returncode, out) == (0, b"shipped 21 events; 0 waiting, 0 dead\n")
        assert b"waiting" in err, "it tells how it goes"
        assert not any(text[:9].encode() in err for text in SAID)
        assert await groups_held(store) == 0
    assert await asyncio.to_thread(texts, url) == SAID


async def test_what_is_under_way_is_finished(
    processes: Processes, file: str, own_clickhouse: Bridge
):
    url = own_clickhouse.url
    with shipping(processes, file, url) as process:
        out, err = await asyncio.to_thread(process.communicate)
    assert (process.returncode, out) == (1, b"")
    assert b"does not exist" in err, "no file is made only to find it empty"

    await write(file, url, SAID)
    own_clickhouse.fault("slow", seconds=60)
    with shipping(processes, file, url) as process:
        await asyncio.to_thread(own_clickhouse.wait_for, faults=1)
        process.send_signal(signal.SIGINT)
        own_clickhouse.mend()
        out, err = await asyncio.to_thread(process.communicate)

    assert process.returncode == 0, err
    assert await asyncio.to_thread(texts, url) == SAID
    assert await groups_held(file) == 0


def test_several_share_the_work(
    processes: Processes,
    servers: real.Servers,
    prefix: str,
    archive_database: Database,
    monkeypatch,
):
    monkeypatch.setenv("AIECS_KEY_PREFIX", prefix.strip(":"))
    store, url = servers.shared("valkey").url, archive_database.url()
    sessions = [f"session {number}" for number in range(8)]
    asyncio.run(write(store, url, SAID, *sessions))

    with contextlib.ExitStack() as stack:
        several = [stack.enter_context(shipping(processes, store, url, "--once")) for _ in range(2)]
        told = [process.communicate() for process in several]

    assert [process.returncode for process in several] == [0, 0], told
    shipped = sum(int(out.split()[1]) for out, _ in told)
    assert shipped == len(sessions) * (len(SAID) + 1)
    assert sorted(texts(url)) == sorted(SAID * len(sessions))


def test_an_archive_that_is_down_costs_a_failure_and_no_event(
    cli: Calls, file: str, archive_database: Database
):
    url = archive_database.url()
    asyncio.run(write(file, url, SAID))

    out, err = ship(cli, file, NOWHERE.replace("//", "//ada:hunter2@"), "--once", code=1)

    assert out == "shipped 0 events; 21 waiting, 0 dead\n"
    assert "error: not all is in: " in err.splitlines()[-1]
    assert "cannot be reached" in err.splitlines()[-1]
    assert "hunter2" not in err
    found = cli.json("archive", "ship", "--once", "--store", file, "--archive", url)
    assert found == {"shipped": 21, "waiting": 0, "dead": 0, "all_in": True}
    assert texts(url) == SAID


def test_a_wrong_password_is_an_alarm(cli: Calls, file: str, clickhouses: ClickHouses):
    locked = clickhouses.start(password="hunter2")
    asyncio.run(write(file, locked.url, SAID))

    _, err = ship(cli, file, locked.url.replace("hunter2", "hunter3"), "--once", code=1)

    assert "ArchiveAuthError" in err.splitlines()[-1]
    assert "hunter" not in err
    ship(cli, file, locked.url, "--once", FORCE_COLOR="1")
    locked.close()


def test_events_that_are_not_taken_are_no_success(
    cli: Calls, file: str, archive_database: Database
):
    url = archive_database.url()
    poison(url)
    asyncio.run(write(file, url, ["one", "poison", "two"]))

    out, err = ship(cli, file, url, "--once", code=1)

    assert out == "shipped 3 events; 0 waiting, 1 dead\n"
    assert "1 events" in err.splitlines()[-1]
    assert "poison" not in err
    assert texts(url) == ["one", "two"]


def test_mistakes_are_one_line(cli: Calls, file: str):
    _, err = ship(cli, "memory://", NOWHERE, code=1)
    assert "error: a store in memory" in err.splitlines()[-1]
    asyncio.run(write(file, NOWHERE, ["one"]))
    _, err = ship(cli, file, "sqlite:///a.db", code=2)
    assert "error: an archive is clickhouse://" in err.splitlines()[-1]
    _, err = cli("archive", "ship", "--store", file, code=1)
    assert "error: no archive is named" in err.splitlines()[-1]
