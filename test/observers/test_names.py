"""Each operation of an engine has its place in the conventions, or is known to have none."""

from __future__ import annotations

import ast
from pathlib import Path

import aiecs
from aiecs.integrations.otel import names


def operations():
    """Whatever is decorated with `operation`."""
    return {
        node.name
        for file in Path(aiecs.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.AsyncFunctionDef)
        and any(isinstance(one, ast.Name) and one.id == "operation" for one in node.decorator_list)
    }


def test_every_operation_was_considered():
    found = operations()

    assert len(found) > 35
    assert {one for one in found if names.span_name(one) == one} == set(names.OTHERS)
    assert set(names.MEMORY) <= found
