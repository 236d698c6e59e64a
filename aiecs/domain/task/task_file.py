"""The file of a task context: a name that no id can steer, replaced whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from aiecs.core.errors import CorruptRecordError


def file_for(directory: Path, *ids: str) -> Path:
    """The file for these ids inside `directory`; other ids have another one."""
    digest = blake2b(digest_size=32)
    for one in ids:
        data = one.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8))
        digest.update(data)
    return directory / f"{digest.hexdigest()}.json"


def read_file(path: Path, max_bytes: int) -> bytes | None:
    """What `path` holds, None if there is no such file; `CorruptRecordError` if it is larger."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError:
        return None
    if len(data) > max_bytes:
        raise CorruptRecordError(f"{path} has more than {max_bytes} bytes")
    return data


def replace_file(path: Path, data: bytes) -> None:
    """Make `data` the content of `path`, readable for this user only; makes the directory.

    A crash at any moment leaves the old content or the new one. `OSError` if it cannot be
    written; then the old content stands.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
