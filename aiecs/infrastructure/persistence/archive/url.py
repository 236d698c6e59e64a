"""What an archive's URL names: a ClickHouse server, or a directory for the embedded engine.

clickhouse://[user:password@]host:8123/database     clickhouses:// with TLS (port 8443)
chdb:///relative/directory                          chdb:////absolute/directory
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from aiecs.core.errors import InvalidInputError
from aiecs.core.secret import Secret

SCHEMES: Final = ("clickhouse", "clickhouses", "chdb")

_USAGE: Final = (
    "an archive is clickhouse://user:password@host:port/database, the same with clickhouses:// "
    "for TLS, or chdb:///relative/directory, chdb:////absolute/directory"
)
_DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_NOT_OURS = frozenset({"system", "information_schema"})
_COMPRESSIONS = ("lz4", "zstd", "gzip", "none")
_YES_NO = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_MAX_SECONDS = 3600.0
_MAX_DAYS = 36_500
_CHDB_DATABASE = "aiecs"
_SERVER_DATABASE = "default"


@dataclass(frozen=True, slots=True)
class Address:
    """Where an archive is and how it is used; shows no secret. `path` is set for chDB alone."""

    database: str
    path: str | None = None
    host: str = ""
    port: int = 0
    user: str = "default"
    password: Secret | None = None
    secure: bool = False
    #: File of the authorities that may sign the server; None: those of the system.
    ca: str | None = None
    #: Seconds to wait for a connection, and for the answer to a call.
    connect_timeout: float = 5.0
    timeout: float = 30.0
    #: How inserts travel; "": as fast as the installed packages allow.
    compression: str = ""
    #: Keep an index of the words in messages: search 80 times faster, inserts 3 times slower.
    text_index: bool = False
    #: Days after which rows are dropped, a month at a time; None: never.
    ttl_days: int | None = None

    @property
    def name(self) -> str:
        """The address without secrets."""
        if self.path is not None:
            other = "" if self.database == _CHDB_DATABASE else f"?database={self.database}"
            return f"chdb:///{quote(self.path)}{other}"
        scheme = "clickhouses" if self.secure else "clickhouse"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}/{self.database}"


def address_of(url: str) -> Address:
    """The address of a URL; `InvalidInputError`, which quotes nothing of it, if it names none.

    Both kinds take `text_index=true` and `ttl_days=365`, and `timeout=` in seconds. A server also
    takes `secure=true`, `ca=/file.pem`, `connect_timeout=` and `compression=` (lz4, zstd, gzip or
    none), chDB also `database=`. A database that does not exist is created.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        _refuse(_USAGE)
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES or parts.fragment:
        _refuse(_USAGE)
    options = _Options(parts.query)
    if scheme == "chdb":
        if parts.netloc or not parts.path.strip("/"):
            _refuse("an embedded archive is chdb:///relative/directory or chdb:////absolute/one")
        return _embedded(unquote(parts.path[1:]), options)
    if not parts.hostname:
        _refuse(_USAGE)
    secure = options.flag("secure", default=scheme == "clickhouses")
    found = Address(
        database=_database(unquote(parts.path[1:]) or _SERVER_DATABASE),
        host=unquote(parts.hostname),
        port=port or (8443 if secure else 8123),
        user=unquote(parts.username or "") or "default",
        password=Secret(unquote(parts.password)) if parts.password else None,
        secure=secure,
        ca=options.text("ca"),
        connect_timeout=options.seconds("connect_timeout", 5.0),
        timeout=options.seconds("timeout", 30.0),
        compression=options.one_of("compression", _COMPRESSIONS),
        text_index=options.flag("text_index", default=False),
        ttl_days=options.days("ttl_days"),
    )
    options.check_all_taken()
    if found.ca and not secure:
        _refuse("ca= needs TLS: clickhouses:// or secure=true")
    return found


def _embedded(path: str, options: _Options) -> Address:
    found = Address(
        database=_database(options.text("database") or _CHDB_DATABASE),
        path=str(Path(path).absolute()),
        timeout=options.seconds("timeout", 30.0),
        text_index=options.flag("text_index", default=False),
        ttl_days=options.days("ttl_days"),
    )
    options.check_all_taken()
    if "\x00" in path:
        _refuse("a directory's name cannot hold a NUL")
    return found


def _database(name: str) -> str:
    if not _DATABASE.fullmatch(name) or name.lower() in _NOT_OURS:
        _refuse(
            "the name of an archive's database is 1 to 63 letters, digits and underscores, does "
            "not begin with a digit, and is not one that ClickHouse keeps for itself"
        )
    return name


class _Options:
    """The parameters of a URL, each taken once."""

    def __init__(self, query: str) -> None:
        pairs = parse_qsl(query, keep_blank_values=True)
        self._left = dict(pairs)
        if len(self._left) != len(pairs):
            _refuse("a parameter of an archive's URL stands there twice")

    def text(self, name: str) -> str | None:
        return self._left.pop(name, None) or None

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._left.pop(name, None)
        if value is None:
            return default
        if value.lower() not in _YES_NO:
            _refuse(f"{name} is true or false")
        return _YES_NO[value.lower()]

    def one_of(self, name: str, values: tuple[str, ...]) -> str:
        value = self._left.pop(name, "").lower()
        if value and value not in values:
            _refuse(f"{name} is one of {', '.join(values)}")
        return value

    def seconds(self, name: str, default: float) -> float:
        try:
            value = float(self._left.pop(name, default))
        except ValueError:
            value = -1.0
        if not 0 < value <= _MAX_SECONDS:
            _refuse(f"{name} is a number of seconds above 0 and up to {_MAX_SECONDS:.0f}")
        return value

    def days(self, name: str) -> int | None:
        value = self._left.pop(name, None)
        if value is None:
            return None
        if not value.isascii() or not value.isdigit() or not 0 < int(value[:9]) <= _MAX_DAYS:
            _refuse(f"{name} is a number of days from 1 to {_MAX_DAYS}")
        return int(value)

    def check_all_taken(self) -> None:
        if self._left:
            # The names are not quoted: a password put there by mistake could be one of them.
            _refuse(
                "an archive's URL takes text_index, ttl_days, timeout; for a server also secure, "
                "ca, connect_timeout, compression; for chDB also database; each once"
            )


def _refuse(message: str) -> NoReturn:
    raise InvalidInputError(message) from None
