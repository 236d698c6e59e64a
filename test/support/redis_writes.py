"""Every operation that writes, in any order: for servers that refuse some of them."""

from __future__ import annotations

from collections.abc import Sequence

from support.redis_store import DAY

from aiecs.core.interface.store import (
    NOW,
    Append,
    Delete,
    Expire,
    Extend,
    Incr,
    IndexDelete,
    IndexPut,
    Op,
    Put,
    Redact,
    Result,
    Trim,
    Truncate,
)

# Each operation that writes, on keys of the group and of the bucket.
WRITES = (
    Put("", {"a": b"1", "b": NOW}),
    Put("p", {"a": b"1"}),
    Put("q", {"a": NOW}, if_absent="skip"),
    Put("_p", {"a": b"1"}),
    Extend("x", {"a": b"1"}),
    Extend("", {"x": b"1"}),
    Incr("n", {"a": 1}),
    Incr("", {"c": 1}),
    Append("l", (b"1", b"2")),
    Append("s", (b"3",), (NOW, Result(6), Result(8))),
    Append("_l", (b"4",)),
    Trim("t", keep=1),
    Truncate("u", 1),
    Redact("r", (1,)),
    IndexPut("i", {"a": 1}),
    IndexPut("_i", {"a": NOW}, greater=True),
    IndexDelete("j", ("a",)),
    Delete("d", ("a",)),
    Delete("e"),
    Delete("f", kind="log"),
    Delete("g", kind="index"),
    Expire(DAY, (("map", "p"), ("log", "l"))),
)
GIVEN = (
    *(Append(key, (b"0", b"1", b"2"), first=0) for key in ("t", "u", "r", "f")),
    *(Put(key, {"a": b"0"}) for key in ("d", "e")),
    *(IndexPut(key, {"a": 0}) for key in ("j", "g")),
)


def rotated(ops: Sequence[Op], first: int) -> tuple[Op, ...]:
    """The same operations, another first one; references to results go along."""
    count = len(ops)
    places = {(first + n) % count: n for n in range(count)}
    moved = [ops[(first + n) % count] for n in range(count)]
    for at, op in enumerate(moved):
        if type(op) is Append and any(type(stamp) is Result for stamp in op.stamps):
            stamps = [s for s in op.stamps if type(s) is not Result or places[s.operation] < at]
            stamps = [
                Result(places[s.operation], s.item) if type(s) is Result else s for s in stamps
            ]
            moved[at] = op._replace(stamps=tuple(stamps))
    return tuple(moved)
