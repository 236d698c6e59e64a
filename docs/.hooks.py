"""What mkdocs needs to show the pages as they are."""

from __future__ import annotations

import re
from typing import Any

_NO_RUN = re.compile(r"^( *```python) no-run:.*$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Show samples that the tests leave out like all others."""
    return _NO_RUN.sub(r"\1", markdown)
