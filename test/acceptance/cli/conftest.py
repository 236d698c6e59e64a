"""The command line, run in a directory of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import Calls, Processes


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(tmp_path)


@pytest.fixture
def cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Calls:
    return Calls(tmp_path, monkeypatch, capsys)
