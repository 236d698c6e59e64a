"""Python samples of Markdown pages: found by their fences, run with top-level `await`."""

from __future__ import annotations

import ast
import asyncio
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\S+)(?P<note>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


class Sample(NamedTuple):
    """A fence: the line its code starts on, its code, and what follows the language."""

    line: int
    language: str
    note: str
    code: str


def samples_in(page: Path) -> Iterator[Sample]:
    text = page.read_text()
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start("code"))
        code = textwrap.dedent(found["code"])
        yield Sample(line, found["language"], found["note"], code)


def python_samples(page: Path) -> list[Sample]:
    return [sample for sample in samples_in(page) if sample.language == "python"]


def run_sample(runner: asyncio.Runner, page: Path, sample: Sample, names: dict[str, Any]) -> None:
    # Leading blank lines let a traceback point at the line of the page.
    source = "\n" * sample.line + sample.code
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # and none of this module's own
    code = compile(source, str(page), "exec", flags=flags, dont_inherit=True)
    pending = eval(code, names)
    if pending is not None:
        runner.run(pending)
