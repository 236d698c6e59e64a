"""Write docs/reference/settings.md from the settings themselves; `--check` only compares."""

# ruff: noqa: INP001 - a script

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "settings.md"

HEAD = """\
# Settings

<!-- Written by tools/settings_table.py; change aiecs/core/settings.py instead. -->

Arguments of `ContextEngine` come first, then the environment, then the defaults. An empty variable
counts as not set. A `.env` file is not read by itself: `load_settings(env_file=".env")` reads it.

| Variable | Type | Default | Meaning |
|---|---|---|---|
"""

FOOT = """
::: aiecs.core.settings
    options:
      members: [load_settings, settings_table, safe_url, Settings]
"""


def page() -> str:
    """The page as it should be."""
    from aiecs.core.settings import settings_table

    rows = [
        f"| `{row.name}` | {row.type} | {f'`{row.default}`' if row.default else ''} "
        f"| {row.description.replace('|', chr(92) + '|')} |\n"
        for row in settings_table()
    ]
    return HEAD + "".join(rows) + FOOT


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` tell by the exit code whether it is up to date."""
    wanted = page()
    if arguments == ["--check"]:
        if PAGE.read_text(encoding="utf-8") == wanted:
            return 0
        sys.stderr.write(f"{PAGE.name} is out of date: run python tools/settings_table.py\n")
        return 1
    PAGE.write_text(wanted, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv[1:]))
