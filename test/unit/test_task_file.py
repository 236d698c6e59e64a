"""A task context on disk: only where it is told to, whole or not at all, its user's alone."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aiecs.core.codec import MAX_BYTES
from aiecs.core.errors import CorruptRecordError, InvalidInputError
from aiecs.domain.task import task_file
from aiecs.domain.task.task_context import TaskContext, task_context

WITHOUT_DISK = """
import asyncio, sys
from aiecs.domain.task.task_context import TaskContext, task_context

def refuse(event, args):
    if event in {"open", "os.mkdir", "os.listdir", "os.scandir", "os.rename"}:
        raise AssertionError(f"{event} {args}")

async def use():
    async with task_context({"user_id": "u"}) as made:
        made.add_context_update("x", 1)

async def main():
    sys.addaudithook(refuse)
    await use()
    with TaskContext({"user_id": "u"}) as made:
        made.add_context_update("x", 1)
    assert made.file is None and made.load() is False
    TaskContext({"user_id": "u"}, "new")

asyncio.run(main())
"""


def test_neither_the_constructor_nor_a_context_without_directory_touches_the_disk(
    tmp_path: Path,
) -> None:
    # In a process of its own, for an audit hook cannot be taken off again.
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DISK],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []


async def test_a_context_is_saved_and_loaded_again(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "tasks"
    with TaskContext({"user_id": "u", "chat_id": "c"}, directory) as first:
        first.add_context_update("step", (1,))
        first.metadata["a"] = 1
        first.mode = "m"
    async with task_context({"user_id": "u", "chat_id": "c"}, str(directory)) as second:
        assert second == first
        second.add_context_update("step", 2)
        second.metadata["a"] = 2
    with TaskContext({"user_id": "u", "chat_id": "c", "metadata": {"b": 3}}, directory) as third:
        assert [u.data for u in third.context_history] == [(1,), 2]
        assert third.metadata == {"a": 2, "b": 3}
        assert third.mode == "m"


def test_what_the_new_context_brings_wins_and_stands_last(tmp_path: Path) -> None:
    ids = {"user_id": "u", "chat_id": "c"}
    with TaskContext(ids | {"mode": "old", "service": "s", "x": 1, "y": 1}, tmp_path) as first:
        first.add_context_update("old", 1)
        first.track_model_usage("m1")
    second = TaskContext(ids | {"mode": "new", "x": 2}, tmp_path)
    second.add_context_update("new", 2)
    second.track_model_usage("m2")
    assert second.load() is True
    assert second.load() is True

    assert (second.mode, second.service) == ("new", "s")
    assert [u.update_type for u in second.context_history] == ["old", "new"]
    assert [use["model_id"] for use in second.model_tracker] == ["m1", "m2"]
    assert (second.to_dict()["x"], second.to_dict()["y"]) == (2, 1)


def test_the_context_is_saved_when_the_block_fails(tmp_path: Path) -> None:
    made = TaskContext({"user_id": "u"}, tmp_path)
    with contextlib.suppress(RuntimeError), made:
        made.add_context_update("before", 1)
        raise RuntimeError

    fresh = TaskContext({"user_id": "u"}, tmp_path)
    assert fresh.load()
    assert fresh == made


@pytest.mark.parametrize(
    "evil", ["../../secret", "/etc/passwd", "a\x00b", "x" * 5000, "\ud800", "..", ".", "a/b", "CON"]
)
def test_ids_cannot_steer_the_path(tmp_path: Path, evil: str) -> None:
    made = TaskContext({"user_id": evil, "chat_id": evil}, tmp_path)

    assert made.file.parent == tmp_path
    assert len(made.file.name) == 69
    assert evil.strip("./ab\x00") == "" or evil not in made.file.name


def test_other_ids_have_other_files(tmp_path: Path) -> None:
    pairs = [("a", "bc"), ("ab", "c"), ("abc", ""), ("", "abc"), ("A", "bc"), ("a", "b")]
    files = {TaskContext({"user_id": u, "chat_id": c}, tmp_path).file for u, c in pairs}

    assert len(files) == len(pairs)


def test_saving_without_a_directory_is_an_error() -> None:
    with pytest.raises(InvalidInputError, match="task_dir"):
        TaskContext({}).save()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b'{"metadata":[]}',
        b'{"~":["@os.system","x"]}',
        b'{"context_history":[1]}',
    ],
)
def test_a_file_that_is_no_context_is_corrupt_and_stays(tmp_path: Path, data: bytes) -> None:
    made = TaskContext({"user_id": "u"}, tmp_path)
    made.file.write_bytes(data)
    with pytest.raises(CorruptRecordError), made:
        pass

    assert made.file.read_bytes() == data


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    made = TaskContext({"user_id": "u"}, tmp_path)
    with made.file.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(CorruptRecordError, match="bytes"):
        made.load()


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch) -> None:
    made = TaskContext({"user_id": "u"}, tmp_path)
    made.save()
    before = made.file.read_bytes()
    made.metadata["a"] = object()
    with pytest.raises(InvalidInputError):
        made.save()
    made.metadata["a"] = 1

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(task_file.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        made.save()

    assert made.file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [made.file]


@pytest.mark.skipif(os.name == "nt", reason="no such permissions")
def test_the_file_is_for_its_user_only(tmp_path: Path) -> None:
    made = TaskContext({"user_id": "u"}, tmp_path)
    made.save()

    assert made.file.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name == "nt", reason="no symbolic links")
def test_a_link_in_the_place_of_the_file_is_replaced_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    made = TaskContext({"user_id": "u"}, tmp_path / "tasks")
    made.file.parent.mkdir()
    made.file.symlink_to(target)
    made.save()

    assert target.read_text() == "precious"
    assert not made.file.is_symlink()
