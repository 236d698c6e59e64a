"""Settings of the servers: where Redis and ClickHouse are and how to log in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import quote

from aiecs.core.errors import InvalidInputError
from aiecs.core.secret import Secret, SecretUrl

URL = {"pattern": r"^[A-Za-z][A-Za-z0-9+.-]*://"}
_PORT = {"ge": 1, "le": 65_535}
_HOST = {"pattern": r"^[^\s/@?#]+$"}


class Env(NamedTuple):
    """The variable that a field is read from."""

    name: str
    description: str
    limits: dict[str, Any]


def env(name: str, description: str, **limits: Any) -> Env:
    """The variable of a field; `limits` are those of pydantic's `Field`."""
    return Env(name, description, limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What `REDIS_*` and `CLICKHOUSE_*` say; `given` names all variables that were set."""

    named_redis: Annotated[
        SecretUrl | None,
        env(
            "REDIS_URL",
            "Redis or Valkey, as a URL: `redis://user:password@host:6379/1`, `rediss://...` (TLS), "
            "`unix:///path?db=1`. Wins over all `REDIS_*` below.",
            **URL,
        ),
    ] = None
    redis_host: Annotated[str, env("REDIS_HOST", "Redis host.", **_HOST)] = "localhost"
    redis_port: Annotated[int, env("REDIS_PORT", "Redis port.", **_PORT)] = 6379
    redis_db: Annotated[int, env("REDIS_DB", "Redis database index; none on a cluster.", ge=0)] = 1
    redis_username: Annotated[str | None, env("REDIS_USERNAME", "Redis user name.")] = None
    redis_password: Annotated[Secret | None, env("REDIS_PASSWORD", "Redis password.")] = None
    redis_tls: Annotated[bool, env("REDIS_TLS", "Connect to Redis with TLS.")] = False
    redis_ssl_ca_certs: Annotated[
        str | None,
        env("REDIS_SSL_CA_CERTS", "File of the authorities that may sign the server; sets TLS."),
    ] = None
    redis_ssl_certfile: Annotated[
        str | None, env("REDIS_SSL_CERTFILE", "File of the client's certificate; sets TLS.")
    ] = None
    redis_ssl_keyfile: Annotated[
        str | None, env("REDIS_SSL_KEYFILE", "File of the client's private key; sets TLS.")
    ] = None
    redis_unix_socket_path: Annotated[
        str | None,
        env("REDIS_UNIX_SOCKET_PATH", "Absolute path of a socket, instead of host and port."),
    ] = None
    redis_cluster: Annotated[
        bool, env("REDIS_CLUSTER", "Host and port are a node of a Redis Cluster.")
    ] = False
    redis_sentinels: Annotated[
        str | None,
        env(
            "REDIS_SENTINELS",
            "Sentinels as `host:port,host:port`, instead of host and port.",
            pattern=r"^[^\s/@?#,]+:\d{1,5}(,[^\s/@?#,]+:\d{1,5})*$",
        ),
    ] = None
    redis_sentinel_master: Annotated[
        str | None, env("REDIS_SENTINEL_MASTER", "Name of the master that the sentinels watch.")
    ] = None
    redis_durability: Annotated[
        Literal["acknowledged", "replicated"],
        env(
            "REDIS_DURABILITY",
            "`replicated`: a write counts when `REDIS_REPLICAS` replicas have it too.",
        ),
    ] = "acknowledged"
    redis_replicas: Annotated[
        int, env("REDIS_REPLICAS", "How many replicas have to confirm a write then.", ge=1, le=16)
    ] = 1
    clickhouse_enabled: Annotated[
        bool,
        env("CLICKHOUSE_ENABLED", "Archive every write to ClickHouse."),
    ] = False
    clickhouse_host: Annotated[str, env("CLICKHOUSE_HOST", "ClickHouse host.", **_HOST)] = (
        "localhost"
    )
    clickhouse_port: Annotated[int, env("CLICKHOUSE_PORT", "ClickHouse HTTP port.", **_PORT)] = 8123
    clickhouse_user: Annotated[str, env("CLICKHOUSE_USER", "ClickHouse user name.")] = "default"
    clickhouse_password: Annotated[
        Secret | None, env("CLICKHOUSE_PASSWORD", "ClickHouse password.")
    ] = None
    clickhouse_database: Annotated[
        str, env("CLICKHOUSE_DATABASE", "ClickHouse database; created if it does not exist.")
    ] = "default"
    given: frozenset[str] = frozenset()

    @property
    def redis_url(self) -> str:
        """The Redis that `REDIS_URL` or else the other `REDIS_*` describe, secrets included.

        `redis://`, `rediss://` with TLS, `unix://`, and with `+cluster` or `+sentinel`.
        """
        return self.named_redis.reveal() if self.named_redis else _redis_url(self)

    @property
    def redis_explicit(self) -> bool:
        """Whether any `REDIS_*` variable was set, so that Redis was asked for."""
        return any(name.startswith("REDIS_") for name in self.given)

    @property
    def clickhouse_url(self) -> str:
        """The ClickHouse that `CLICKHOUSE_*` describe, secrets included."""
        login = _login(self.clickhouse_user, self.clickhouse_password)
        place = f"{_bracketed(self.clickhouse_host)}:{self.clickhouse_port}"
        return f"clickhouse://{login}{place}/{quote(self.clickhouse_database, safe='')}"

    def check(self) -> None:
        """Refuse settings that contradict each other, by `InvalidInputError` naming them."""
        if not self.named_redis:
            _check_redis(self)


def _check_redis(settings: ServerSettings) -> None:
    kinds = {
        "REDIS_UNIX_SOCKET_PATH": bool(settings.redis_unix_socket_path),
        "REDIS_CLUSTER": settings.redis_cluster,
        "REDIS_SENTINELS": bool(settings.redis_sentinels),
    }
    chosen = [name for name, is_chosen in kinds.items() if is_chosen]
    if len(chosen) > 1:
        raise InvalidInputError(f"{' and '.join(chosen)} cannot be combined")
    if settings.redis_sentinels and not settings.redis_sentinel_master:
        raise InvalidInputError("REDIS_SENTINELS needs REDIS_SENTINEL_MASTER")
    if settings.redis_cluster and "REDIS_DB" in settings.given and settings.redis_db:
        raise InvalidInputError("REDIS_DB: a cluster has only database 0")
    path = settings.redis_unix_socket_path
    if path and (settings.redis_tls or _tls_query(settings)):
        raise InvalidInputError("REDIS_UNIX_SOCKET_PATH cannot be combined with TLS")
    if path and not path.startswith("/"):
        raise InvalidInputError("REDIS_UNIX_SOCKET_PATH must be an absolute path")


def _redis_url(settings: ServerSettings) -> str:
    login = _login(settings.redis_username or "", settings.redis_password)
    confirmed = _durability_query(settings)
    if settings.redis_unix_socket_path:
        query = "&".join([f"db={settings.redis_db}", *confirmed])
        return f"unix://{login}{quote(settings.redis_unix_socket_path)}?{query}"
    files = _tls_query(settings)
    scheme = "rediss" if settings.redis_tls or files else "redis"
    query = "?" + "&".join([*files, *confirmed]) if files or confirmed else ""
    place = f"{_bracketed(settings.redis_host)}:{settings.redis_port}"
    if settings.redis_cluster:
        return f"{scheme}+cluster://{login}{place}{query}"
    if settings.redis_sentinels:
        master = quote(settings.redis_sentinel_master or "", safe="")
        place = f"{settings.redis_sentinels}/{master}"
        return f"{scheme}+sentinel://{login}{place}/{settings.redis_db}{query}"
    return f"{scheme}://{login}{place}/{settings.redis_db}{query}"


def _durability_query(settings: ServerSettings) -> list[str]:
    if settings.redis_durability == "acknowledged":
        return []
    return [f"durability={settings.redis_durability}", f"replicas={settings.redis_replicas}"]


def _tls_query(settings: ServerSettings) -> list[str]:
    files = {
        "ssl_ca_certs": settings.redis_ssl_ca_certs,
        "ssl_certfile": settings.redis_ssl_certfile,
        "ssl_keyfile": settings.redis_ssl_keyfile,
    }
    return [f"{name}={quote(file, safe='/')}" for name, file in files.items() if file]


def _login(user: str, password: Secret | None) -> str:
    if password:
        return f"{quote(user, safe='')}:{quote(password.reveal(), safe='')}@"
    return f"{quote(user, safe='')}@" if user else ""


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
