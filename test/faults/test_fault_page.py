"""The page of fault tests names tests that exist, for each fault, and each file of this folder."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reference/fault-tests.md").read_text()
FAULTS = [f"F{number}" for number in range(1, 26)]
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)))


@cache
def defined_in(file):
    """The names of the test functions in a file."""
    tree = ast.parse((ROOT / "test" / file).read_bytes())
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def test_what_the_page_names_is_there():
    assert len(NAMED) > 80, "the page is read wrongly"
    missing = [f"{file}::{name}" for file, name in NAMED if name not in defined_in(file)]
    assert missing == []
    assert all(name.startswith("test_") for _, name in NAMED)


def test_every_fault_is_described_and_has_tests():
    assert re.findall(r"^\| (F\d+) \|", PAGE, re.MULTILINE) == FAULTS
    tests = dict(re.findall(r"^- \*\*(F\d+)\*\* (.*(?:\n  .*)*)", PAGE, re.MULTILINE))
    assert list(tests) == FAULTS
    assert all("::" in told for told in tests.values())


def test_every_fault_of_the_archive_has_tests():
    described = re.findall(r"^\| (A\d+) \|", PAGE, re.MULTILINE)
    assert described == [f"A{number}" for number in range(1, len(described) + 1)]
    told = re.findall(r"^- \*\*A(\d+)\*\*(?: to \*\*A(\d+)\*\*)? `", PAGE, re.MULTILINE)
    covered = [n for low, high in told for n in range(int(low), int(high or low) + 1)]
    assert covered == list(range(1, len(described) + 1))


def test_every_file_of_fault_tests_is_on_the_page():
    own = {f"faults/{file.name}" for file in (ROOT / "test/faults").glob("test_*.py")}
    assert own - {file for file, _ in NAMED} == {"faults/test_fault_page.py"}
