"""Files and functions stay short enough to be read in one go."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES = 400
FUNCTION_LINES = 60
PARTS = ("aiecs", "test", "bench")
FILES = sorted(file for part in PARTS for file in (ROOT / part).rglob("*.py"))


def test_no_file_is_long():
    lines = {str(file.relative_to(ROOT)): len(file.read_bytes().splitlines()) for file in FILES}

    assert {Path(name).parts[0] for name in lines} == {*PARTS}
    assert {name: count for name, count in lines.items() if count > FILE_LINES} == {}


def test_no_function_is_long():
    long = {
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for file in FILES
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES
    }

    assert long == {}
