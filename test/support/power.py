"""What a loss of power leaves of a SQLite file: what was synced, and anything of what was not.

Every write and sync that SQLite asks of the system is noted by a layer below it (a VFS). Of
each moment the files can then be made as a disk may hold them whose power went: all that was
synced, and of each later write nothing, all of it, or some of its sectors, in any order.

The layer is put in through SQLite's own interface by `ctypes`; it needs a Python whose `sqlite3`
module shows SQLite's symbols, as it does where SQLite is a library of the system.
"""

from __future__ import annotations

import _sqlite3
import contextlib
import ctypes
import os
import random
from collections.abc import Iterator
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any, NamedTuple

_SECTOR = 512
_CALLS_OF_A_FILE = 18
_CALLS_OF_A_VFS = 16

# SQLite keeps the name's address, so it has to be handed on as one.
_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_Delete = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)
_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)


class _Vfs(Structure):
    _fields_ = (
        ("version", c_int),
        ("size_of_file", c_int),
        ("longest_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("calls", c_void_p * _CALLS_OF_A_VFS),  # xOpen, xDelete, ...
    )


class _Methods(Structure):
    _fields_ = (("version", c_int), ("calls", c_void_p * _CALLS_OF_A_FILE))


class _File(Structure):
    _fields_ = (("methods", POINTER(_Methods)),)


_WRITE, _TRUNCATE, _SYNC = 2, 3, 4  # their places in the table of methods


class Event(NamedTuple):
    """A "write", "truncate", "sync" or "delete" of a file, or "told": a caller has its answer."""

    kind: str
    name: str
    at: int = 0
    data: bytes = b""


def reachable() -> bool:
    """Whether this Python shows SQLite's symbols."""
    return _library() is not None


def _library() -> Any:
    for place in (getattr(_sqlite3, "__file__", None), None):
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(place)
            library.sqlite3_vfs_find.restype = c_void_p
            return library
    return None


class Recorder:
    """Notes in `events` all that SQLite does to files while `recording`; in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._names: dict[int, str] = {}
        self._library = _library()
        self._below = self._library.sqlite3_vfs_find(None)
        self._own = _Vfs.from_buffer_copy((ctypes.c_char * ctypes.sizeof(_Vfs)).from_address(
            self._below
        ))  # fmt: skip
        self._open_below = _Open(self._own.calls[0])
        self._methods: dict[int, tuple[Any, ...]] = {}
        self._delete_below = _Delete(self._own.calls[1])
        self._calls = (_Open(self._opened), _Delete(self._deleted))
        self._own.name = b"recorder"
        for place, call in enumerate(self._calls):
            self._own.calls[place] = ctypes.cast(call, c_void_p)

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Files that are opened meanwhile, and closed before the end, are watched."""
        self._library.sqlite3_vfs_register(ctypes.byref(self._own), 1)
        try:
            yield
        finally:
            self._library.sqlite3_vfs_unregister(ctypes.byref(self._own))

    def told(self, what: str) -> None:
        """A caller has been told that `what` is stored."""
        self.events.append(Event("told", what))

    def _opened(self, _: int, name: int | None, file: int, flags: int, out: int) -> int:
        code: int = self._open_below(self._below, name, file, flags, out)
        handle = _File.from_address(file)
        if code == 0 and name and handle.methods:
            self._names[file] = os.fsdecode(ctypes.string_at(name))
            handle.methods = self._watched(handle.methods)
        return code

    def _deleted(self, _: int, name: bytes, durable: int) -> int:
        self.events.append(Event("delete", os.fsdecode(name)))
        return int(self._delete_below(self._below, name, durable))

    def _watched(self, below: Any) -> Any:
        known = self._methods.get(ctypes.addressof(below.contents))
        if known is None:
            known = self._watching(below)
            self._methods[ctypes.addressof(below.contents)] = known
        return known[0]

    def _watching(self, below: Any) -> tuple[Any, ...]:
        methods = _Methods.from_buffer_copy(below.contents)
        write, truncate = _Write(methods.calls[_WRITE]), _Truncate(methods.calls[_TRUNCATE])
        sync = _Sync(methods.calls[_SYNC])

        def wrote(file: int, data: int, count: int, at: int) -> int:
            self._note("write", file, at, ctypes.string_at(data, count))
            return int(write(file, data, count, at))

        def truncated(file: int, size: int) -> int:
            self._note("truncate", file, size)
            return int(truncate(file, size))

        def synced(file: int, flags: int) -> int:
            code = int(sync(file, flags))
            self._note("sync", file)
            return code

        own = (_Write(wrote), _Truncate(truncated), _Sync(synced))
        for place, call in zip((_WRITE, _TRUNCATE, _SYNC), own, strict=True):
            methods.calls[place] = ctypes.cast(call, c_void_p)
        return ctypes.pointer(methods), own, (write, truncate, sync)

    def _note(self, kind: str, file: int, at: int = 0, data: bytes = b"") -> None:
        self.events.append(Event(kind, self._names[file], at, data))


def left_behind(events: list[Event], chance: random.Random, kept: float) -> dict[str, bytes]:
    """The files after a loss of power behind these events.

    `kept`: the share of unsynced writes that reached the disk; half of these are torn. What was
    deleted stays so: the first sync of SQLite's log syncs the directory, before any answer.
    """
    files: dict[str, bytearray] = {}
    unsynced: dict[str, list[Event]] = {}
    for event in events:
        if event.kind == "sync":
            for late in unsynced.pop(event.name, []):
                _apply(files, late)
            files.setdefault(event.name, bytearray())
        elif event.kind == "delete":
            unsynced.pop(event.name, None)
            files.pop(event.name, None)
        elif event.kind != "told":
            unsynced.setdefault(event.name, []).append(event)
    for late in (event for pending in unsynced.values() for event in pending):
        if chance.random() < kept:
            _apply(files, late if chance.random() < 0.5 else _torn(late, chance))
    return {name: bytes(content) for name, content in files.items()}


def _torn(event: Event, chance: random.Random) -> Event:
    """As many sectors as had been written, the last one possibly garbled."""
    cut = chance.randrange(0, len(event.data) + 1) if event.data else 0
    whole = cut - cut % _SECTOR
    tail = chance.randbytes(cut - whole)
    return event._replace(data=event.data[:whole] + tail)


def _apply(files: dict[str, bytearray], event: Event) -> None:
    content = files.setdefault(event.name, bytearray())
    if event.kind == "truncate":
        del content[event.at :]
        return
    if len(content) < event.at:
        content.extend(bytes(event.at - len(content)))
    content[event.at : event.at + len(event.data)] = event.data


def put_down(files: dict[str, bytes], directory: Path) -> None:
    """Write the files into a directory, under their own names."""
    for old in directory.iterdir():
        old.unlink()
    for name, content in files.items():
        (directory / Path(name).name).write_bytes(content)
