"""Writers and shippers that are killed: what was acknowledged is in the archive, once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import archiving
from support import servers as real
from support.clickhouse import Database

from aiecs.core import registry
from aiecs.core.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
KILLS = 20
TASKS = 8
POINTS = ("cut", "noted", "inserted", "frozen", "inserted")
"""So that at each one some manifests are new, and others what the one before has left."""
SAID = [f"message {number}" for number in range(40)]
SESSIONS = [f"session {number}" for number in range(TASKS)]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it forks")


@pytest.fixture(params=["sqlite", "valkey"])
def store(request, servers: real.Servers, prefix, tmp_path, monkeypatch) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("AIECS_KEY_PREFIX", prefix.strip(":"))
    return servers.shared(request.param).url


class Victims:
    """A process whose forks do one job after the other, and are killed at it."""

    def __init__(self, store: str, archive: str) -> None:
        self.store, self.archive = store, archive
        self._process = subprocess.Popen(
            [sys.executable, ROOT / "test/support/archive_child.py", store, archive],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )

    def killed(self, job: str, lines: int) -> list[str]:
        """What a job says until it is killed, which it is after so many lines, or has ended."""
        pid = self._begin(job)
        said = []
        while len(said) < lines and not self._is_over(line := self._line()):
            said.append(line)
        if len(said) == lines:
            os.kill(pid, signal.SIGKILL)
            while not self._is_over(line := self._line()):
                said.append(line)
        asyncio.run(self._let_leases_run_out())
        return said

    def done(self, job: str) -> None:
        """Let a job come to its end."""
        self._begin(job)
        assert self._line() == "ended 0"

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def _begin(self, job: str) -> int:
        assert self._process.stdin
        self._process.stdin.write(f"{job}\n")
        self._process.stdin.flush()
        word, pid = self._line().split()
        assert word == "pid"
        return int(pid)

    def _line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the process has gone"
        return line.strip()

    def _is_over(self, line: str) -> bool:
        assert line not in ("ended 0", "ended 1"), "it ended by itself"
        return line.startswith("ended ")

    async def _let_leases_run_out(self) -> None:
        store = registry.open_store(self.store, load_settings())
        await archiving.let_leases_run_out(store)
        await store.close()


@pytest.fixture(params=["true"])
def ships(request, monkeypatch) -> str:
    """Whether writers ship."""
    monkeypatch.setenv("AIECS_ARCHIVE_SHIP", request.param)
    return request.param


@pytest.fixture
def victims(store: str, archive_database: Database, ships: str) -> Iterator[Victims]:
    archiving.keep_raw(archive_database.url())
    victims = Victims(store, archive_database.url())
    yield victims
    victims.close()


def archived(victims: Victims) -> dict[str, list[str]]:
    """The texts of each session, in their order, when nothing is left to be shipped."""
    victims.done("ship end")
    rows = archiving.messages(victims.archive)
    assert len({event_id for *_, event_id in rows}) == len(rows), "each event is one raw row"
    texts = defaultdict(list)
    for text, session, _ in rows:
        texts[session].append(text)
    return texts


def test_what_a_killed_writer_was_promised_arrives_once(ships: str, victims: Victims, measured):
    promised = defaultdict(list)
    for kill in range(KILLS // 2):
        for line in victims.killed(f"produce {kill} {TASKS}", random.randint(1, 2_000)):
            session, text = line.split()
            promised[session].append(text)

    early = len(archiving.messages(victims.archive))
    texts = archived(victims)

    for session, said in promised.items():
        found = texts.pop(session)
        assert found == [f"m{number}" for number in range(len(found))], "once, in order"
        assert len(found) - len(said) in (0, 1), "and at most one that was under way"
    assert all(len(found) == 1 for found in texts.values())
    count = sum(map(len, promised.values()))
    measured(f"{KILLS // 2} kills, {count:,} acknowledged, {early:,} shipped between kills")


@pytest.mark.parametrize("ships", ["false"], indirect=True)
def test_a_killed_shipper_loses_and_doubles_nothing(ships: str, victims: Victims, measured):
    asyncio.run(archiving.write(victims.store, victims.archive, SAID, *SESSIONS))

    for point in POINTS:
        assert "there" in victims.killed(f"ship {point}", 1)
    for _ in range(KILLS // 2):
        victims.killed("ship on", random.randint(1, 800))

    assert archived(victims) == dict.fromkeys(SESSIONS, SAID)
    measured(f"{len(POINTS) + KILLS // 2} kills, {len(SAID) * len(SESSIONS)} events, 0 doubled")
