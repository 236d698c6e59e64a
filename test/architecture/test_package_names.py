"""The packages' names are there when they are asked for, and not before."""

from __future__ import annotations

import subprocess
import sys

import pytest

import aiecs


def test_the_version_is_that_of_the_distribution():
    assert aiecs.__version__.count(".") == 2


@pytest.mark.parametrize(
    "module", ["aiecs", "aiecs.domain.context", "aiecs.infrastructure.persistence"]
)
def test_names_are_loaded_when_they_are_asked_for(module):
    code = f"""
import sys, {module} as package
heavy = {{"redis", "sqlite3", "pydantic_settings", "msgspec"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert all(hasattr(package, name) for name in package.__all__)
assert set(package.__all__) <= set(dir(package))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_engine_s_hints_can_be_read_and_its_import_brings_no_codec():
    code = """
import sys, typing
from aiecs.domain.context import ContextEngine, ContextWindow
assert not {"msgspec", "pydantic_settings", "redis", "sqlite3"} & set(sys.modules)
methods = [getattr(ContextEngine, name) for name in dir(ContextEngine) if name[0] != "_"]
methods = [method for method in methods if callable(method)]
assert len(methods) > 25
for one in (*methods, ContextWindow):
    typing.get_type_hints(one)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
