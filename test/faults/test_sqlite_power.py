"""Power lost at any moment of a SQLite file's life: what was not synced is gone, or torn.

What SQLite writes and syncs is recorded by a layer below it; the files are then made anew as a
disk may hold them (`support.power`). The limits: a disk that lies about a sync, or that loses what
was synced, is not modelled, nor is a directory entry that is lost after the file was synced (SQLite
syncs the directory with the first sync of a new file). Where Python hides SQLite's symbols there is
no such layer: then only what SQLite has written, and every beginning of its log, is looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from pathlib import Path

import pytest
from support import power
from support.sqlite_store import CREATE

from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore, database

RECORDED = pytest.mark.skipif(
    not power.reachable(), reason="this Python keeps SQLite's symbols to itself"
)

GROUPS = ("g0", "g1", "g2", "g3")
APPEND = port.Plan("append", port.Append("m", (port.Arg(0),)), port.Incr("", {"n": 1}))
WRITES = 30
CRASHES = 250


@pytest.fixture(autouse=True)
def many_checkpoints(monkeypatch):
    """The log starts over every few commits, so that crashes meet that too."""
    monkeypatch.setattr(database, "_CHECKPOINT_PAGES", 24)


async def recorded(path: Path, synchronous: str) -> list[power.Event]:
    """The life of a store until shortly before it is closed."""
    recorder = power.Recorder()
    with recorder.recording():
        store = SqliteStore(path, synchronous=synchronous, timeout=20)

        async def write(group: str) -> None:
            await store.apply(port.Batch(1, group, (CREATE,)))
            for number in range(WRITES):
                await store.apply(port.Call(APPEND, 1, group, (b"%d" % number + b"." * 700,)))
                recorder.told(group)

        await asyncio.gather(*map(write, GROUPS))
        events = recorder.events.copy()
        await store.close()
    return events


def crashes(events: list[power.Event], chance: random.Random) -> list[tuple[int, float]]:
    """Moments, and the share of unsynced writes that came through: none, some, nearly all."""
    first = next(number for number, event in enumerate(events) if event.kind == "told")
    moments = sorted(chance.choices(range(first, len(events) + 1), k=CRASHES))
    return [(moment, (0.0, 0.5, 0.9)[number % 3]) for number, moment in enumerate(moments)]


async def found_by(path: Path) -> dict[str, int]:
    """How many items each group has: whole, in order, and as counted in the same batch."""
    store = SqliteStore(path, timeout=20)
    found = {}
    for group in GROUPS:
        batch = port.Batch(1, group, (port.Read("m"), port.Get("", ("n",))))
        log, (counted,) = await store.apply(batch)
        names = [b"%d" % number + b"." * 700 for number in range(len(log.items))]
        assert log.items == names, "not a beginning of what was written"
        assert int(counted or 0) == len(names), "half of a batch"
        found[group] = len(names)
    await store.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return found


async def lost_by(events: list[power.Event], path: Path) -> list[int]:
    """For each crash, how many acknowledged items are gone."""
    chance = random.Random(13)
    (directory := path.with_name("after")).mkdir()
    lost = []
    for moment, kept in crashes(events, chance):
        told = [event.name for event in events[:moment] if event.kind == "told"]
        power.put_down(power.left_behind(events[:moment], chance, kept), directory)
        found = await found_by(directory / path.name)
        lost.append(sum(max(0, told.count(group) - found[group]) for group in GROUPS))
    return lost


@RECORDED
async def test_power_lost_with_full_sync_loses_nothing_that_was_acknowledged(path, measured):
    events = await recorded(path, "FULL")
    lost = await lost_by(events, path)

    measured(f"{CRASHES} crashes of {len(events)} moments, {sum(lost)} acknowledged items lost")
    assert not any(lost)


@RECORDED
async def test_power_lost_with_normal_sync_leaves_a_sound_file(path, measured):
    """The last commits may go, in order; and so it is seen that the check above can see a loss."""
    events = await recorded(path, "NORMAL")
    lost = await lost_by(events, path)

    measured(f"{CRASHES} crashes of {len(events)} moments, at most {max(lost)} items lost in one")
    assert any(lost)


async def test_every_beginning_of_the_log_is_a_sound_file(path, monkeypatch, measured):
    """Cut at the end of each page and within it, with rubbish behind: all told by then is there."""
    monkeypatch.setattr(database, "_CHECKPOINT_PAGES", 100_000)
    wal = path.with_name(path.name + "-wal")
    told = []
    store = SqliteStore(path, synchronous="FULL", timeout=20)

    async def write(group: str) -> None:
        await store.apply(port.Batch(1, group, (CREATE,)))
        for number in range(WRITES // 3):
            await store.apply(port.Call(APPEND, 1, group, (b"%d" % number + b"." * 700,)))
            told.append((wal.stat().st_size, group))

    await asyncio.gather(*map(write, GROUPS))
    whole, log = path.read_bytes(), wal.read_bytes()
    await store.close()
    chance = random.Random(13)
    (directory := path.with_name("after")).mkdir()
    cuts = [
        cut
        for end in range(_LOG_HEAD, len(log) + 1, _FRAME)
        for cut in (end, end + chance.randrange(1, _FRAME))
    ]
    for cut in cuts:
        left = log[:cut] + chance.randbytes(chance.choice((0, 100)))
        power.put_down({path.name: whole, wal.name: left}, directory)
        found = await found_by(directory / path.name)
        for group in GROUPS:
            assert found[group] >= sum(size <= cut for size, name in told if name == group)
    measured(f"{len(cuts)} cuts, {len(told)} acknowledged, 0 lost")


_LOG_HEAD = 32
_FRAME = 24 + database._PAGE
