"""What a SQLite file holds: all of it, nothing of what was deleted, and a log of bounded size."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest
from support.sqlite_store import CREATE, append, items

from aiecs.core.errors import StoreUnavailableError
from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore, sessions, state


async def test_large_values_and_large_maps(store: SqliteStore):
    fields = {f"f{number:04d}": os.urandom(number % 300) for number in range(999)}
    fields["large"] = os.urandom(3_000_000)
    await store.apply(port.Batch(1, "g", (port.Put("k", fields),)))
    assert await store.apply(port.Batch(1, "g", (port.Get("k"),))) == [fields]

    wanted = ("f0000", "large", "none", "f0998", "f0700")
    guarded = port.Batch(1, "g", (port.Get("k", wanted), port.Put("k", {"f0700": b"new"})))
    assert await store.apply(guarded) == [[fields.get(name) for name in wanted], True]

    await store.apply(port.Batch(1, "g", (port.Put("k", {"large": b"small now"}),)))
    assert await store.apply(port.Batch(1, "g", (port.Get("k", ("large", "f0700")),))) == [
        [b"small now", b"new"]
    ]


async def test_names_of_any_kind(store: SqliteStore):
    group = "a:b*{}..\x00%_\U0001f600\uffff"
    await store.apply(port.Batch(1, group, (CREATE, port.Put(group[:4], {group: b"1"}))))
    await store.apply(port.Batch(1, group, (port.IndexPut("i", {group: 1, group + "x": 1}),)))

    assert await store.apply(port.Batch(1, group, (port.Get(group[:4]),))) == [{group: b"1"}]
    assert await store.apply(port.Batch(1, group, (port.IndexRange("i", prefix=group),))) == [
        [(group, 0), (group + "x", 0)]
    ]
    assert await store.apply(port.Batch(1, group[:-1], (port.Get(group[:4]),))) == [{}]


async def test_nothing_of_a_deleted_group_stays(path: Path, store: SqliteStore):
    writes = (
        port.Append("m", (b"1", b"2")),
        port.Put("k", {"a": b"1"}),
        port.IndexPut("i", {"x": 1}),
    )
    await store.apply(port.Batch(1, "g", writes))
    await store.apply(
        port.Batch(
            1,
            "g",
            (
                port.Delete("m", None, "log"),
                port.Delete("k", ("a",)),
                port.IndexDelete("i", ("x",)),
                port.Delete(""),
            ),
        )
    )
    await store.close()

    with contextlib.closing(sqlite3.connect(path)) as connection:
        for table in ("names", "fields", "items", "entries"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


async def test_what_is_remembered_is_bounded(store: SqliteStore, monkeypatch):
    monkeypatch.setattr(state, "_REMEMBERED", 5)
    for number in range(20):
        group = f"g{number}"
        await store.apply(port.Batch(1, group, (CREATE, port.Append("m", (b"1",)))))
    for number in range(20):
        await store.apply(append(b"2", f"g{number}"))
        assert await items(store, f"g{number}") == [b"1", b"2"]


async def test_readers_cannot_keep_the_log_from_starting_over(
    path: Path, store: SqliteStore, monkeypatch
):
    monkeypatch.setattr(sessions, "_WAL_BYTES", 1_000_000)
    monkeypatch.setattr(sessions, "_WAL_LOOKED_AT", 2)
    wal = path.with_name(path.name + "-wal")
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM items").fetchall()
    for _ in range(30):
        await store.apply(append(os.urandom(100_000)))
    assert wal.stat().st_size > 1_000_000

    reader.execute("COMMIT")
    reader.close()
    await store.apply(append(b"x"))
    await store.apply(append(b"y"))

    assert wal.stat().st_size < 1_000_000


async def test_errors_quote_nothing_that_is_stored(store: SqliteStore, monkeypatch):
    def failing(self: state.Tables, key: str, fields: dict[str, bytes]) -> None:
        raise sqlite3.IntegrityError("constraint failed: secret content")

    monkeypatch.setattr(state.Tables, "map_put", failing)
    with pytest.raises(StoreUnavailableError) as caught:
        await store.apply(port.Batch(1, "g", (port.Put("k", {"a": b"secret content"}),)))

    assert "secret" not in str(caught.value)
