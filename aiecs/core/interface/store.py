"""The port that a hot backend implements: one method that applies a batch of small operations.

A batch names one **bucket** (0..16383, a Redis Cluster slot) and at most one **group** in it: a
session or a thread with all its keys. The group is the unit of expiry, incarnation and deletion.
Its **head** is the map named `""`; it holds the incarnation (`~i`), the expiry (`~x`, microseconds
by the store's clock) and the first sequence and epoch of each log of the group (`~b<log>`,
`~e<log>`). Keys that start with `_` belong to the bucket itself and never expire.

Rules that every store keeps:

- A batch applies completely or not at all. Guards, conditions and `Get` see the state *before*
  the batch; then the writes happen in order.
- A group whose `~x` has passed reads as absent. Writing to an absent or expired group is refused
  (`GroupMissing`), unless the batch creates it: a `Put` on the head with `NEW_INCARNATION`.
  Creating over an expired group raises `GroupExpired`: whoever creates removes the remains first.
- `raw` batches see an expired group as it is (sweeper, export).
- One batch writes a field, a member or a whole key at most once; a log takes any number of
  `Append`, then at most one `Trim`. `Read`, `IndexRange`, `IndexCount` and `Gather` stand in
  batches without writes.
- A `receipt` (writer, n) makes a batch idempotent: n at or below the writer's last one in that
  bucket is not applied again.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

from aiecs.core.interface import operations
from aiecs.core.interface.binding import Binder, binder
from aiecs.core.interface.operations import *  # noqa: F403 - one name, `port`, for the whole port
from aiecs.core.interface.operations import Op

__all__ = [  # noqa: PLE0604 - both parts of the port
    *operations.__all__,
    "Batch",
    "Call",
    "Capabilities",
    "CorruptField",
    "GroupExpired",
    "GroupMissing",
    "Gathered",
    "GuardFailed",
    "LogSlice",
    "Plan",
    "Receipt",
    "Store",
]


class LogSlice(NamedTuple):
    """A part of a log. `first` is the sequence of `items[0]`; an absent log has epoch ""."""

    epoch: str
    base: int
    next: int
    first: int
    items: list[bytes]


class Gathered(NamedTuple):
    """What `Gather` found: `values[m]` are those of the m-th map, None where it has none.

    `linked` holds every value that was followed to, by its name; what is absent is left out.
    """

    members: list[str]
    values: list[list[bytes | None]]
    linked: dict[str, bytes]


class Receipt(NamedTuple):
    """Identity of a mutating batch: rising `n` (below 2^53) per writer and bucket."""

    writer: str
    n: int


class Batch(NamedTuple):
    """Operations on one bucket and at most one group ("" for none)."""

    bucket: int
    group: str
    ops: tuple[Op, ...]
    raw: bool = False
    receipt: Receipt | None = None


class Plan:
    """The shape of a hot batch, written once; `Arg` marks the values that each call brings.

    Open values: items and stamps of `Append`, fields of `Put` and `Extend`, deltas of `Incr`,
    `RequireEquals.value`, `RequireAtMost.limit`, `RequireBefore.time`, `Expire.ttl`; start, stop,
    limit and base of `Read`. They are bytes, ints and None, never values that the store fills in.
    `raw` is that of the batch.
    """

    __slots__ = ("bind", "name", "notes", "ops", "raw")

    def __init__(self, name: str, *ops: Op, raw: bool = False) -> None:
        self.name = name
        self.ops = ops
        self.raw = raw
        #: The plan's operations with the values filled in.
        self.bind: Binder = binder(ops)
        #: What others have worked out from the plan's shape, each under a key of its own.
        self.notes: dict[object, Any] = {}

    def __repr__(self) -> str:
        return f"Plan({self.name})"


class Call(NamedTuple):
    """A plan with the values of one call; the fast way to say a `Batch`."""

    plan: Plan
    bucket: int
    group: str
    args: tuple[Any, ...]


class Capabilities(NamedTuple):
    """What a caller may want to know of a store before it is used.

    `durable`: data outlives the process. `expires`: sessions are forgotten by default.
    `shared`: other processes see the data.
    """

    name: Literal["memory", "sqlite", "redis"] | str
    durable: bool
    expires: bool
    shared: bool


class GuardFailed(Exception):  # noqa: N818 - an answer, not an error of the caller
    """A guard refused the batch; nothing was applied. `found` is what stood there."""

    def __init__(self, operation: int, found: Any = None) -> None:
        super().__init__(f"operation {operation} refused the batch")
        self.operation = operation
        self.found = found


class GroupMissing(GuardFailed):
    """The batch writes to a group that does not exist."""

    def __init__(self) -> None:
        super().__init__(-1)


class GroupExpired(GroupMissing):
    """The group's remains must be removed before it can be created anew."""


class CorruptField(Exception):  # noqa: N818 - an answer, not an error of the caller
    """Operation `operation` met stored bytes of the wrong type; nothing was applied."""

    def __init__(self, operation: int) -> None:
        super().__init__(f"operation {operation} met a value of the wrong type")
        self.operation = operation


class Store(Protocol):
    """A hot backend."""

    @property
    def capabilities(self) -> Capabilities:
        """What this store is."""
        ...

    async def apply(self, batch: Batch | Call, *, timeout: float | None = None) -> list[Any] | None:
        """Apply a batch: its results in order, all or nothing.

        None: a batch with a receipt had been applied before, its results are not known any more.
        `timeout` (seconds; None: the store's own) bounds the wait. Raises `GuardFailed`,
        `CorruptField`, `InvalidInputError` (a batch that breaks the rules above, before any I/O)
        or a `StoreError`.
        """
        ...

    async def ping(self) -> None:
        """Return when the store answers; a `StoreError` otherwise."""
        ...

    async def close(self) -> None:
        """Release everything this store opened; idempotent."""
        ...
