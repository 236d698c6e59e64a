"""Where a Redis is and how to log in, from a URL."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio.connection import UnixDomainSocketConnection, parse_url

from aiecs.core.errors import InvalidInputError, StoreMisconfiguredError

_EXPECTED = "a Redis address is redis://, rediss:// (TLS) or unix://, [user:password@]host:port/db"
_SCHEMES = {
    "valkey": "redis",
    "valkeys": "rediss",
    "redis+unix": "unix",
}


@dataclass(frozen=True, slots=True)
class Address:
    """One server: TCP with or without TLS, or a unix socket."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: dict[str, Any] | None = field(default=None, repr=False, hash=False)

    @classmethod
    def from_url(cls, url: str) -> Address:
        """Parse `redis://`, `rediss://` (TLS), `unix://` and their valkey spellings."""
        scheme, _, rest = url.partition("://")
        plain = f"{_SCHEMES.get(scheme, scheme)}://{rest}"
        try:
            options: dict[str, Any] = dict(parse_url(plain))
            database = urlsplit(plain).path.strip("/")
        except ValueError:
            # Without what it says: it may quote a part of the password.
            raise InvalidInputError(_EXPECTED) from None
        if options.pop("connection_class", None) is not UnixDomainSocketConnection and not (
            database.isdigit() or not database
        ):
            raise InvalidInputError("the database in a Redis address is a number: redis://host/0")
        tls = _tls_options(options) if scheme in ("rediss", "valkeys") else None
        address = cls(
            host=options.pop("host", None) or "localhost",
            port=int(options.pop("port", None) or 6379),
            path=options.pop("path", None),
            db=int(options.pop("db", None) or 0),
            username=options.pop("username", None),
            password=options.pop("password", None),
            tls=tls,
        )
        if options:
            raise InvalidInputError(f"unknown option in a Redis address: {min(options)}")
        return address

    @property
    def name(self) -> str:
        """The address without secrets."""
        return self.path or f"{self.host}:{self.port}"

    def ssl_context(self) -> ssl.SSLContext | None:
        """What verifies the server and shows our certificate; None without TLS."""
        if self.tls is None:
            return None
        try:
            context = ssl.create_default_context(cafile=self.tls.get("ssl_ca_certs"))
            if self.tls.get("ssl_certfile"):
                files = (self.tls["ssl_certfile"], self.tls.get("ssl_keyfile"))
                context.load_cert_chain(*files, password=self.tls.get("ssl_password"))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise StoreMisconfiguredError(f"cannot read the TLS files: {reason}") from None
        if str(self.tls.get("ssl_cert_reqs", "required")) == "none":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif str(self.tls.get("ssl_check_hostname", "true")).lower() in ("false", "0", "no"):
            context.check_hostname = False
        return context


def _tls_options(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options.pop(name) for name in list(options) if name.startswith("ssl_")}
