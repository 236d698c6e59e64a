"""Every Python sample of README.md and docs/ runs as it stands.

The samples of one page share a namespace and run in order. A sample may use `await` at top
level, as in an asyncio console, or call `asyncio.run` itself. What cannot run here is fenced
as `python no-run: <reason>`.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import pytest
from support.samples import python_samples, run_sample, samples_in

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
SKIPPED = re.compile(r" no-run: \w.{9,}")
OTHER_SPELLINGS = {"py", "py3", "python3", "pycon", "{.python", "Python"}


def run_page(page: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    with asyncio.Runner() as runner:
        for sample in python_samples(page):
            if not sample.note:
                run_sample(runner, page, sample, names)


@pytest.fixture
def clean_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("AIECS_", "REDIS_", "CLICKHOUSE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AIECS_STORE_URL", "memory://")
    monkeypatch.chdir(tmp_path)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.usefixtures("clean_place")
@pytest.mark.parametrize("page", [p for p in PAGES if python_samples(p)], ids=name_of)
def test_samples_run(page: Path):
    run_page(page)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_samples_are_skipped_only_with_a_reason(page: Path):
    samples = list(samples_in(page))

    assert [s for s in samples if s.language in OTHER_SPELLINGS] == []
    assert [s for s in python_samples(page) if s.note and not SKIPPED.fullmatch(s.note)] == []


def test_every_fence_is_seen():
    seen = {name_of(page): len(list(samples_in(page))) for page in PAGES}
    there = {
        name_of(page): len(re.findall(r"^ *```", page.read_text(), re.MULTILINE)) // 2
        for page in PAGES
    }

    assert seen == there


@pytest.mark.usefixtures("clean_place")
class TestTheRunner:
    def page(self, text: str) -> Path:
        page = Path("page.md")
        page.write_text(text)
        return page

    def test_samples_of_a_page_share_names_and_a_loop(self):
        run_page(
            self.page(
                "```python\nimport asyncio\nlock = asyncio.Event()\nlock.set()\n```\n"
                "```python\nawait lock.wait()\nloop = asyncio.get_running_loop()\n```\n"
                "```python\nawait asyncio.sleep(0)\n"
                "assert loop is asyncio.get_running_loop()\n```\n"
            )
        )

    def test_a_sample_may_run_a_loop_of_its_own(self):
        run_page(
            self.page(
                "```python\nimport asyncio\nawait asyncio.sleep(0)\n```\n"
                "```python\nasyncio.run(asyncio.sleep(0))\n```\n"
            )
        )

    def test_a_failing_sample_fails_at_its_line(self):
        page = self.page("# Title\n\n```python\nx = 1\n\nassert x == 2\n```\n")

        with pytest.raises(AssertionError) as caught:
            run_page(page)

        assert caught.traceback[-1].lineno + 1 == 6

    def test_a_sample_with_a_reason_is_left_out(self):
        run_page(self.page("```python no-run: needs a server\nraise SystemExit\n```\n"))
