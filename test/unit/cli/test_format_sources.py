"""How a file is cut into conversations: lines, elements of a list, places and limits."""

from __future__ import annotations

import io
import json

import pytest
from support.chat_logs import HELLO, NOW, errors, lines, read, sessions

from aiecs.cli.formats import source as sources
from aiecs.cli.formats.detect import Item, read_log
from aiecs.cli.formats.errors import FormatError
from aiecs.cli.formats.source import Source
from aiecs.cli.formats.values import Defaults


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


def test_a_line_that_is_too_long_is_passed_over():
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
