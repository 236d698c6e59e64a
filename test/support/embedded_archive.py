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

from aiecs.core.errors import ArchiveError
from aiecs.infrastructure.persistence.archive import ClickHouseArchive

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
