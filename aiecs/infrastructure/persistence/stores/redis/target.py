"""What a Redis URL names: one server, a cluster, or the primary that sentinels watch.

redis://[user:password@]host:port/db          one server; rediss:// with TLS, unix:///path?db=0
redis+cluster://[…@]host:port,host:port       nodes of a cluster to ask first
redis+sentinel://[…@]host:port,host:port/primary/db
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode

from aiecs.core.errors import InvalidInputError
from aiecs.infrastructure.persistence.stores.redis.address import Address

_SENTINEL_PORT = "26379"
_MAX_REPLICAS = 16


@dataclass(frozen=True, slots=True)
class Target:
    """Where the data is. `seeds`: the server, nodes of the cluster, or the sentinels."""

    seeds: tuple[Address, ...]
    clustered: bool = False
    #: The name that sentinels know the primary by, and how to log in there.
    primary: str = ""
    login: Address | None = None
    #: Reads of a cluster may go to replicas, which lag behind.
    read_replicas: bool = False
    #: A write is acknowledged when so many replicas have it too.
    confirmations: int = 0

    @property
    def name(self) -> str:
        """The target without secrets."""
        places = ",".join(seed.name for seed in self.seeds)
        return f"{places}/{self.primary}" if self.primary else places


class _Parts(NamedTuple):
    scheme: str
    login: str
    places: tuple[str, ...]
    path: str
    options: dict[str, str]


def target_of(url: str) -> Target:
    """The target of a URL; `InvalidInputError`, which quotes nothing of it, if it names none."""
    parts = _split(url)
    kind = re.search(r"\+(cluster|sentinel)$", parts.scheme)
    scheme = parts.scheme[: kind.start()] if kind else parts.scheme
    confirmations = _confirmations(parts.options)
    if kind is None:
        address = Address.from_url(_joined(parts._replace(scheme=scheme), None))
        return Target((address,), confirmations=confirmations)
    parts = parts._replace(scheme=scheme)
    if scheme not in ("redis", "rediss", "valkey", "valkeys"):
        raise InvalidInputError("a cluster or sentinels are reached by redis:// or rediss://")
    found = _cluster(parts) if kind[1] == "cluster" else _sentinels(parts)
    return replace(found, confirmations=confirmations)


def _split(url: str) -> _Parts:
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    place, slash, path = rest.partition("/")
    login, at, hosts = place.rpartition("@")
    options = dict(parse_qsl(query, keep_blank_values=True))
    return _Parts(scheme, login + at, tuple(hosts.split(",")), slash + path, options)


def _joined(parts: _Parts, place: str | None) -> str:
    hosts = ",".join(parts.places) if place is None else place
    query = f"?{urlencode(parts.options)}" if parts.options else ""
    return f"{parts.scheme}://{parts.login}{hosts}{parts.path}{query}"


def _confirmations(options: dict[str, str]) -> int:
    durability = options.pop("durability", "acknowledged")
    replicas = options.pop("replicas", "1")
    if durability not in ("acknowledged", "replicated"):
        raise InvalidInputError("durability is acknowledged or replicated")
    if not replicas.isdigit() or not 1 <= int(replicas) <= _MAX_REPLICAS:
        raise InvalidInputError(f"replicas is the number that must confirm, 1 to {_MAX_REPLICAS}")
    return int(replicas) if durability == "replicated" else 0


def _cluster(parts: _Parts) -> Target:
    reads = parts.options.pop("read_from", "primary")
    if reads not in ("primary", "replicas"):
        raise InvalidInputError("read_from is primary or replicas")
    if parts.path.strip("/") not in ("", "0"):
        raise InvalidInputError("a cluster has only database 0: redis+cluster://host:port")
    plain = parts._replace(path="")
    seeds = tuple(Address.from_url(_joined(plain, place)) for place in parts.places)
    return Target(seeds, clustered=True, read_replicas=reads == "replicas")


def _sentinels(parts: _Parts) -> Target:
    primary, _, database = parts.path.strip("/").partition("/")
    if not primary:
        raise InvalidInputError("redis+sentinel://host:port,host:port/primary/db: name the primary")
    user = parts.options.pop("sentinel_username", None)
    password = parts.options.pop("sentinel_password", None)
    login = Address.from_url(_joined(parts._replace(path=f"/{database}"), "primary"))
    seeds = []
    for place in parts.places:
        with_port = place if re.search(r":\d+$", place) else f"{place}:{_SENTINEL_PORT}"
        bare = parts._replace(login="", path="")
        address = Address.from_url(_joined(bare, with_port))
        seeds.append(replace(address, username=user, password=password))
    return Target(tuple(seeds), primary=unquote(primary), login=login)
