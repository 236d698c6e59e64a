"""Processes that use an embedded archive: chDB opens one directory in a process, ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
PROGRAM = TESTS / "support/embedded_archive.py"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(TESTS)}


def begin(job: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that does a job of `embedded_archive.py`."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", PROGRAM, job, *arguments],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run(job: str, *arguments: str) -> list[str]:
    """The lines that it wrote."""
    with begin(job, *arguments) as process:
        return process.communicate(timeout=60)[0].splitlines()
