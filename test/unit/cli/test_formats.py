"""Chat logs become records; what cannot is told with its line, and the rest goes on."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from aiecs.cli.formats import source as sources
from aiecs.cli.formats.detect import Item, read_log
from aiecs.cli.formats.errors import FormatError
from aiecs.cli.formats.source import Source
from aiecs.cli.formats.values import Defaults
from aiecs.domain.context.models import ConversationMessage, SessionMetrics
from aiecs.domain.context.transfer import MessageRecord, SessionRecord

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def read(data: bytes | str, **options: Any) -> list[Item | FormatError]:
    raw = data.encode() if isinstance(data, str) else data
    return list(read_log(Source(io.BytesIO(raw), "log", len(raw)), Defaults(NOW), **options).items)


def lines(*objects: Any) -> str:
    return "".join(json.dumps(one) + "\n" for one in objects)


def sessions(items: list[Item | FormatError]) -> list[SessionMetrics]:
    records = [item.record for item in items if isinstance(item, Item)]
    return [record.session for record in records if isinstance(record, SessionRecord)]


def messages(items: list[Item | FormatError]) -> list[ConversationMessage]:
    records = [item.record for item in items if isinstance(item, Item)]
    return [record.message for record in records if isinstance(record, MessageRecord)]


def errors(items: list[Item | FormatError]) -> list[tuple[int, str]]:
    return [(item.line, item.reason) for item in items if isinstance(item, FormatError)]


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


# --- lines and elements -------------------------------------------------------------------------


def test_byte_order_mark_blank_lines_and_crlf_are_fine():
    text = "\ufeff" + lines(HELLO).replace("\n", "\r\n") + "\r\n  \r\n" + lines(HELLO)
    items = read(text)

    assert errors(items) == []
    assert [item.line for item in items] == [1, 1, 4, 4]


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
def test_an_empty_file_is_an_error(data: bytes):
    with pytest.raises(FormatError, match="log:1: is empty"):
        read(data)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf16_is_named(encoding: str):
    text = lines(HELLO) if encoding == "utf-16" else "\ufeff" + lines(HELLO)

    with pytest.raises(FormatError, match="is UTF-16"):
        read(text.encode(encoding))


@pytest.mark.parametrize("text", ["name,age\nada,3\n", '{"a": 1}\n', "hello", "[1, 2]", "\0\0\0"])
def test_something_else_is_no_chat_log(text: str):
    with pytest.raises(FormatError, match="log:1: is no chat log"):
        read(text)


def test_bad_utf8_is_told_with_its_place():
    good = lines(HELLO).encode()
    items = read(good + b'{"messages": "\xff"}\n' + good)

    assert errors(items) == [(2, "is not UTF-8 (byte 0xff at column 15)")]


def test_bad_utf8_inside_an_array_is_told_with_its_place():
    good = json.dumps(HELLO).encode()
    items = read(b"[" + good + b',\n{"a":\n"\xff"},\n' + good + b"]")

    assert errors(items) == [(3, "is not UTF-8 (byte 0xff at column 2)")]
    assert len(sessions(items)) == 2


def test_a_line_that_is_too_long_is_passed_over(monkeypatch: pytest.MonkeyPatch):
    long = {"messages": [{"role": "user", "content": "x" * 1000}]}
    raw = lines(HELLO, long, HELLO).encode()
    found = list(sources.read_lines(Source(io.BytesIO(raw), "log"), limit=500))

    assert isinstance(found[1], FormatError)
    assert (found[1].line, found[1].reason.split(",")[0]) == (2, "is longer than 500 bytes")
    assert [one.line for one in found] == [1, 2, 3]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_line_may_be_exactly_as_long_as_the_limit(end: str):
    raw = (json.dumps(HELLO) + end).encode()
    limit = len(json.dumps(HELLO))
    (fits,) = sources.read_lines(Source(io.BytesIO(raw), "log"), limit=limit)
    (long,) = sources.read_lines(Source(io.BytesIO(b"x" + raw), "log"), limit=limit)

    assert not isinstance(fits, FormatError)
    assert isinstance(long, FormatError)


def test_an_element_that_is_too_long_is_passed_over():
    long = {"messages": [{"role": "user", "content": "x" * 1000}]}
    raw = json.dumps([HELLO, long, HELLO], indent=1).encode()
    found = list(sources.read_elements(Source(io.BytesIO(raw), "log"), limit=500))

    assert [isinstance(one, FormatError) for one in found] == [False, True, False]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1000])
def test_elements_do_not_depend_on_how_the_bytes_come(chunk: int, monkeypatch: pytest.MonkeyPatch):
    objects = [
        {"messages": [{"role": "user", "content": 'a "b" \\ {[ \u00e9 ]} \n'}], "n": n}
        for n in range(3)
    ]
    monkeypatch.setattr(sources, "CHUNK", chunk)

    for text in (
        json.dumps(objects, indent=2),
        json.dumps(objects),
        "\n".join(map(json.dumps, objects)),
    ):
        found = list(sources.read_elements(Source(io.BytesIO(text.encode()), "log")))
        assert [
            json.loads(one.text) for one in found if not isinstance(one, FormatError)
        ] == objects


def test_lines_of_elements_are_counted():
    text = (
        "[\n"
        + json.dumps(HELLO)
        + ",\n\n"
        + json.dumps(HELLO, indent=1)
        + ",\n"
        + json.dumps({})
        + "]"
    )
    items = read(text)

    assert [item.line for item in items if isinstance(item, Item)] == [2, 2, 4, 4]
    assert errors(items) == [(12, "has no messages")]


def test_a_mistake_inside_an_element_is_told_with_its_own_line():
    items = read('[{"messages": [\n{"role" "user"}\n]},\n' + json.dumps(HELLO) + "]")

    assert errors(items) == [(2, "is not JSON: Expecting ':' delimiter at column 9")]
    assert len(sessions(items)) == 1


def test_an_array_that_is_cut_off_is_told():
    whole = json.dumps([HELLO, HELLO])

    assert errors(read(whole[:-1])) == [(1, "the list that line 1 opens is never closed")]
    assert errors(read(whole[:-5])) == [
        (1, "begins an object that never ends"),
        (1, "the list that line 1 opens is never closed"),
    ]


def test_what_is_no_object_in_an_array_is_told_once():
    items = read(f'[{json.dumps(HELLO)}, 1, "a {{", null, {json.dumps(HELLO)}]')

    assert errors(items) == [(1, "holds something that is no object")]
    assert len(sessions(items)) == 2


def test_an_object_over_several_lines_is_no_chat_of_lines():
    items = read(json.dumps(HELLO, indent=2) + "\n" + json.dumps(HELLO, indent=2))

    assert errors(items) == []
    assert len(sessions(items)) == 2


def test_a_first_line_that_is_bad_does_not_change_the_layout():
    items = read('{"messages": [}\n' + lines(HELLO, HELLO))

    assert [number for number, _ in errors(items)] == [1]
    assert len(sessions(items)) == 2


def test_a_named_format_is_not_guessed():
    items = read(lines({"x": 1}, HELLO), format_name="openai")

    assert errors(items) == [(1, "has no messages")]


def test_a_very_long_first_line_is_recognised():
    log = {"messages": [{"role": "user", "content": "x" * 3_000_000}]}
    items = read(lines(log, HELLO))

    assert len(sessions(items)) == 2


def test_nothing_is_read_before_it_is_asked_for():
    raw = (lines(HELLO) * 100_000).encode()
    source = Source(io.BytesIO(raw), "log", len(raw))
    log = read_log(source, Defaults(NOW))

    next(log.items)

    assert source.position < 3_000_000
