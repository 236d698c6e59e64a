"""A file as a stream of JSON texts with their line numbers; it is never loaded whole.

Two layouts: one JSON value per line (`read_lines`), and values that may span lines, inside one
array or one after the other (`read_elements`). What cannot be a value is told as a `FormatError`
in the stream, and reading goes on behind it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from aiecs.cli.formats.errors import FormatError

MAX_VALUE_BYTES = 64 * 1024 * 1024
CHUNK = 256 * 1024

_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_OUTSIDE = re.compile(rb'["{}\[\]]')
_INSIDE = re.compile(rb'["\\]')
_ANY = re.compile(rb"(?s:.)")
_BETWEEN = re.compile(rb"[^\s,]")
_DEPTH = {b'"': 0, b"{": 1, b"[": 1, b"}": -1, b"]": -1}


class Text(NamedTuple):
    """A JSON text and the line it starts on."""

    line: int
    text: str


class Source:
    """An open file: its name, its size in bytes (None for a pipe) and how far it has been read."""

    def __init__(self, stream: BinaryIO, name: str, size: int | None = None) -> None:
        self.name = name
        self.size = size
        self.position = 0
        self._stream = stream
        self._held = b""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; fewer only at the end."""
        found, self._held = self._held[:size], self._held[size:]
        if len(found) < size:
            found += self._stream.read(size - len(found))
        self.position += len(found)
        return found

    def read_line(self, limit: int) -> bytes:
        """A line with its end, or its first `limit` bytes."""
        found = io.BytesIO(self._held).readline(limit)
        self._held = self._held[len(found) :]
        if not found.endswith(b"\n") and len(found) < limit:
            found += self._stream.readline(limit - len(found))
        self.position += len(found)
        return found

    def peek(self, size: int) -> bytes:
        """The next bytes, which stay to be read."""
        if len(self._held) < size:
            self._held += self._stream.read(size - len(self._held))
        return self._held[:size]

    def skip_mark(self) -> None:
        """Pass over a byte order mark; `FormatError` when it is not that of UTF-8."""
        start = self.peek(3)
        if start.startswith(_UTF16):
            raise FormatError(self.name, 1, "is UTF-16; convert it to UTF-8 first")
        if start == _BOM:
            self.read(3)

    def error(self, line: int, reason: str) -> FormatError:
        """An error of this file."""
        return FormatError(self.name, line, reason)


def read_lines(source: Source, limit: int = MAX_VALUE_BYTES) -> Iterator[Text | FormatError]:
    """The lines that are not blank."""
    number = 0
    while line := source.read_line(limit + 2):  # room for the line's end
        number += 1
        part = line
        while part and not part.endswith(b"\n"):
            part = source.read_line(CHUNK)
        line = line.strip()
        if len(line) > limit:
            yield source.error(number, _too_long(limit))
        elif line:
            yield _text(source, number, line)


def _text(source: Source, line: int, raw: bytes) -> Text | FormatError:
    try:
        return Text(line, raw.decode())
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        column = error.start - before.rfind(b"\n")
        where = f"byte 0x{raw[error.start]:02x} at column {column}"
        return source.error(line + before.count(b"\n"), f"is not UTF-8 ({where})")


def _too_long(limit: int) -> str:
    return f"is longer than {limit:,} bytes, the most that one value may have"


def read_elements(source: Source, limit: int = MAX_VALUE_BYTES) -> Iterator[Text | FormatError]:
    """The objects of a JSON array, or objects one after the other, over any number of lines."""
    scan = _Scanner(source, limit)
    array_line = 0
    stray = False
    while mark := scan.until(_BETWEEN):
        if mark == b"]":
            array_line = 0
        elif mark == b"[" and not array_line:
            array_line = scan.line
        elif mark in (b"{", b"["):
            stray = False
            yield scan.element(mark)
        elif not stray:
            stray = True
            yield source.error(scan.line, "holds something that is no object")
        if mark == b'"':
            scan.string()
    if array_line:
        yield source.error(scan.line, f"the list that line {array_line} opens is never closed")


class _Scanner:
    """Walks over the bytes of a source from mark to mark, counting lines."""

    def __init__(self, source: Source, limit: int) -> None:
        self.line = 1
        self._source = source
        self._limit = limit
        self._chunk = b""
        self._at = 0
        self._keep: bytearray | None = None

    def until(self, pattern: re.Pattern[bytes]) -> bytes:
        """Pass over everything up to the first match and the match itself; b"" at the end."""
        while True:
            found = pattern.search(self._chunk, self._at)
            self._advance(found.end() if found else len(self._chunk))
            if found:
                return found.group()
            self._chunk, self._at = self._source.read(CHUNK), 0
            if not self._chunk:
                return b""

    def _advance(self, end: int) -> None:
        self.line += self._chunk.count(b"\n", self._at, end)
        if self._keep is not None:
            self._keep += self._chunk[self._at : end]
            if len(self._keep) > self._limit:
                self._keep = None
        self._at = end

    def element(self, opening: bytes) -> Text | FormatError:
        """The object that `opening` begins."""
        line, depth = self.line, 1
        self._keep = bytearray(opening)
        while depth:
            mark = self.until(_OUTSIDE)
            if not mark or (mark == b'"' and not self.string()):
                self._take()
                return self._source.error(line, "begins an object that never ends")
            depth += _DEPTH[mark]
        kept = self._take()
        if kept is None:
            return self._source.error(line, _too_long(self._limit))
        return _text(self._source, line, kept)

    def _take(self) -> bytes | None:
        kept, self._keep = self._keep, None
        return None if kept is None else bytes(kept)

    def string(self) -> bool:
        """Pass over the rest of a string; False when it does not end."""
        while (mark := self.until(_INSIDE)) == b"\\":
            self.until(_ANY)
        return bool(mark)
