"""What this distribution is called, and its version."""

from __future__ import annotations

from importlib import metadata

DISTRIBUTION = "aiecs-context-engine"


def version() -> str:
    """The installed version; "unknown" in a checkout that is not installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"
