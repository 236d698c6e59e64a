"""A SQLite file that is full, and one that a stopped process has locked, under load; counted."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3

from support.redis_store import Ledger
from support.sqlite_store import POSIX, child

from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore, database

TIMEOUT = 0.4
# What a call may take beyond its deadline, on a shared machine.
SLACK = 3.0


async def check_anew(ledger, path):
    """A store that opens the file after the fault finds what callers were told."""
    await ledger.store.close()
    ledger.store = SqliteStore(path, timeout=20)
    await ledger.check()
    await ledger.store.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_file_that_fills_up_under_load(path, monkeypatch, measured):
    room = ["PRAGMA max_page_count = 100"]
    connect = database.Database.connect

    def limited(self, *, writes):
        connection = connect(self, writes=writes)
        connection.execute(room[0]).fetchall()
        return connection

    monkeypatch.setattr(database.Database, "connect", limited)
    async with Ledger(SqliteStore(path, timeout=20), tasks=16, pad=2_000) as ledger:
        await ledger.until(lambda ledger: ledger.errors["StoreFullError"] >= 50)
        room[0] = "PRAGMA max_page_count = 100000"
        ledger.healed()
        await ledger.more(100)
    assert ledger.errors.keys() == {"StoreFullError"}
    assert not ledger.unknown
    await check_anew(ledger, path)
    measured(ledger.figures())


@POSIX
async def test_a_lock_that_a_stopped_process_holds_under_load(path, measured):
    async with Ledger(SqliteStore(path, timeout=TIMEOUT), tasks=16) as ledger:
        await ledger.more(100)
        with child("hold", path) as process:
            assert await asyncio.to_thread(process.stdout.readline) == "held\n"
            process.send_signal(signal.SIGSTOP)
            await ledger.until(lambda ledger: len(ledger.failing) >= 32)
        ledger.healed()
        await ledger.more(100)
    assert ledger.errors.keys() == {"StoreTimeoutError"}
    assert not ledger.unknown, "who got no turn was told so"
    assert max(ledger.failing) < TIMEOUT + SLACK
    await check_anew(ledger, path)
    measured(ledger.figures())
