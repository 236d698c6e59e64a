"""Our own export: one JSON object per line, written and read back without loss.

The first line is the header, `{"format": "aiecs-export", "version": 1}`; then follow records, each
session in front of what belongs to it; the last line says how many there are, so that a file that
was cut off is noticed. Several exports in one file are fine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiecs.cli.formats import values
from aiecs.cli.formats.errors import Malformed
from aiecs.core.errors import InvalidInputError
from aiecs.domain.context.models import ConversationMessage, SessionMetrics
from aiecs.domain.context.transfer import MessageRecord, Record, SessionRecord

FORMAT = "aiecs-export"
VERSION = 1


def _session(data: dict[str, Any]) -> Record:
    return SessionRecord(SessionMetrics.from_dict(_part(data, "session")))


def _message(data: dict[str, Any]) -> Record:
    message = ConversationMessage.from_dict(_part(data, "message"))
    return MessageRecord(_id(data, "session_id"), message)


_READERS: dict[str, Callable[[dict[str, Any]], Record]] = {
    "session": _session,
    "message": _message,
}


def _part(data: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] | None = values.field(data, name, dict)
    if found is None:
        raise Malformed(f"has no {name}")
    return found


def _id(data: dict[str, Any], name: str) -> str:
    found: str | None = values.field(data, name, str)
    if not found:
        raise Malformed(f"has no {name}")
    return found


class Reader:
    """Reads the objects of one file in order."""

    def __init__(self) -> None:
        self._open = False
        self._records = 0

    def read(self, data: dict[str, Any]) -> list[Record]:
        """The record that an object holds; none for the first and the last line."""
        if data.get("format") == FORMAT:
            self._begin(data)
            return []
        kind = data.get("type")
        if kind == "end":
            self._end(data)
            return []
        self._records += 1
        read = _READERS.get(kind) if isinstance(kind, str) else None
        if read is None:
            raise Malformed(f"has the unknown type {kind!r}")
        try:
            return [read(data)]
        except InvalidInputError as error:
            raise Malformed(str(error)) from None

    def skip(self) -> None:
        """A line could not be read; it counts as a record all the same."""
        self._records += 1

    def finish(self) -> str | None:
        """What is wrong with the file as a whole, if anything; to be asked at its end."""
        return "the file ends early: its last line is missing" if self._open else None

    def _begin(self, data: dict[str, Any]) -> None:
        version = data.get("version")
        if type(version) is not int or not 1 <= version <= VERSION:
            raise Malformed(
                f"was written in version {version!r} of the format; this program reads up to "
                f"{VERSION}: install a newer aiecs-context-engine"
            )
        self._open, self._records = True, 0

    def _end(self, data: dict[str, Any]) -> None:
        self._open = False
        if data.get("records") != self._records:
            raise Malformed(f"counts {data.get('records')} records, but {self._records} were found")
