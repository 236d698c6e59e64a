"""Importing the package loads no driver and no optional extra: those come when they are used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "bpe_openai",
    "chdb",
    "clickhouse_connect",
    "fastapi",
    "hiredis",
    "httpx",
    "langchain_core",
    "langgraph",
    "numpy",
    "pydantic",
    "pydantic_settings",
    "redis",
    "rich",
    "sqlite3",
    "typer",
    "uvloop",
}


@pytest.mark.parametrize("module", ["aiecs", "aiecs.core.errors", "aiecs.domain.context"])
def test_importing_loads_no_driver(module: str):
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert HEAVY & set(json.loads(done.stdout)) == set()
