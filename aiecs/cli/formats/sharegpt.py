"""ShareGPT conversations: `{"conversations": [{"from": "human", "value": "..."}]}`."""

from __future__ import annotations

import json
from typing import Any

from aiecs.cli.formats import values
from aiecs.cli.formats.chat import conversation
from aiecs.cli.formats.errors import Malformed
from aiecs.cli.formats.values import Defaults
from aiecs.domain.context.transfer import Record

_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function": "tool",
    "function_response": "tool",
}
_PLAIN = ("human", "gpt")


def read(data: dict[str, Any], defaults: Defaults) -> list[Record]:
    """The records of one conversation.

    The usual senders become roles (the original name stays in the metadata unless it is `human`
    or `gpt`); a `function_call` that holds JSON becomes a tool call, and the `observation` behind
    it its result; `system` becomes the first message.
    """
    turns = values.field(data, "conversations", list)
    if not turns:
        raise Malformed("has no conversations")
    rest = {name: value for name, value in data.items() if name not in ("conversations", "system")}
    messages = [_turn(number, turn) for number, turn in enumerate(turns, 1)]
    system = values.field(data, "system", str)
    if system:
        messages.insert(0, {"role": "system", "content": system})
    _link_calls(messages)
    return conversation(rest, messages, defaults)


def _turn(number: int, turn: Any) -> dict[str, Any]:
    where = f"turn {number}: "
    if not isinstance(turn, dict):
        raise Malformed(f"turn {number} is {values.kind(turn)}; expected an object")
    sender = values.field(turn, "from", str, where)
    if not sender:
        raise Malformed(f"{where}has no 'from'")
    rest = {name: value for name, value in turn.items() if name not in ("from", "value")}
    role = _ROLES.get(sender, sender)
    message = {**rest, "role": role, "content": values.field(turn, "value", str, where) or ""}
    if role != sender and sender not in _PLAIN:
        metadata = values.field(rest, "metadata", dict, where) or {}
        message["metadata"] = {"from": sender, **metadata}
    return message


def _link_calls(messages: list[dict[str, Any]]) -> None:
    last = None
    for number, message in enumerate(messages, 1):
        sender = (message.get("metadata") or {}).get("from")
        if sender == "function_call":
            last = f"call_{number}"
            calls = _calls(message["content"], last)
            if calls:
                message["tool_calls"], message["content"] = calls, ""
            else:
                last = None
        elif message["role"] == "tool" and last and "tool_call_id" not in message:
            message["tool_call_id"], last = last, None


def _calls(text: str, call_id: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return []
    arguments = found.get("arguments", {})
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    function = {"name": found["name"], "arguments": arguments}
    return [{"id": call_id, "type": "function", "function": function}]
