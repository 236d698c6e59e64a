"""Stored text reaches the terminal as text, whatever is in it and wherever it goes."""

from __future__ import annotations

import io
import json
import re
import sys
from datetime import UTC, datetime, timedelta

import pytest

from aiecs.cli.render import Output, ago, clean, one_line, plural


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "40")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return screen


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("\x9b31m", "31m"),
        ("a\x00b\x07c\x7f", "abc"),
        ("title\x1b]0;x\x07", "title]0;x"),
        ("over\rwrite", "overwrite"),
        ("two\r\nlines\tand a tab", "two\nlines\tand a tab"),
        ("abc\u202edcba\u2069", "abcdcba"),
        ("half \ud83d", "half \ufffd"),
        ("family 👨‍👩‍👧", "family 👨‍👩‍👧"),
        (None, "None"),
    ],
)
def test_clean(stored: object, shown: str):
    assert clean(stored) == shown


def test_one_line():
    assert one_line(" a\n\n b\tc\u2028d ") == "a b c d"


def test_markup_and_emoji_codes_are_only_text(monkeypatch: pytest.MonkeyPatch):
    terminal = open_terminal(monkeypatch)
    Output().line("[red]x[/red] [link=file:///]y[/] :smile:")
    Output().table(["[b]"], [["[red]cell[/red]"]])

    assert "[red]x[/red] [link=file:///]y[/]" in terminal.getvalue().replace("\n", " ")
    assert ":smile:" in terminal.getvalue()
    assert "[red]cell[/red]" in terminal.getvalue()


def test_a_terminal_gets_columns_within_its_width(monkeypatch: pytest.MonkeyPatch):
    terminal = open_terminal(monkeypatch)
    Output().table(["session", "text"], [["s1", "word " * 30]])

    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    assert plain != terminal.getvalue()
    assert max(map(len, plain.splitlines())) <= 40
    assert "\t" not in plain


def test_a_narrow_terminal_goes_without_the_optional_columns(monkeypatch: pytest.MonkeyPatch):
    terminal = open_terminal(monkeypatch)
    columns = ["session", "one", "two", "last"]
    row = ["s" * 20, "1" * 9, "2" * 9, "now"]

    Output().table(columns, [row], optional=("one", "two"))

    shown = terminal.getvalue()
    assert "s" * 20 in shown
    assert "1" * 9 in shown
    assert "2" * 9 not in shown


def test_what_does_not_fit_is_folded_not_cut(monkeypatch: pytest.MonkeyPatch):
    terminal = open_terminal(monkeypatch)
    Output().table(["session"], [["x" * 100]])

    assert terminal.getvalue().count("x") == 100


def test_paragraphs_wrap_on_a_terminal_behind_their_first_word(monkeypatch: pytest.MonkeyPatch):
    terminal = open_terminal(monkeypatch)
    Output().paragraph("word " * 12, first="->", indent=4)

    lines = terminal.getvalue().splitlines()
    assert lines[0].startswith("->  word")
    assert all(line.startswith("    word") for line in lines[1:])
    assert max(map(len, lines)) <= 40


def test_lines_are_left_to_the_terminal_to_break(monkeypatch: pytest.MonkeyPatch):
    terminal = open_terminal(monkeypatch)
    Output().line("a command that is longer than the terminal is wide")

    assert terminal.getvalue().count("\n") == 1


def test_a_pipe_gets_lines_with_tabs(capsys: pytest.CaptureFixture[str]):
    Output().table(["a", "b"], [["1", "x\ty\nz"], ["2", "word " * 50]])
    Output().line("long " * 50, "bold")

    assert capsys.readouterr().out.splitlines() == [
        "a\tb",
        "1\tx y z",
        "2\t" + ("word " * 50).strip(),
        "long " * 50,
    ]


def test_json_leaves_no_room_for_other_output(capsys: pytest.CaptureFixture[str]):
    output = Output(as_json=True)
    output.line("text")
    output.table(["a"], [["b"]])
    output.json({"x": "é\ud800"})

    assert json.loads(capsys.readouterr().out) == {"x": "é\ufffd"}


def test_a_locale_without_the_characters_gets_escapes_in_json(monkeypatch: pytest.MonkeyPatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    output = Output()
    output.json({"x": "é🎉"})
    output.line("é🎉")
    sys.stdout.flush()

    first, second = raw.getvalue().decode("ascii").splitlines()
    assert json.loads(first) == {"x": "é🎉"}
    assert second == "??"


def test_errors_are_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]):
    Output().error("first\nsecond \x1b[31m")

    assert capsys.readouterr().err == "error: first second [31m\n"


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(seconds=-5), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=59), "59 min ago"),
        (timedelta(hours=23), "23 h ago"),
        (timedelta(days=400), "400 d ago"),
    ],
)
def test_ago(age: timedelta, text: str):
    now = datetime(2026, 5, 4, tzinfo=UTC)

    assert ago(now - age, now) == text


def test_plural():
    assert [plural(count, "session") for count in (0, 1, 1200)] == [
        "0 sessions",
        "1 session",
        "1,200 sessions",
    ]
