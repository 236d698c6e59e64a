"""Where a Redis is and how to log in, from a URL."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio.connection import parse_url

from aiecs.core.errors import InvalidInputError

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
    tls: dict[str, Any] | None = None

    @classmethod
    def from_url(cls, url: str) -> Address:
        """Parse `redis://`, `rediss://` (TLS), `unix://` and their valkey spellings."""
        scheme, _, rest = url.partition("://")
        try:
            options: dict[str, Any] = dict(parse_url(f"{_SCHEMES.get(scheme, scheme)}://{rest}"))
        except ValueError as error:
            raise InvalidInputError(f"not a Redis address ({scheme}://…): {error}") from None
        options.pop("connection_class", None)
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
        context = ssl.create_default_context(cafile=self.tls.get("ssl_ca_certs"))
        if self.tls.get("ssl_certfile"):
            context.load_cert_chain(self.tls["ssl_certfile"], self.tls.get("ssl_keyfile"))
        if str(self.tls.get("ssl_cert_reqs", "required")) == "none":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif str(self.tls.get("ssl_check_hostname", "true")).lower() in ("false", "0", "no"):
            context.check_hostname = False
        return context


def _tls_options(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options.pop(name) for name in list(options) if name.startswith("ssl_")}
