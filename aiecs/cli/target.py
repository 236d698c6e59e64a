"""Which store a command works on: one that somebody named, or a file of the user's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from aiecs.core.secret import safe_url
from aiecs.core.settings import load_settings

OPTION = "--store"
STORE_URL = "AIECS_STORE_URL"


class Target(NamedTuple):
    """A store's URL, and where that comes from: the option, a variable, or "default"."""

    url: str
    source: str

    @property
    def shown(self) -> str:
        """The URL without secrets."""
        return safe_url(self.url)

    @property
    def scheme(self) -> str:
        """What stands before `://`, in lower case."""
        return self.url.partition("://")[0].lower()

    @property
    def on_a_server(self) -> bool:
        """Whether another process keeps the data."""
        return self.scheme not in ("memory", "sqlite")

    @property
    def file(self) -> Path | None:
        """The database file of a SQLite store."""
        if self.scheme != "sqlite":
            return None
        path = unquote(urlsplit(self.url).path)
        return Path(path[1:]) if len(path) > 1 else None

    @property
    def python(self) -> str:
        """The Python expression that opens this store; no secret stands in it."""
        if self.source in (OPTION, "default"):
            return f"ContextEngine(store={self.shown!r})"
        return "ContextEngine()"


def choose_store(option: str | None) -> Target:
    """The store to work on.

    `--store`, else `AIECS_STORE_URL`, else the `REDIS_*` settings when one of them is set, else
    `aiecs/aiecs.db` in the directory for the user's data. There is no falling back to another one.
    """
    if option:
        return Target(option, OPTION)
    settings = load_settings()
    if settings.store_url:
        return Target(settings.store_url, STORE_URL)
    if settings.redis_explicit:
        return Target(settings.redis_url, "the REDIS_* settings")
    path = data_directory(os.environ) / "aiecs" / "aiecs.db"
    return Target(f"sqlite:///{quote(str(path))}", "default")


def data_directory(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """Where programs keep the user's data on this platform."""
    home = Path.home()
    if platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    if platform == "darwin":
        return home / "Library" / "Application Support"
    named = Path(environ.get("XDG_DATA_HOME", ""))
    return named if named.is_absolute() else home / ".local" / "share"
