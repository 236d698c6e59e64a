"""A process of its own on an embedded archive.

    python embedded_archive.py JOB URL ARGUMENT...

chDB stays in the process that has loaded it, so no test does. Prints one line per event.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from threading import Thread

from support.archive_rows import messages

from aiecs.core.clock import now_micros
from aiecs.core.errors import ArchiveError
from aiecs.infrastructure.persistence.archive import ClickHouseArchive
from aiecs.infrastructure.persistence.archive.reports import query, run_report

TABLE = "context_conversations"


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - what the test waits for


def opened(url: str) -> ClickHouseArchive:
    archive = ClickHouseArchive.from_url(url)
    archive.open()
    return archive


def insert(url: str, token: str, *contents: str) -> None:
    """Insert messages, then say how many rows there are."""
    archive = opened(url)
    archive.insert(TABLE, messages(contents), token=token)
    say(archive.select(f"SELECT count() FROM {TABLE}")[0][0])
    archive.close()


def round_trip(url: str) -> None:
    """Say how many of the hardest values come back as they were."""
    contents = [b"nul\0; '\"\\", bytes(range(256)), b";" * 70_000, b"x" * 2**22, "😀".encode(), b""]
    archive = opened(url)
    archive.insert(TABLE, messages(contents, "a'b;\\\0"), token="a")
    found = archive.select(
        f"SELECT content FROM {TABLE} WHERE session_id = {{id:String}} ORDER BY seq",
        {"id": "a'b;\\\0"},
        exact=["content"],
    )
    say(sum(one == (other,) for one, other in zip(found, contents, strict=True)))
    archive.close()


def fail_and_ask(url: str) -> None:
    """Say what comes as an answer after questions that have failed half-way, also of others."""
    archive = opened(url)
    archive.insert(TABLE, messages(["one"]), token="a")
    empty = f"SELECT content FROM {TABLE} WHERE session_id = 'of nobody'"
    failing = f"SELECT throwIf(number = 900000), (SELECT any(content) FROM {TABLE})"

    def fail_with(sql: str) -> None:
        try:
            query(archive, sql)
        except ArchiveError:
            return
        raise AssertionError(sql)

    fail_with(f"{failing} FROM numbers(1000000)")
    say(len(query(archive, empty)), "rows after an error")
    fail_with("SELECT number FROM numbers(3000000)")
    say(len(query(archive, empty)), "rows after too many")
    threads = [Thread(target=fail_with, args=(f"{failing} FROM numbers(1000000)",)) for _ in "abc"]
    for thread in threads:
        thread.start()
    counts = [len(query(archive, empty)) for _ in range(20)]
    for thread in threads:
        thread.join()
    say(len(threads) - sum(counts), "threads")
    archive.close()


def hold(url: str) -> None:
    """Keep it open until a line comes in."""
    archive = opened(url)
    say("open")
    sys.stdin.readline()
    archive.close()
    say("closed")


def fail(url: str) -> None:
    """Say what becomes of opening it."""
    try:
        opened(url).close()
    except ArchiveError as error:
        say(type(error).__name__, error)
    else:
        say("opened")


def second(url: str, other: str) -> None:
    """Open two archives in one process, one after the other and both at once."""
    opened(url).close()
    archive = opened(other)
    fail(url)
    archive.close()
    fail(url)


def refuse(url: str) -> None:
    """Say what comes of the ways to go wrong that a server also has; then it still works."""
    archive = opened(url)
    archive.execute(f"ALTER TABLE {TABLE} ADD CONSTRAINT short CHECK length(content) < 9")
    for statement in ("SELECT nothing", "DROP TABLE x", "SELECT sleep(3)"):
        try:
            archive.select(statement, timeout=0.2)
        except ArchiveError as error:
            say(type(error).__name__)
    try:
        archive.insert(TABLE, messages(["a long secret"]), token="a")
    except ArchiveError as error:
        say(type(error).__name__, error)
    archive.insert(TABLE, messages(["fine"]), token="a")
    say(archive.select(f"SELECT content FROM {TABLE}"))
    archive.close()


def read(url: str) -> None:
    """Say what comes of queries that do not only read, and what is left; then it still writes."""
    archive = opened(url)
    archive.insert(TABLE, messages(["one"]), token="a")
    for attempt in (
        f"SELECT 1; DROP TABLE {TABLE}",
        f"SELECT 1; TRUNCATE TABLE {TABLE}",
        f"WITH 'x' AS id INSERT INTO {TABLE} (session_id) SELECT id",
        "SELECT 1 SETTINGS readonly = 0",
    ):
        try:
            archive.select(attempt)
        except ArchiveError as error:
            say(type(error).__name__)
        archive.close()  # after the second statement's error chDB's handle has a result left over
        archive.open()
    archive.insert(TABLE, messages(["two"], first=2), token="b")
    archive.execute(f"DELETE FROM {TABLE} WHERE content = 'one'")
    say(archive.select(f"SELECT content FROM {TABLE}", timeout=30))
    archive.close()


def report(url: str) -> None:
    """Say what some reports and a question of one's own find."""
    archive = opened(url)
    rows = messages(["Where is my Parcel?", "thanks"])
    rows["created_at"] = [now_micros()] * 2
    archive.insert(TABLE, rows, token="a")
    archive.insert(TABLE, rows, token="b")
    say(run_report(archive, "messages").rows[0][1:])
    say([row[-1] for row in run_report(archive, "search", {"text": "parcel"}).rows])
    say(query(archive, f"SELECT uniqExact(event_id) FROM {TABLE}"))
    archive.close()


def threads(url: str) -> None:
    """Insert from several threads while another one reads; say how many rows there are."""
    archive = opened(url)

    def write(place: int) -> None:
        for number in range(10):
            archive.insert(
                TABLE, messages(["x"], f"s{place}", number + 1), token=f"{place}{number}"
            )

    workers = [Thread(target=write, args=(place,)) for place in range(4)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        archive.select(f"SELECT count() FROM {TABLE}")
    say(archive.select(f"SELECT count() FROM {TABLE}")[0][0])
    archive.close()


def rights(url: str) -> None:
    """Say who may look into the directory."""
    archive = opened(url)
    say(oct(Path(archive.address.path or "").stat().st_mode & 0o777))
    archive.close()


def die(url: str, token: str, *contents: str) -> None:
    """Insert, say so and end as by SIGKILL."""
    opened(url).insert(TABLE, messages(contents), token=token)
    say("inserted")
    os._exit(9)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
