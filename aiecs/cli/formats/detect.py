"""Which format a file has, and its records."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args

from aiecs.cli.formats import export, openai_chat, sharegpt
from aiecs.cli.formats.errors import FormatError, Malformed, Unsupported
from aiecs.cli.formats.source import Source, Text, read_elements, read_lines
from aiecs.cli.formats.values import CHAT_DEPTH, Defaults, decode
from aiecs.domain.context.transfer import Record

FormatName = Literal["openai", "sharegpt", "aiecs"]
FORMATS: tuple[FormatName, ...] = get_args(FormatName)

_SIGNS = re.compile(rb'"((?:messages|conversations)"\s*:\s*\[|format"\s*:\s*"aiecs-export")')
_SIGN_OF: dict[bytes, FormatName] = {
    b"messages": "openai",
    b"conversations": "sharegpt",
    b"format": "aiecs",
}
_LOOK_AHEAD = 1024 * 1024


class Item(NamedTuple):
    """A record and the line of the object that it came from."""

    line: int
    record: Record


class _Reader(Protocol):
    depth: int

    def read(self, data: dict[str, Any]) -> list[Record]: ...
    def skip(self) -> None: ...
    def finish(self) -> str | None: ...


class Log(NamedTuple):
    """A file that is being read: `items` are its records, and errors in their places."""

    source: Source
    format: FormatName
    items: Iterator[Item | FormatError]


@contextmanager
def open_source(path: str) -> Iterator[Source]:
    """The file at `path`, or standard input for "-"; raises `OSError`."""
    if path == "-":
        yield Source(sys.stdin.buffer, "standard input")
        return
    file = Path(path)
    with file.open("rb") as stream:
        size = file.stat().st_size if file.is_file() else None
        yield Source(stream, path, size)


def read_log(source: Source, defaults: Defaults, format_name: FormatName | None = None) -> Log:
    """Begin to read a file, in the format it seems to have unless one is given.

    `FormatError` when it is empty or no chat log.
    """
    source.skip_mark()
    head = source.peek(_LOOK_AHEAD)
    if not head.strip():
        raise source.error(1, "is empty")
    texts = read_elements if _spans_lines(head) else read_lines
    if format_name is None:
        format_name = _detect(source, head)
    items = _items(source, texts(source), _reader(format_name, defaults))
    return Log(source, format_name, items)


def _spans_lines(head: bytes) -> bool:
    """Whether objects go over several lines or stand in a list, instead of one on each line."""
    first, end, _ = head.lstrip().partition(b"\n")
    first = first.strip()
    if first[:1] == b"[" or (not end and len(head) == _LOOK_AHEAD):
        return first[:1] == b"["
    try:
        decode(first.decode())
    except (Malformed, UnicodeDecodeError):
        return first[-1:] in (b"{", b"[", b",")
    return False


def _detect(source: Source, head: bytes) -> FormatName:
    found = _SIGNS.search(head)
    if found is None:
        raise source.error(
            1,
            'is no chat log: expected objects with "messages" (OpenAI) or "conversations" '
            "(ShareGPT), or what `aiecs export` wrote",
        )
    return _SIGN_OF[found[1].split(b'"')[0]]


class _Conversations:
    """Reads a format whose objects stand for themselves."""

    depth = CHAT_DEPTH

    def __init__(
        self, read: Callable[[dict[str, Any], Defaults], list[Record]], defaults: Defaults
    ) -> None:
        self.read = lambda data: read(data, defaults)

    def skip(self) -> None:
        pass

    def finish(self) -> None:
        return None


def _reader(name: FormatName, defaults: Defaults) -> _Reader:
    if name == "aiecs":
        return export.Reader()
    return _Conversations(openai_chat.read if name == "openai" else sharegpt.read, defaults)


def _items(
    source: Source, texts: Iterator[Text | FormatError], reader: _Reader
) -> Iterator[Item | FormatError]:
    line = 1
    for text in texts:
        line = text.line
        if isinstance(text, FormatError):
            reader.skip()
            yield text
            continue
        try:
            records = reader.read(_decode(text.text, reader))
        except Malformed as error:
            yield source.error(line + error.line, str(error))
            if isinstance(error, Unsupported):
                return
        else:
            yield from (Item(line, record) for record in records)
    if (reason := reader.finish()) is not None:
        yield source.error(line, reason)


def _decode(text: str, reader: _Reader) -> dict[str, Any]:
    try:
        return decode(text, reader.depth)
    except Malformed:
        reader.skip()
        raise
