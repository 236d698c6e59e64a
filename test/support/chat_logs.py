"""Chat logs of other programs, and what they are read as."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

from aiecs.cli.formats.detect import Item, read_log
from aiecs.cli.formats.errors import FormatError
from aiecs.cli.formats.source import Source
from aiecs.cli.formats.values import Defaults
from aiecs.domain.context.models import ConversationMessage, SessionMetrics
from aiecs.domain.context.transfer import MessageRecord, SessionRecord

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def read(data: bytes | str, **options: Any) -> list[Item | FormatError]:
    """Each record of a log, and each mistake, in order."""
    raw = data.encode() if isinstance(data, str) else data
    return list(read_log(Source(io.BytesIO(raw), "log", len(raw)), Defaults(NOW), **options).items)


def lines(*objects: Any) -> str:
    """A log of one object per line."""
    return "".join(json.dumps(one) + "\n" for one in objects)


def sessions(items: list[Item | FormatError]) -> list[SessionMetrics]:
    records = [item.record for item in items if isinstance(item, Item)]
    return [record.session for record in records if isinstance(record, SessionRecord)]


def messages(items: list[Item | FormatError]) -> list[ConversationMessage]:
    records = [item.record for item in items if isinstance(item, Item)]
    return [record.message for record in records if isinstance(record, MessageRecord)]


def errors(items: list[Item | FormatError]) -> list[tuple[int, str]]:
    return [(item.line, item.reason) for item in items if isinstance(item, FormatError)]
