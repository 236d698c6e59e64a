"""Versions of channels: they rise, and no two branches of a thread ever give out the same one."""

from __future__ import annotations

import secrets
from typing import Any

_DIGITS = 32
_RANDOM_DIGITS = 16


def following(current: Any) -> Any:
    """The next version: 32 digits that count, a point, 16 digits at random.

    The form is the one that LangGraph's own savers write, so that a thread can be moved from them
    and to them; an int, of savers that use those, is counted on from. After a float comes a float.
    """
    if isinstance(current, float):
        return current + 1
    number = int(str(current or 0).partition(".")[0])
    return f"{number + 1:0{_DIGITS}}.{secrets.randbelow(10**_RANDOM_DIGITS):0{_RANDOM_DIGITS}}"
