"""The files around a database: where it may lie, who creates it, and the lock beside it."""

from __future__ import annotations

import os
import re
import stat
import sys
from pathlib import Path

from aiecs.core.errors import InvalidInputError
from aiecs.infrastructure.persistence.stores.sqlite.faults import StoreFileError
from aiecs.infrastructure.persistence.stores.sqlite.forks import process

if sys.platform != "win32":
    import fcntl

_MOUNTS = "/proc/self/mounts"
_OCTAL = re.compile(r"\\([0-7]{3})")  # how the kernel writes blanks and backslashes there
_REMOTE = frozenset({"9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gpfs", "lustre"})
_REMOTE |= {"glusterfs", "ncpfs", "nfs", "nfs4", "orangefs", "smb3", "smbfs"}
_REMOTE |= {"fuse.ceph", "fuse.curlftpfs", "fuse.davfs2", "fuse.gcsfuse", "fuse.glusterfs"}
_REMOTE |= {"fuse.goofys", "fuse.rclone", "fuse.s3fs", "fuse.smbnetfs", "fuse.sshfs"}


def prepare(path: str) -> None:
    """Create the file, readable by its owner alone, and its directory, if they are missing.

    `InvalidInputError` where SQLite's locks do not work, `StoreFileError` when there is something
    else than a file; `OSError` when the file system refuses.
    """
    directory = Path(path).parent
    _make(directory)
    _refuse_remote(directory)
    # Never opened when it exists: closing any descriptor of a database drops all locks that this
    # process holds on it.
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - one style for all paths here
            raise StoreFileError(f"{path} is not a file") from None


def identity(path: str) -> tuple[int, int]:
    """What tells this file from another one under the same name."""
    found = os.stat(path)  # noqa: PTH116 - called per group of batches; a Path costs as much again
    return found.st_dev, found.st_ino


def _make(directory: Path) -> None:
    if not directory.exists():
        _make(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)


def _refuse_remote(directory: Path) -> None:
    kind = "a network share" if str(directory).startswith("\\\\") else _mounted(directory)
    if kind is not None:
        raise InvalidInputError(
            f"{directory} is on {kind}: SQLite needs locks and shared memory, which network file "
            "systems do not provide; use a local disk, or a Redis store to share between machines"
        )


def _mounted(directory: Path) -> str | None:
    """The type of the network file system that holds the directory, None for any other."""
    try:
        mounts = Path(_MOUNTS).read_text(errors="surrogateescape")
    except OSError:
        return None
    place = directory.resolve()
    best, found = -1, ""
    for line in mounts.splitlines():
        _, point, kind, *_ = line.split(" ")
        where = Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), point))
        depth = len(where.parts)
        if depth >= best and place.is_relative_to(where):
            best, found = depth, kind
    return found if found in _REMOTE else None


class LockFile:
    """The lock that writers of all processes take before they ask SQLite.

    SQLite's own waiting is unfair and gives up early when several processes write and checkpoint.
    It stays in force: where there is no `flock`, or when somebody else's program does not know
    this file, it is slower but as safe.
    """

    def __init__(self, database: str) -> None:
        self._path = f"{database}-lock"
        self._database = database
        self._descriptor = -1
        process.descriptors.add(self)

    def acquire(self) -> bool:
        """Take the lock if nobody holds it, without waiting."""
        if sys.platform != "win32":
            if self._descriptor < 0:
                self._descriptor = self._open()
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def release(self) -> None:
        """Let the next one in."""
        if sys.platform != "win32" and self._descriptor >= 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the descriptor back, and the lock with it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> int:
        # Whoever may open the database may lock it; reading is enough for that.
        rights = stat.S_IMODE(os.stat(self._database).st_mode)  # noqa: PTH116 - as above
        return os.open(self._path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, rights)
