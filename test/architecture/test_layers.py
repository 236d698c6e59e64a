"""Imports point one way, and the contracts in pyproject.toml would notice if they did not."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT_IMPORTS = (sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()")

SKELETON = (
    "aiecs/core/settings.py",
    "aiecs/domain/context/context_engine.py",
    "aiecs/domain/task/task_context.py",
    "aiecs/infrastructure/persistence/context_engine_client.py",
    "aiecs/infrastructure/persistence/stores/memory.py",
    "aiecs/infrastructure/persistence/stores/redis/transport.py",
    "aiecs/infrastructure/persistence/stores/semantics.py",
    "aiecs/integrations/langgraph.py",
    "aiecs/integrations/fastapi.py",
    "aiecs/testing/store_contract.py",
    "aiecs/service/app.py",
    "aiecs/cli/entry.py",
)

ALLOWED = (
    ("aiecs/core/settings.py", "def read():\n    import pydantic_settings"),
    ("aiecs/core/settings.py", "import msgspec"),
    ("aiecs/domain/context/context_engine.py", "import aiecs.core.settings"),
    (
        "aiecs/infrastructure/persistence/context_engine_client.py",
        "from aiecs.domain.context import context_engine",
    ),
    (
        "aiecs/infrastructure/persistence/stores/memory.py",
        "from aiecs.infrastructure.persistence.stores import semantics",
    ),
    ("aiecs/infrastructure/persistence/stores/redis/transport.py", "import redis.asyncio"),
    ("aiecs/integrations/langgraph.py", "import aiecs.domain.context.context_engine"),
    ("aiecs/cli/entry.py", "import aiecs.service.app, aiecs.infrastructure.persistence"),
)

FORBIDDEN = (
    ("aiecs/core/settings.py", "import aiecs.domain", "layers point inward"),
    ("aiecs/domain/context/context_engine.py", "import aiecs.integrations", "layers point inward"),
    ("aiecs/integrations/fastapi.py", "import aiecs.infrastructure", "layers point inward"),
    ("aiecs/testing/store_contract.py", "import aiecs.infrastructure", "layers point inward"),
    ("aiecs/service/app.py", "import aiecs.cli", "layers point inward"),
    ("aiecs/helpers/text.py", "", "layers point inward"),
    (
        "aiecs/domain/context/context_engine.py",
        "def late():\n    import aiecs.infrastructure.persistence",
        "only the process-wide engine joins domain and infrastructure",
    ),
    (
        "aiecs/infrastructure/persistence/stores/memory.py",
        "import aiecs.domain.task.task_context",
        "only the process-wide engine joins domain and infrastructure",
    ),
    ("aiecs/core/settings.py", "import redis", "core and domain know no driver"),
    (
        "aiecs/domain/context/context_engine.py",
        "def late():\n    import sqlite3",
        "core and domain know no driver",
    ),
    (
        "aiecs/domain/task/task_context.py",
        "import pydantic",
        "core and domain know no driver",
    ),
    (
        "aiecs/infrastructure/persistence/stores/memory.py",
        "import aiecs.infrastructure.persistence.stores.redis.transport",
        "stores share their semantics and nothing else",
    ),
    (
        "aiecs/integrations/fastapi.py",
        "import aiecs.integrations.langgraph",
        "integrations do not know each other",
    ),
)


def lint(root: Path) -> tuple[int, str]:
    done = subprocess.run(
        [*LINT_IMPORTS, "--no-cache"],
        cwd=root,
        env={"PYTHONPATH": str(root), "PATH": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def plant(root: Path, path: str, code: str) -> None:
    file = root / path
    for package in [parent for parent in file.relative_to(root).parents if parent != Path()]:
        (root / package).mkdir(parents=True, exist_ok=True)
        (root / package / "__init__.py").touch()
    with file.open("a") as target:
        target.write(code + "\n")


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    for path in SKELETON:
        plant(tmp_path, path, "")
    return tmp_path


def test_the_package_keeps_every_contract():
    code, output = lint(ROOT)

    assert code == 0, output


def test_the_contracts_allow_what_the_design_needs(skeleton: Path):
    for path, code in ALLOWED:
        plant(skeleton, path, code)

    code, output = lint(skeleton)

    assert code == 0, output


@pytest.mark.parametrize(("path", "code", "contract"), FORBIDDEN)
def test_the_contracts_notice(skeleton: Path, path: str, code: str, contract: str):
    plant(skeleton, path, code)

    exit_code, output = lint(skeleton)

    assert exit_code == 1, output
    assert f"{contract} BROKEN" in output


def test_the_contracts_notice_a_cycle(skeleton: Path):
    plant(skeleton, "aiecs/domain/task/task_context.py", "import aiecs.domain.context")
    plant(skeleton, "aiecs/domain/context/context_engine.py", "import aiecs.domain.task")

    exit_code, output = lint(skeleton)

    assert exit_code == 1, output
    assert "no cycles between siblings BROKEN" in output


def imported_roots(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def test_core_needs_only_the_standard_library_and_msgspec():
    core = ROOT / "aiecs" / "core"
    extra = {core / "settings.py": {"pydantic", "pydantic_settings"}}
    allowed = sys.stdlib_module_names | {"aiecs", "msgspec"}

    foreign = {
        (str(file.relative_to(ROOT)), root)
        for file in core.rglob("*.py")
        for root in set(imported_roots(file)) - allowed - extra.get(file, set())
    }

    assert foreign == set()
