"""The user that the documentation advises, made on a real server."""

from __future__ import annotations

import re
from pathlib import Path

from support.servers import Server

PAGE = Path(__file__).parents[2] / "docs/how-to/prepare-redis.md"
USER, PASSWORD = "app", "right"
_MORE = re.compile(r"`((?:\+[a-z|]+ ?)+)`")


def rules(prefix: str) -> list[str]:
    """The words of the page's `ACL SETUSER`, for the keys of one prefix."""
    (told,) = re.findall(r"^ACL SETUSER app (.+?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return told.replace(">password", f">{PASSWORD}").replace("~ce{*", f"~{prefix}{{*").split()


def extra_rules() -> list[str]:
    """What the page adds for clusters, sentinels and confirmed writes."""
    return [word for words in _MORE.findall(PAGE.read_text()) for word in words.split()]


def make_user(server: Server, prefix: str, *, extra: bool = False) -> None:
    """Make the user; another prefix takes the place of the last one."""
    words = ["reset", *rules(prefix), *(extra_rules() if extra else ())]
    said = server.command("ACL", "SETUSER", USER, *words)
    assert said == b"+OK\r\n", said


def login(url: str) -> str:
    """The URL for the user."""
    return url.replace("://", f"://{USER}:{PASSWORD}@", 1)
