"""Chat logs as the OpenAI API writes them: objects with a `messages` list, one per conversation."""

from __future__ import annotations

from typing import Any

from aiecs.cli.formats import values
from aiecs.cli.formats.chat import conversation
from aiecs.cli.formats.errors import Malformed
from aiecs.cli.formats.values import Defaults
from aiecs.domain.context.transfer import Record


def read(data: dict[str, Any], defaults: Defaults) -> list[Record]:
    """The records of one conversation; tool calls and content parts are kept as they are."""
    messages = values.field(data, "messages", list)
    if not messages:
        raise Malformed("has no messages")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            raise Malformed(f"message {number} is {values.kind(message)}; expected an object")
    rest = {name: value for name, value in data.items() if name != "messages"}
    return conversation(rest, messages, defaults)
