"""Chat logs become records; what cannot is told with its line, and the rest goes on."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from support.chat_logs import HELLO, NOW, errors, lines, messages, read, sessions

# --- OpenAI chat logs ---------------------------------------------------------------------------


def test_a_line_is_a_session_with_its_messages():
    items = read(
        lines(
            {
                "session_id": "s1",
                "user": "ada",
                "created": 1_777_888_800,
                "tools": [{"type": "function"}],
                "messages": [
                    {"role": "user", "content": "hi", "name": "Ada"},
                    {"role": "assistant", "content": None, "refusal": None, "weight": 1},
                ],
            }
        )
    )

    (session,) = sessions(items)
    first, second = messages(items)
    assert (session.session_id, session.user_id) == ("s1", "ada")
    assert session.created_at == datetime.fromtimestamp(1_777_888_800, UTC)
    assert session.metadata == {"tools": [{"type": "function"}]}
    assert (first.content, first.name, first.timestamp) == ("hi", "Ada", session.created_at)
    assert (second.content, second.metadata) == ("", {"weight": 1})


def test_tool_calls_and_their_results_are_kept():
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]
    items = read(
        lines(
            {
                "messages": [
                    {"role": "assistant", "content": None, "tool_calls": calls},
                    {"role": "tool", "tool_call_id": "c1", "content": "1"},
                ]
            }
        )
    )

    call, result = messages(items)
    assert call.tool_calls == calls
    assert result.tool_call_id == "c1"


def test_content_parts_are_kept_and_their_text_is_the_content():
    parts = [
        {"type": "text", "text": "look:"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "text", "text": "nice?"},
    ]
    (message,) = messages(read(lines({"messages": [{"role": "user", "content": parts}]})))

    assert message.parts == parts
    assert message.content == "look:\nnice?"


def test_token_counts_of_the_messages_add_up_to_the_session():
    metadata = {"input_tokens": 3, "output_tokens": 4, "model": "m"}
    message = {"role": "assistant", "content": "x", "metadata": metadata}
    odd = {"role": "assistant", "content": "x", "metadata": {"input_tokens": True}}

    (session,) = sessions(read(lines({"messages": [message, message, odd]})))

    assert (session.input_tokens, session.output_tokens) == (6, 8)


def test_times_are_taken_from_the_messages():
    log = {
        "messages": [
            {"role": "user", "content": "a", "timestamp": "2026-05-01T10:00:00Z"},
            {"role": "user", "content": "b", "timestamp": 1_777_888_800_000},
            {"role": "user", "content": "c", "timestamp": "yesterday"},
        ]
    }
    items = read(lines(log))

    first, second, third = messages(items)
    assert first.timestamp == datetime(2026, 5, 1, 10, tzinfo=UTC)
    assert second.timestamp == datetime.fromtimestamp(1_777_888_800, UTC)
    assert (third.timestamp, third.metadata) == (NOW, {"timestamp": "yesterday"})
    assert sessions(items)[0].created_at == first.timestamp


def test_reading_again_gives_the_same_ids():
    first, again = read(lines(HELLO)), read(lines(HELLO))

    assert sessions(first)[0].session_id == sessions(again)[0].session_id
    assert [m.id for m in messages(first)] == [m.id for m in messages(again)]


def test_other_content_gives_other_ids():
    other = {"messages": [{"role": "user", "content": "hello!"}]}
    items = read(lines(HELLO, other))

    assert len({session.session_id for session in sessions(items)}) == 2
    assert len({message.id for message in messages(items)}) == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"messages": []}', "has no messages"),
        ('{"other": 1}', "has no messages"),
        ('{"messages": {}}', "messages is an object; expected a list"),
        ('{"messages": [1]}', "message 1 is a number; expected an object"),
        ('{"messages": [{"content": "x"}]}', "message 1: has no role"),
        ('{"messages": [{"role": "", "content": "x"}]}', "message 1: has no role"),
        ('{"messages": [{"role": 1}]}', "message 1: role is a number; expected text"),
        (
            '{"messages": [{"role": "u", "content": true}]}',
            "message 1: content is a boolean; expected text, a list of parts or null",
        ),
        (
            '{"messages": [{"role": "u", "tool_calls": "x"}]}',
            "message 1: tool_calls is text; expected a list",
        ),
        ("[]", "holds a list; expected an object"),
        ("null", "holds null; expected an object"),
        ('{"messages": [', "is not JSON: Expecting value at column 15"),
        ('{"messages": NaN}', "is not JSON: NaN is no JSON number"),
        ('{"messages": ' + "9" * 5000 + "}", "is not JSON: Exceeds the limit"),
        ('{"messages": ' + "[" * 100 + "]" * 100 + "}", "is nested deeper than 80 levels"),
        ('{"messages": ' + "[" * 200_000, "is nested deeper than 80 levels"),
        ('{"id": "' + "x" * 300 + '", "messages": [{"role": "u"}]}', "id has 300 bytes"),
    ],
)
def test_a_bad_line_is_told_and_the_rest_goes_on(line: str, reason: str):
    items = read(f"{lines(HELLO)}{line}\n{lines(HELLO)}")

    ((number, found),) = errors(items)
    assert number == 2
    assert found.startswith(reason)
    assert len(sessions(items)) == 2


# --- ShareGPT -----------------------------------------------------------------------------------


def test_sharegpt_senders_become_roles():
    turns = [
        {"from": "human", "value": "hi"},
        {"from": "gpt", "value": "hello"},
        {"from": "bing", "value": "me too"},
        {"from": "critic", "value": "hm"},
    ]
    log = [{"id": "x1", "system": "be kind", "conversations": turns, "source": "web"}]
    items = read(json.dumps(log, indent=1))

    assert [m.role for m in messages(items)] == [
        "system",
        "user",
        "assistant",
        "assistant",
        "critic",
    ]
    assert messages(items)[3].metadata == {"from": "bing"}
    assert sessions(items)[0].session_id == "x1"
    assert sessions(items)[0].metadata == {"source": "web"}


def test_sharegpt_function_calls_become_tool_calls():
    turns = [
        {"from": "human", "value": "2+2?"},
        {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 2, "b": 2}}'},
        {"from": "observation", "value": "4"},
        {"from": "function_call", "value": "not JSON"},
        {"from": "observation", "value": "?"},
    ]
    _, call, result, odd, late = messages(read(json.dumps([{"conversations": turns}])))

    (made,) = call.tool_calls or []
    assert made["function"] == {"name": "add", "arguments": '{"a": 2, "b": 2}'}
    assert (call.content, result.role, result.tool_call_id) == ("", "tool", made["id"])
    assert (odd.content, odd.tool_calls, late.tool_call_id) == ("not JSON", None, None)


def test_sharegpt_may_come_one_conversation_per_line():
    line = json.dumps({"conversations": [{"from": "human", "value": "hi"}]})
    items = read(f"{line}\n{line[:-3]}\n{line}\n")

    assert len(sessions(items)) == 2
    assert [number for number, _ in errors(items)] == [2]


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        (1, "turn 1 is a number; expected an object"),
        ({"value": "x"}, "turn 1: has no 'from'"),
        ({"from": "human", "value": 1}, "turn 1: value is a number; expected text"),
    ],
)
def test_sharegpt_bad_turns(turn: Any, reason: str):
    items = read(json.dumps([{"conversations": [turn]}]))

    assert errors(items) == [(1, reason)]
