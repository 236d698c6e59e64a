"""Where the scripts `aiecs` and `context-engine` begin; needs nothing but the core dependencies."""

from __future__ import annotations

import sys
from importlib import util

from aiecs.cli.about import DISTRIBUTION, version

_EXTRA = ("typer", "rich")


def main() -> int:
    """Run the command line; the exit code."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        print(f"{DISTRIBUTION} {version()}")
        return 0
    missing = [name for name in _EXTRA if util.find_spec(name) is None]
    if missing:
        print(
            f"error: the command line needs {' and '.join(missing)}: "
            f"pip install '{DISTRIBUTION}[cli]'",
            file=sys.stderr,
        )
        return 1
    from aiecs.cli.app import run_app

    return run_app()
