"""What is SQLite's own: files, groups, deadlines, loops. The contract suite has the semantics."""

# ruff: noqa: ASYNC240 - files are the subject here, and they are small

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import stat
import sys
import threading
from pathlib import Path

import pytest

from aiecs.core.errors import (
    InvalidInputError,
    LifecycleError,
    StoreFullError,
    StoreOverloadedError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.sqlite import (
    SqliteStore,
    database,
    files,
    pool,
    sessions,
    state,
)

CREATE = port.Put("", {"~i": port.NEW_INCARNATION}, "skip")
APPEND = port.Plan("append", port.Append("m", (port.Arg(0),)))
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="flock and modes are POSIX")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path):
    store = SqliteStore(path, timeout=20)
    await store.apply(port.Batch(1, "g", (CREATE,)))
    yield store
    await store.close()


@pytest.fixture
def held(path: Path):
    """The lock of all writers, held by somebody else until the test lets go of it."""
    lock = files.LockFile(str(path))
    path.touch()
    assert lock.acquire()
    yield lock
    lock.close()


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "sqlite" in thread.name]


def append(item: bytes, group: str = "g") -> port.Call:
    return port.Call(APPEND, 1, group, (item,))


async def items(store: SqliteStore, group: str = "g") -> list[bytes]:
    (found,) = await store.apply(port.Batch(1, group, (port.Read("m"),)))
    return found.items


# --- opening ------------------------------------------------------------------------------------


def test_nothing_happens_before_the_first_call(path: Path):
    SqliteStore(path)

    assert not path.exists()
    assert not threads()


@POSIX
async def test_files_and_directories_are_for_the_owner_alone(tmp_path: Path):
    path = tmp_path / "new" / "nested" / "store.db"
    store = SqliteStore(path)
    await store.apply(port.Batch(1, "g", (CREATE,)))

    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes["store.db"] == 0o600
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
    await store.close()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///some/file.db", Path.cwd() / "some/file.db"),
        ("sqlite:////some/file.db", Path("/some/file.db")),
        ("sqlite:////some/a%20b%3F.db", Path("/some/a b?.db")),
        ("sqlite:///f.db?synchronous=full&timeout=2.5", Path.cwd() / "f.db"),
    ],
)
def test_urls(url: str, expected: Path):
    assert SqliteStore.from_url(url).path == str(expected)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite://host/file.db",
        "sqlite:///:memory:",
        "sqlite:////directory/",
        "sqlite:///f.db?journal_mode=off",
        "sqlite:///f.db?timeout=1&timeout=2",
        "sqlite:///f.db?timeout=",
        "sqlite:///f.db?timeout=nan",
        "sqlite:///f.db?timeout=0",
        "sqlite:///f.db?synchronous=OFF",
        "sqlite:///f.db#part",
        "redis:///f.db",
    ],
)
def test_urls_that_are_refused(url: str):
    with pytest.raises(InvalidInputError):
        SqliteStore.from_url(url)


def test_synchronous_is_what_was_asked_for(path: Path):
    for name, level in (("NORMAL", 1), ("FULL", 2)):
        opened = database.Database(str(path), name, lambda: 0)
        connection = opened.connect(writes=True)
        assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA page_size").fetchone() == (8192,)
        opened.disconnect(connection)


async def test_data_outlives_the_store(path: Path, store: SqliteStore):
    await store.apply(append(b"kept"))
    await store.close()

    again = SqliteStore(path)
    assert await items(again) == [b"kept"]
    await again.close()


async def test_a_newer_format_is_refused(path: Path, store: SqliteStore):
    await store.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")

    newer = SqliteStore(path)
    with pytest.raises(StoreUnavailableError, match="upgrade") as caught:
        await newer.ping()
    assert not caught.value.retryable
    assert caught.value.outcome == "not_applied"
    await newer.close()


async def test_another_programs_database_is_refused_and_left_alone(path: Path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()

    store = SqliteStore(path)
    with pytest.raises(StoreUnavailableError, match="another program"):
        await store.apply(port.Batch(1, "g", (CREATE,)))
    await store.close()
    assert path.read_bytes() == before


async def test_a_directory_in_the_files_place(tmp_path: Path):
    store = SqliteStore(tmp_path)
    with pytest.raises(StoreUnavailableError, match="not a file"):
        await store.ping()
    await store.close()


async def test_a_path_through_a_file(path: Path):
    path.touch()
    store = SqliteStore(path / "below.db")
    with pytest.raises(StoreUnavailableError, match="ENOTDIR"):
        await store.ping()
    await store.close()


@pytest.mark.skipif(sys.platform != "linux", reason="mount table")
@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
async def test_network_file_systems_are_refused(path: Path, tmp_path: Path, monkeypatch, kind: str):
    mounts = tmp_path / "mounts"
    share = tmp_path / "a share"
    share.mkdir()
    where = str(share).replace(" ", "\\040")
    mounts.write_text(f"/dev/x / ext4 rw 0 0\nserver:/x {where} {kind} rw 0 0\n")
    monkeypatch.setattr(files, "_MOUNTS", str(mounts))

    remote, local = SqliteStore(share / "x.db"), SqliteStore(path)
    with pytest.raises(InvalidInputError, match=kind):
        await remote.ping()
    await local.ping()
    await remote.close()
    await local.close()


@POSIX
async def test_a_file_that_is_taken_away_is_noticed(path: Path, store: SqliteStore):
    path.rename(path.with_suffix(".moved"))

    with pytest.raises(StoreUnavailableError, match="removed or replaced"):
        await store.apply(append(b"lost"))
    with pytest.raises(StoreUnavailableError, match="removed or replaced"):
        await items(store)
    assert not path.exists()

    path.with_suffix(".moved").rename(path)
    await store.apply(append(b"kept"))
    assert await items(store) == [b"kept"]


# --- groups -------------------------------------------------------------------------------------


async def test_what_waits_is_committed_together(store: SqliteStore, monkeypatch, held_back):
    commits = []
    begin = sessions.Writing.begin
    monkeypatch.setattr(sessions.Writing, "begin", lambda self: (begin(self), commits.append(1))[0])
    calls = held_back([append(b"%d" % number) for number in range(100)])

    first = await calls()

    assert len(commits) == 1
    assert [results[0] - first[0][0] for results in first] == list(range(100))
    assert await items(store) == [b"%d" % number for number in range(100)]


@pytest.fixture
def held_back(path: Path, store: SqliteStore):
    """Calls that are made while no writer gets a turn, so that they form one group."""

    def prepare(batches: list[port.Batch | port.Call]):
        async def run() -> list:
            lock = files.LockFile(str(path))
            assert lock.acquire()
            tasks = [asyncio.ensure_future(store.apply(batch)) for batch in batches]
            await asyncio.sleep(0)
            lock.close()
            return await asyncio.gather(*tasks, return_exceptions=True)

        return run

    return prepare


async def test_a_refused_batch_in_a_group_writes_nothing(store: SqliteStore, held_back):
    refused = port.Batch(
        1, "g", (port.Append("m", (b"never",)), port.RequireEquals("", "owner", b"me"))
    )

    results = await held_back([append(b"a"), refused, append(b"b")])()

    assert isinstance(results[1], port.GuardFailed)
    assert results[1].operation == 1
    assert await items(store) == [b"a", b"b"]


async def test_a_guard_sees_the_batches_before_it_in_the_group(store: SqliteStore, held_back):
    once = port.Batch(1, "g", (port.Put("", {"owner": b"me"}, "abort"),))

    first, second = await held_back([once, once])()

    assert first == [True]
    assert isinstance(second, port.GuardFailed)
    assert second.found == b"me"


async def test_a_batch_that_cannot_be_written_takes_no_other_with_it(
    store: SqliteStore, held_back, monkeypatch
):
    put = state.Tables.map_put

    def failing(self: state.Tables, key: str, fields: dict[str, bytes]) -> None:
        put(self, key, fields)
        if "poison" in fields:
            self.flush()
            raise full()

    monkeypatch.setattr(state.Tables, "map_put", failing)
    poison = port.Batch(1, "g", (port.Append("m", (b"never",)), port.Put("k", {"poison": b"x"})))

    results = await held_back([append(b"a"), poison, append(b"b")])()

    assert isinstance(results[1], StoreFullError)
    assert results[1].outcome == "not_applied"
    assert await items(store) == [b"a", b"b"]
    assert await store.apply(port.Batch(1, "g", (port.Get("k"),))) == [{}]


def full() -> sqlite3.OperationalError:
    return failure("SQLITE_FULL")


def failure(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("planted")
    error.sqlite_errorcode = getattr(sqlite3, name)
    error.sqlite_errorname = name
    return error


class FailingCommit:
    """A connection whose COMMIT fails, before or after it has done its work."""

    def __init__(self, connection: sqlite3.Connection, error: sqlite3.Error) -> None:
        self._connection = connection
        self._error: sqlite3.Error | None = error

    def __getattr__(self, name: str):
        return getattr(self._connection, name)

    def execute(self, statement: str, *values):
        if statement == "COMMIT" and self._error is not None:
            error, self._error = self._error, None
            raise error
        return self._connection.execute(statement, *values)


@pytest.mark.parametrize(
    ("name", "outcome"), [("SQLITE_FULL", "not_applied"), ("SQLITE_IOERR_FSYNC", "unknown")]
)
async def test_a_failed_commit_fails_its_group_and_no_other(
    path: Path, monkeypatch, name: str, outcome: str
):
    store = SqliteStore(path, timeout=20)
    await store.apply(port.Batch(1, "g", (CREATE,)))
    await store.close()
    connect = database.Database.connect
    errors = [failure(name)]

    def planted(self: database.Database, *, writes: bool):
        connection = connect(self, writes=writes)
        return FailingCommit(connection, errors.pop()) if writes and errors else connection

    monkeypatch.setattr(database.Database, "connect", planted)
    store = SqliteStore(path, timeout=20)
    lock = files.LockFile(str(path))
    assert lock.acquire()
    tasks = [asyncio.ensure_future(store.apply(append(b"%d" % n))) for n in range(3)]
    await asyncio.sleep(0)
    lock.close()

    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [getattr(result, "outcome", None) for result in results] == [outcome] * 3
    assert await items(store) == []
    await store.apply(append(b"later"))
    assert await items(store) == [b"later"]
    await store.close()


async def test_writes_can_be_read_when_they_are_acknowledged(store: SqliteStore):
    async def work(group: str) -> None:
        await store.apply(port.Batch(1, group, (CREATE,)))
        for number in range(50):
            await store.apply(append(b"%d" % number, group))
            assert len(await items(store, group)) == number + 1

    await asyncio.gather(*[work(f"g{number}") for number in range(8)])


async def test_a_read_sees_what_was_acknowledged_before_it_was_called(
    store: SqliteStore, monkeypatch
):
    woken, go_on = threading.Event(), threading.Event()
    take = pool.Pool.take

    def late(self: pool.Pool, count: int, size: int) -> list[pool.Entry]:
        if "reader" in threading.current_thread().name:
            woken.set()
            assert go_on.wait(20)
        return take(self, count, size)

    monkeypatch.setattr(pool.Pool, "take", late)
    store._reads._most = 1
    early = asyncio.ensure_future(items(store))
    assert await asyncio.to_thread(woken.wait, 20)
    await store.apply(append(b"acknowledged"))
    called_after = asyncio.ensure_future(items(store))
    await asyncio.sleep(0)
    go_on.set()

    assert await called_after == [b"acknowledged"]
    await early


@POSIX
async def test_a_reader_that_finds_the_database_busy_tries_again(store: SqliteStore, monkeypatch):
    begin = state.Tables.begin
    times = []

    def busy(self: state.Tables) -> None:
        begin(self)
        times.append(1)
        if len(times) < 3:
            raise failure("SQLITE_BUSY_RECOVERY")

    monkeypatch.setattr(state.Tables, "begin", busy)
    assert await items(store) == []
    assert len(times) == 3

    def always_busy(self: state.Tables) -> None:
        raise failure("SQLITE_BUSY")

    monkeypatch.setattr(state.Tables, "begin", always_busy)
    with pytest.raises(StoreTimeoutError) as caught:
        await store.apply(port.Batch(1, "g", (port.Get(""),)), timeout=0.02)
    assert caught.value.outcome == "not_applied"


# --- deadlines, limits, cancellation ------------------------------------------------------------


@POSIX
async def test_a_batch_without_a_turn_is_withdrawn(path: Path, store: SqliteStore):
    lock = files.LockFile(str(path))
    assert lock.acquire()

    with pytest.raises(StoreTimeoutError) as caught:
        await store.apply(append(b"never"), timeout=0.02)
    patient = asyncio.ensure_future(store.apply(append(b"patient")))
    with pytest.raises(StoreTimeoutError):
        await store.apply(append(b"never either"), timeout=0.02)
    lock.close()

    await patient
    assert caught.value.outcome == "not_applied"
    assert await items(store) == [b"patient"]


@POSIX
async def test_readers_do_not_wait_for_the_writers_lock(store: SqliteStore, held):
    assert await items(store) == []


async def test_a_batch_that_has_begun_has_an_unknown_outcome(store: SqliteStore, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    attempt = sessions.Writing._attempt

    def slow(self: sessions.Writing, group):
        begun.set()
        assert go_on.wait(20)
        return attempt(self, group)

    monkeypatch.setattr(sessions.Writing, "_attempt", slow)
    with pytest.raises(StoreTimeoutError) as caught:
        await store.apply(append(b"late"), timeout=0.02)
    assert begun.is_set()
    go_on.set()

    assert caught.value.outcome == "unknown"
    await store.apply(append(b"next"))
    assert await items(store) == [b"late", b"next"]


@POSIX
async def test_callers_wait_outside_a_full_queue(store: SqliteStore, path: Path, monkeypatch):
    monkeypatch.setattr(pool, "MAX_WAITING", 2)
    lock = files.LockFile(str(path))
    assert lock.acquire()
    admitted = [asyncio.ensure_future(store.apply(append(b"%d" % n))) for n in range(2)]
    outside = asyncio.ensure_future(store.apply(append(b"2")))
    await asyncio.sleep(0)

    with pytest.raises(StoreOverloadedError) as caught:
        await store.apply(append(b"never"), timeout=0.02)
    lock.close()

    await asyncio.gather(*admitted, outside)
    assert caught.value.outcome == "not_applied"
    assert await items(store) == [b"0", b"1", b"2"]


@POSIX
async def test_a_full_queue_is_measured_in_bytes_too(store: SqliteStore, path: Path, monkeypatch):
    monkeypatch.setattr(pool, "MAX_WAITING_BYTES", 100)
    lock = files.LockFile(str(path))
    assert lock.acquire()
    admitted = asyncio.ensure_future(store.apply(append(b"x" * 200)))
    await asyncio.sleep(0)

    with pytest.raises(StoreOverloadedError):
        await store.apply(append(b"never"), timeout=0.02)
    lock.close()
    await admitted


@POSIX
async def test_a_cancelled_caller_disturbs_nobody(store: SqliteStore, path: Path):
    lock = files.LockFile(str(path))
    assert lock.acquire()
    tasks = [asyncio.ensure_future(store.apply(append(b"%d" % number))) for number in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    lock.close()

    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
    assert await items(store) == [b"%d" % number for number in range(1, 20, 2)]


async def test_a_bad_batch_is_refused_at_once(store: SqliteStore, held):
    with pytest.raises(InvalidInputError):
        await store.apply(port.Batch(-1, "g", (CREATE,)))
    with pytest.raises(InvalidInputError):
        await store.apply(append("text"))  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError):
        await store.apply(append(b""), timeout=-1)


# --- lifecycle, loops, threads ------------------------------------------------------------------


async def test_close_is_idempotent_and_ends_the_threads(path: Path):
    store = SqliteStore(path)
    await store.ping()
    await store.apply(port.Batch(1, "g", (CREATE,)))
    assert threads()

    await asyncio.gather(store.close(), store.close())
    await store.close()

    assert not threads()
    for call in (store.ping(), store.apply(append(b"x")), items(store)):
        with pytest.raises(LifecycleError):
            await call


async def test_a_store_that_was_never_used_can_be_closed(path: Path):
    await SqliteStore(path).close()

    assert not path.exists()


@POSIX
async def test_close_finishes_what_waits(path: Path, store: SqliteStore):
    lock = files.LockFile(str(path))
    assert lock.acquire()
    tasks = [asyncio.ensure_future(store.apply(append(b"%d" % number))) for number in range(9)]
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(store.close())
    await asyncio.sleep(0)
    lock.close()
    await closing

    assert len(await asyncio.gather(*tasks)) == 9


@POSIX
async def test_close_leaves_one_file(path: Path, store: SqliteStore):
    await store.apply(append(b"x"))
    await store.close()

    assert {file.name for file in path.parent.iterdir()} == {"store.db", "store.db-lock"}


async def test_several_loops_and_threads_share_a_store(store: SqliteStore):
    async def work(name: str) -> None:
        await store.apply(port.Batch(1, name, (CREATE,)))
        for number in range(100):
            await store.apply(append(b"%d" % number, name))
        assert await items(store, name) == [b"%d" % number for number in range(100)]

    async def several(name: str) -> None:
        await asyncio.gather(*[work(f"{name}-{number}") for number in range(4)])

    threads = [asyncio.to_thread(asyncio.run, several(f"thread{n}")) for n in range(2)]
    await asyncio.gather(several("here"), *threads)


@POSIX
async def test_a_loop_that_ends_does_not_hold_up_others(store: SqliteStore, path: Path):
    lock = files.LockFile(str(path))
    assert lock.acquire()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.apply(append(b"abandoned")), 0.02)

    await asyncio.to_thread(asyncio.run, give_up())
    lock.close()
    await store.apply(append(b"x"))

    assert await items(store) == [b"x"]


async def test_two_stores_on_one_file_see_each_other(path: Path, store: SqliteStore):
    other = SqliteStore(path, timeout=20)
    for number in range(20):
        await (store, other)[number % 2].apply(append(b"%d" % number))
        await (other, store)[number % 2].apply(
            port.Batch(1, "g", (port.Incr("", {"n": 1}), port.RequireExists("")))
        )

    assert await items(other) == await items(store) == [b"%d" % number for number in range(20)]
    assert await store.apply(port.Batch(1, "g", (port.Get("", ("n",)),))) == [[b"20"]]
    await other.close()


# --- what is stored -----------------------------------------------------------------------------


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
