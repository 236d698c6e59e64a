"""The operations of the store port, as values: what they do and what they return."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

__all__ = [
    "BUCKETS",
    "GUARDS",
    "INCARNATION",
    "MAX_BATCH_BYTES",
    "MAX_INTEGER",
    "MAX_OPERATIONS",
    "MAX_RECORD_BYTES",
    "NEW_INCARNATION",
    "NOW",
    "WRITES",
    "Append",
    "Arg",
    "Clock",
    "Delete",
    "Expire",
    "Extend",
    "Gather",
    "Get",
    "Guard",
    "Incarnation",
    "Incr",
    "IndexCount",
    "IndexDelete",
    "IndexPut",
    "IndexRange",
    "Kind",
    "NewIncarnation",
    "Now",
    "Op",
    "Put",
    "Read",
    "ReadOp",
    "Redact",
    "RequireAtMost",
    "RequireBefore",
    "RequireEquals",
    "RequireExists",
    "RequireFields",
    "Result",
    "Stamp",
    "Trim",
    "Truncate",
    "Value",
    "WriteOp",
    "now_plus",
]

BUCKETS = 16_384
MAX_OPERATIONS = 1_000
#: What an application may store at once. Its event for the archive holds it once more.
MAX_RECORD_BYTES = 8 * 1024 * 1024
MAX_BATCH_BYTES = 2 * MAX_RECORD_BYTES + 1024 * 1024
MAX_INTEGER = 2**53 - 1

Kind = Literal["map", "log", "index"]


class Now(NamedTuple):
    """The store's clock when the batch applies, in microseconds since 1970, plus `plus`."""

    plus: int = 0


class NewIncarnation(NamedTuple):
    """A new incarnation: 16 digits of the store's microseconds, then a random suffix."""


class Result(NamedTuple):
    """What an earlier operation of the same batch returned (`item` of it, for `Incr`)."""

    operation: int
    item: int = 0


class Arg(NamedTuple):
    """A value that a `Plan` leaves open; position in `Call.args`."""

    position: int


class Incarnation(NamedTuple):
    """The incarnation of the batch's group, as a stamp."""


NOW = Now()
NEW_INCARNATION = NewIncarnation()
INCARNATION = Incarnation()

Value = bytes | Now | NewIncarnation | Result | Arg
Stamp = bytes | Now | Incarnation | Result | Arg


def now_plus(microseconds: int) -> Now:
    """The store's clock plus a duration."""
    return Now(microseconds)


# --- maps ---------------------------------------------------------------------------------------


class Get(NamedTuple):
    """Fields of a map. All (`fields=None`): a dict, empty when absent; else a list with None."""

    key: str
    fields: tuple[str, ...] | None = None


class Put(NamedTuple):
    """Set fields; True when applied.

    `if_absent` looks at the given fields before the batch: when one of them exists, "skip" leaves
    all of them alone (result False), "abort" refuses the batch (`GuardFailed`, found = its value).
    """

    key: str
    fields: dict[str, Any]
    if_absent: Literal["", "skip", "abort"] = ""


class Extend(NamedTuple):
    """Add bytes to the end of fields (absent counts as empty); True.

    A field that would then hold more than `MAX_RECORD_BYTES` refuses the batch (`GuardFailed`).
    """

    key: str
    fields: dict[str, Any]


class Incr(NamedTuple):
    """Add to integer fields (absent counts as 0); the list of new values, in order.

    A value that is no integer raises `CorruptField`; leaving ±(2^53-1) raises `GuardFailed`.
    """

    key: str
    deltas: dict[str, Any]


class Delete(NamedTuple):
    """Remove fields of a map, or a whole key of any kind; how many existed.

    A whole log: how many items it held.
    """

    key: str
    fields: tuple[str, ...] | None = None
    kind: Kind = "map"


# --- guards -------------------------------------------------------------------------------------


class RequireExists(NamedTuple):
    """Refuse the batch unless the map exists (or does not)."""

    key: str
    exists: bool = True


class RequireEquals(NamedTuple):
    """Refuse the batch unless the field has this value (None: is absent)."""

    key: str
    field: str
    value: Any


class RequireAtMost(NamedTuple):
    """Refuse the batch unless the field is an integer of at most `limit` (or the store's now)."""

    key: str
    field: str
    limit: Any


class RequireFields(NamedTuple):
    """Refuse the batch unless every field exists; `GuardFailed.found` lists the missing ones."""

    key: str
    fields: tuple[str, ...]


class RequireBefore(NamedTuple):
    """Refuse the batch when the store's clock has passed `time` (microseconds)."""

    time: Any


# --- logs ---------------------------------------------------------------------------------------


class Append(NamedTuple):
    """Append items; the sequence of the first one.

    A log begins at the store's microseconds of its creation and is gapless from there. `stamps`
    are put in front of every item, separated by spaces and ended by a newline; bytes stand as they
    are, so only the last stamp may hold a space, and none a newline. `first` and
    `epoch` (import, migration) name the start of a log that is absent.
    """

    key: str
    items: tuple[Any, ...]
    stamps: tuple[Stamp, ...] = ()
    first: int | None = None
    epoch: int = 0


class Read(NamedTuple):
    """Items with `start <= sequence < stop`: the newest `limit` of them (or the oldest), in order.

    `limit=0`: all. `base` is a hint, the log's first sequence as last seen: right, it saves a
    round trip; wrong, it costs one. The result is a `LogSlice`.
    """

    key: str
    start: Any = None
    stop: Any = None
    limit: Any = 0
    newest: bool = True
    base: Any = None


class Trim(NamedTuple):
    """Cut the head of a log: keep the newest `keep` items, or those from sequence `before` on.

    The number of items removed. Sequences of the rest do not change.
    """

    key: str
    keep: int | None = None
    before: int | None = None


class Truncate(NamedTuple):
    """Cut the tail: remove items with a sequence of `start` or more; starts a new epoch."""

    key: str
    start: int


class Redact(NamedTuple):
    """Replace items in place by `item` (sequences that are gone are passed over); a new epoch."""

    key: str
    sequences: tuple[int, ...]
    item: bytes = b""


# --- ordered indexes ----------------------------------------------------------------------------


class IndexPut(NamedTuple):
    """Set scores of members; True. `greater`: an existing score never falls."""

    key: str
    entries: dict[str, Any]
    greater: bool = False


class IndexRange(NamedTuple):
    """Members by (score, member) as a list of (member, score).

    `low`/`high` bound the score, inclusive. `cursor` is the last (member, score) of the page
    before. `prefix` keeps only members that start with it and walks by member alone; all scores
    of such an index must be equal, and read as 0.
    """

    key: str
    low: int | None = None
    high: int | None = None
    limit: int = 100
    reverse: bool = False
    cursor: tuple[str, int] | None = None
    prefix: str | None = None


class Gather(NamedTuple):
    """Members of an index, what maps hold under their names, and what that links to.

    The members are those that start with `prefix`, walked as by `IndexRange` (`after`: the last
    member of the page before), or, when given, `members`, whether the index has them or not.
    A value of the first of `maps` that begins with `&` links: up to its first newline follow names
    of fields of the map `links`, separated by spaces, whose values may link in turn. Those in
    `known` are neither fetched nor followed. All at one moment; the result is a `Gathered`. Meant
    for small values: on Redis they pass through a script.
    """

    key: str
    maps: tuple[str, ...]
    prefix: str = ""
    limit: int = 100
    reverse: bool = False
    after: str | None = None
    members: tuple[str, ...] | None = None
    links: str | None = None
    known: tuple[str, ...] = ()


class IndexCount(NamedTuple):
    """How many members have a score from `low` to `high`, inclusive."""

    key: str
    low: int | None = None
    high: int | None = None


class IndexDelete(NamedTuple):
    """Remove members; how many were removed. `at_most`: only those with no higher score."""

    key: str
    members: tuple[str, ...]
    at_most: int | None = None


# --- group and clock ----------------------------------------------------------------------------


class Expire(NamedTuple):
    """Let the group expire `ttl` microseconds from now (None: never).

    `keys` (kind, key) are the group's other keys, whose own safety net a store may want to renew.
    """

    ttl: Any
    keys: tuple[tuple[Kind, str], ...] = ()


class Clock(NamedTuple):
    """The store's clock in microseconds since 1970."""


Guard = RequireExists | RequireEquals | RequireAtMost | RequireFields | RequireBefore
ReadOp = Get | Read | IndexRange | IndexCount | Gather | Clock
WriteOp = (
    Put | Extend | Incr | Delete | Append | Trim | Truncate | Redact
    | IndexPut | IndexDelete | Expire
)  # fmt: skip
Op = Guard | ReadOp | WriteOp

GUARDS = (RequireExists, RequireEquals, RequireAtMost, RequireFields, RequireBefore)
WRITES = (Put, Extend, Incr, Delete, Append, Trim, Truncate, Redact, IndexPut, IndexDelete, Expire)
