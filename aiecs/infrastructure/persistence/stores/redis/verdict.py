"""What becomes of a write whose answer is not a plain "applied"."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from aiecs.infrastructure.persistence.stores.redis.entry import Entry

_OUT_OF_ORDER = [0, -2]
REDIRECTIONS = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")
#: A replica cannot answer; its primary can.
NO_REPLICA = ("LOADING", "MASTERDOWN")


class Verdict(Enum):
    """What the lane does with the entry."""

    TELL = auto()
    """The caller is told."""
    AGAIN = auto()
    """It is sent again on this connection."""
    ELSEWHERE = auto()
    """Another node of the cluster is asked, or this one later."""
    DEMOTED = auto()
    """This server is not the primary any more: it waits for a connection to the one that is."""


def verdict(entry: Entry, reply: Any, *, clustered: bool, watched: bool) -> Verdict:
    """What to do; a definitive refusal gets a new number, so that it stays ahead of what follows.

    `watched`: sentinels know which server is the primary.
    """
    if not isinstance(reply, Exception):
        # Refused for its place in the order, or by a guard whose answer was lost: settled as
        # refused, so it is asked anew under a new number.
        if reply != _OUT_OF_ORDER or entry.own_receipt:
            return Verdict.TELL
        entry.receipt = None
        return Verdict.AGAIN
    code = redirection(reply) if clustered else ""
    found = Verdict.ELSEWHERE if code else _other(str(reply), watched=watched)
    if found is not Verdict.TELL and not entry.repeated and not entry.own_receipt:
        # Nothing ran. A first try that is still on its way would not be refused by a new number.
        entry.receipt = None
    return found


def _other(message: str, *, watched: bool) -> Verdict:
    if message.startswith("NOSCRIPT"):
        return Verdict.AGAIN
    if watched and "READONLY" in message:
        return Verdict.DEMOTED
    return Verdict.TELL


def redirection(reply: Any, codes: tuple[str, ...] = REDIRECTIONS) -> str:
    """The reply's text if it sends the caller to another node, or to wait; else ""."""
    if not isinstance(reply, Exception):
        return ""
    message = str(reply)
    return message if message.startswith(codes) else ""
