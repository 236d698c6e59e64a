"""Values that must not be seen: passwords, and URLs that hold them."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

MASK: Final = "***"

_SECRET_NAME = re.compile(
    r"pass|pwd|secret|token|credential|auth|signature|api[-_]?key|^(key|sig)$"
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_END = re.compile(r"[/?#]")
_HOST = r"(\[[0-9A-Fa-f:.%]*\]|[^:\[\]]*)(:\d*)?"
_PLACE = re.compile(rf"{_HOST}(,{_HOST})*")


class Secret:
    """Text that `str`, `repr`, formatting and logging show as `***`; `reveal()` gives it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    def __str__(self) -> str:
        return MASK

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


class SecretUrl(Secret):
    """A URL, shown without its passwords."""

    __slots__ = ()

    def __str__(self) -> str:
        return safe_url(self.reveal())


def safe_url(url: str) -> str:
    """`url` to show to people: passwords in front of the host and in the query are `***`.

    The user name stays. Of a URL that is not well-formed rather too much is masked: all
    up to its last `@`, for an unescaped password may hold any character. Never raises.
    """
    scheme, found, rest = url.partition("://")
    if not _SCHEME.fullmatch(scheme):
        scheme, found, rest = "", "", url
    if not rest.startswith("/"):
        rest = _without_password(rest)
    place, mark, query = rest.partition("?")
    return f"{scheme}{found}{place}{mark}{_without_secrets(query)}"


def _without_password(rest: str) -> str:
    login, at, place = rest.rpartition("@")
    if at:
        user, colon, _ = login.partition(":")
        # A login without colon may be a user or, by a common mistake, a password.
        return f"{user}:{MASK}@{place}" if colon else f"{MASK}@{place}"
    place = _END.split(rest, maxsplit=1)[0]
    return rest if _PLACE.fullmatch(place) else MASK + rest[len(place) :]


def _without_secrets(query: str) -> str:
    parts = re.split(r"([&;#])", query)
    return "".join(_masked(part) for part in parts)


def _masked(part: str) -> str:
    name, equals, _ = part.partition("=")
    if equals and _SECRET_NAME.search(unquote(name).lower()):
        return f"{name}={MASK}"
    return part
