"""The parts that a group's content is moved in, each small enough for one batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from aiecs.core.keys import Place, session_place, thread_place
from aiecs.domain.context.item_places import Namespace, member_of, place_of

Kind = Literal["session", "thread", "namespace"]

FIELDS_AT_ONCE = 400
BYTES_AT_ONCE = 1024 * 1024


class Group(NamedTuple):
    """What is moved as one: a session, a thread, or the items of a namespace.

    `changes` is the field of its head that every write to it changes.
    """

    kind: Kind
    name: str
    place: Place
    changes: str
    namespace: Namespace = ()


class Fields(NamedTuple):
    """Fields of a map."""

    key: str
    fields: dict[str, bytes]


class Entries(NamedTuple):
    """Members of an index with their scores."""

    key: str
    entries: dict[str, int]


class Items(NamedTuple):
    """A run of a log's items, the first of sequence `first`; the log begins at `base`."""

    key: str
    epoch: int
    base: int
    first: int
    items: tuple[bytes, ...]


Part = Fields | Entries | Items
INDEXES = frozenset("opux")
"""The keys of indexes; no map has such a key."""


def names_in(part: Fields | Entries) -> Iterable[str]:
    """The fields or members of a part."""
    return part.fields if isinstance(part, Fields) else part.entries


def session(name: str) -> Group:
    """The session of that id."""
    return Group("session", name, session_place(name), "l")


def thread(name: str) -> Group:
    """The thread of that id."""
    return Group("thread", name, thread_place(name), "l")


def namespace(labels: Namespace) -> Group:
    """The items of a namespace."""
    return Group("namespace", member_of(labels), place_of(labels), "n", labels)


def in_parts(key: str, fields: Mapping[str, bytes]) -> Iterator[Fields]:
    """Fields in their order, in groups of at most so many, and of about so many bytes."""
    some: dict[str, bytes] = {}
    size = 0
    for name, value in fields.items():
        if some and (size + len(value) > BYTES_AT_ONCE or len(some) >= FIELDS_AT_ONCE):
            yield Fields(key, some)
            some, size = {}, 0
        some[name] = value
        size += len(value)
    if some:
        yield Fields(key, some)


def in_order(key: str, names: Iterable[str], values: Iterable[bytes | None]) -> Iterator[Fields]:
    """As `in_parts`, of those names that have a value."""
    pairs = zip(names, values, strict=True)
    return in_parts(key, {name: value for name, value in pairs if value is not None})
