"""What the commands print: stored text made harmless, tables, and the two consoles.

Stored content is shown as text. It is never read as markup, and characters that could steer the
terminal or turn the reading direction around are taken out of it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aiecs.cli.plot import bars

# C0 and C1 but for tab and newline; embeddings, overrides and isolates of direction; surrogates.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_BLANK = re.compile(r"\s+")
_NARROWEST = 20
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def clean(value: object) -> str:
    """`value` as text without anything that a terminal would obey."""
    text = _CONTROL.sub("", str(value).replace("\r\n", "\n"))
    return _SURROGATE.sub("\ufffd", text)


def one_line(value: object) -> str:
    """`clean`, with every run of blanks as one space."""
    return _BLANK.sub(" ", clean(value)).strip()


class Output:
    """Where a command writes: results to standard output, remarks and progress to standard error.

    On a terminal, tables have columns and colours; in a pipe, each row is a line with tabs between
    its cells. With `as_json`, standard output gets JSON and nothing else.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        for stream in (sys.stdout, sys.stderr):
            _never_fail(stream)
        self._out = _console(sys.stdout)
        self._err = _console(sys.stderr)

    @property
    def interactive(self) -> bool:
        """Whether a person watches standard output."""
        return self._out.is_terminal

    @property
    def shows_progress(self) -> bool:
        """Whether a progress bar makes sense."""
        return self._err.is_terminal and not self.as_json

    @property
    def progress_console(self) -> Console:
        """The console of progress bars."""
        return self._err

    @property
    def console(self) -> Console:
        """The console of standard output."""
        return self._out

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """A sign that something is under way, where somebody watches."""
        if not self.shows_progress:
            yield
            return
        with self._err.status(Text(clean(what))):
            yield

    def flush(self) -> None:
        """Let whoever reads standard output have it now."""
        sys.stdout.flush()

    def json(self, value: Any, *, to_stderr: bool = False) -> None:
        """One JSON document on standard output, or beside it."""
        stream = sys.stderr if to_stderr else sys.stdout
        indent = 2 if stream.isatty() else None
        text = json.dumps(value, ensure_ascii=not _is_utf8(stream), indent=indent)
        stream.write(_SURROGATE.sub("\ufffd", text) + "\n")

    def line(self, text: str = "", style: str = "") -> None:
        """A line of text on standard output; nothing with `as_json`."""
        if not self.as_json:
            _print(self._out, Text(clean(text), style=style))

    def remark(self, text: str, style: str = "dim") -> None:
        """A line on standard error."""
        _print(self._err, Text(clean(text), style=style))

    def error(self, text: str) -> None:
        """An error, as one line on standard error."""
        _print(self._err, Text(f"error: {one_line(text)}", style="red"))

    def paragraph(self, text: str, *, indent: int, first: str = "", style: str = "") -> None:
        """Text that is set in by `indent`, behind `first`; wrapped on a terminal only."""
        if self.as_json:
            return
        margin = " " * indent
        lines = [Text(line, style=style) for line in clean(text).splitlines()]
        if self.interactive:
            width = max(self._out.width - indent, _NARROWEST)
            lines = [part for line in lines for part in line.wrap(self._out, width)]
        for number, line in enumerate(lines):
            start = Text(margin if number or not first else first.ljust(indent), style=style)
            _print(self._out, start + line)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        optional: Sequence[str] = (),
    ) -> None:
        """Rows under their headings; a narrow terminal goes without the `optional` columns."""
        if self.as_json:
            return
        cells = [list(columns), *([one_line(cell) for cell in row] for row in rows)]
        if not self.interactive:
            for row in cells:
                sys.stdout.write("\t".join(row) + "\n")
            return
        shown = _fitting(cells, [columns.index(name) for name in optional], self._out.width)
        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in shown[0]:
            table.add_column(Text(name), overflow="fold")
        for row in shown[1:]:
            table.add_row(*map(Text, row))
        self._out.print(table)

    def bars(self, title: str, pairs: Sequence[tuple[str, float]]) -> None:
        """A bar for each label and value, as wide as the terminal; nothing in a pipe."""
        if self.as_json or not self.interactive:
            return
        self.line()
        self.line(title, "bold")
        plain = not _is_utf8(sys.stdout)
        for line in bars(
            [(one_line(label), n) for label, n in pairs], self._out.width, plain=plain
        ):
            self.line(line)


def _fitting(cells: list[list[str]], optional: list[int], width: int) -> list[list[str]]:
    """The cells without as many optional columns as it takes to fit, the last ones first."""
    widths = [max(map(cell_len, column)) + 2 for column in zip(*cells, strict=True)]
    kept = list(range(len(widths)))
    for number in reversed(optional):
        if sum(widths[n] for n in kept) - 2 <= width:
            break
        kept.remove(number)
    return [[row[n] for n in kept] for row in cells]


def _console(stream: TextIO) -> Console:
    return Console(file=stream, markup=False, highlight=False, emoji=False, soft_wrap=False)


def _print(console: Console, text: Text) -> None:
    # Lines are left to the terminal to break: what is copied from it stays in one piece.
    console.print(text, soft_wrap=True)


def _never_fail(stream: TextIO) -> None:
    # A locale that cannot show a character must not end the command.
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")


def _is_utf8(stream: TextIO) -> bool:
    return (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"


def ago(moment: datetime, now: datetime | None = None) -> str:
    """How long ago a moment was, in its largest unit."""
    seconds = int(((now or datetime.now(UTC)) - moment).total_seconds())
    if seconds < _MINUTE:
        return "just now"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min ago"
    if seconds < _DAY:
        return f"{seconds // _HOUR} h ago"
    return f"{seconds // _DAY} d ago"


def stamp(moment: datetime) -> str:
    """A moment to the second, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def plural(count: int, noun: str) -> str:
    """`1 session`, `2 sessions`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
