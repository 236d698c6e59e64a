"""Other people inherit the suite: in a project of their own, with pytest's defaults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
THEIRS = """
import pytest_asyncio
from aiecs.infrastructure.persistence.stores.memory import MemoryStore
from aiecs.testing import StoreContract


class Backwards(MemoryStore):
    async def apply(self, batch, *, timeout=None):
        results = await super().apply(batch)
        return results and results[::-1]


class TestTheirs(StoreContract):
    kind = MemoryStore

    @pytest_asyncio.fixture
    async def store(self):
        store = self.kind()
        yield store
        await store.close()


class TestBackwards(TestTheirs):
    kind = Backwards
"""


def run(folder: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *options],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_stores_of_somebody_else(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]")
    (tmp_path / "test_theirs.py").write_text(THEIRS)

    output = run(tmp_path, "-k", "test_sequences_are_gapless or test_a_store_that_works_answers")

    assert "1 failed, 3 passed" in output
    assert "TestBackwards::test_sequences_are_gapless" in output
    # The asserts of the suite say what they compared, as those of a test module do.
    assert "At index 0 diff" in output


def test_the_suite_knows_no_store_of_ours():
    code = (
        "import sys, aiecs.testing;"
        "print([name for name in sys.modules if name.startswith('aiecs.infrastructure')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
