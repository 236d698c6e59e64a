from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from aiecs.core.settings import settings_table

TOOL = Path(__file__).parents[2] / "tools" / "settings_table.py"


@pytest.fixture
def tool(tmp_path: Path) -> dict:
    found = runpy.run_path(str(TOOL))
    found["main"].__globals__["PAGE"] = tmp_path / "settings.md"
    return found


def test_the_page_in_the_repository_is_up_to_date() -> None:
    assert runpy.run_path(str(TOOL))["main"](["--check"]) == 0


def test_a_page_is_written_and_then_up_to_date(tool: dict, tmp_path: Path) -> None:
    assert tool["main"]([]) == 0
    assert tool["main"](["--check"]) == 0
    text = (tmp_path / "settings.md").read_text(encoding="utf-8")
    assert all(f"| `{row.name}` | {row.type} |" in text for row in settings_table())


def test_a_page_that_differs_is_reported_and_left_alone(
    tool: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "settings.md"
    page.write_text("old", encoding="utf-8")

    assert tool["main"](["--check"]) == 1
    assert "out of date" in capsys.readouterr().err
    assert page.read_text(encoding="utf-8") == "old"
