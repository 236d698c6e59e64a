"""Logs: a gapless run of items between a first sequence and an end.

The first sequence (`~b<log>`) and the epoch (`~e<log>`) stand in the head of the group, or of the
bucket for keys that start with `_`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiecs.core.interface import store as port
from aiecs.core.interface.value_rules import parse_integer

if TYPE_CHECKING:
    from aiecs.infrastructure.persistence.stores.semantics.frame import Frame


def prepare(frame: Frame, op: Any, number: int) -> int | None:
    """The first sequence of the log, None when it is absent, for the write that follows."""
    if frame.absent(op.key):
        return None
    mark, epoch = _marks(frame, op.key)
    if mark is None:
        return None
    base = parse_integer(mark)
    if base is None or (epoch is not None and parse_integer(epoch) is None):
        raise port.CorruptField(number)
    return base


def read(frame: Frame, op: port.Read, number: int) -> port.LogSlice:
    """`Read`."""
    mark, epoch = (None, None) if frame.absent(op.key) else _marks(frame, op.key)
    if mark is None:
        return port.LogSlice("", 0, 0, 0, [])
    base = parse_integer(mark)
    if base is None:
        raise port.CorruptField(number)
    key = frame.key(op.key)
    end = base + frame.state.log_count(key)
    low = base if op.start is None else max(base, op.start)
    high = end if op.stop is None else min(end, op.stop)
    if op.limit and high - low > op.limit:
        low, high = (high - op.limit, high) if op.newest else (low, low + op.limit)
    items = frame.state.log_read(key, low, high) if high > low else []
    return port.LogSlice(_epoch(frame, op.key, epoch), base, end, low if items else end, items)


def append(frame: Frame, op: port.Append, number: int) -> int:
    """`Append`."""
    state, key = frame.state, frame.key(op.key)
    base = frame.results[number]
    if base is None:
        base = _start(frame, op)
    first = int(base) + state.log_count(key)
    if op.stamps:
        front = b" ".join(map(frame.value, op.stamps)) + b"\n"
        state.log_append(key, first, [front + item for item in op.items])
    else:
        state.log_append(key, first, op.items)
    return first


def trim(frame: Frame, op: port.Trim, number: int) -> int:
    """`Trim`."""
    base = frame.results[number]
    if base is None:
        base = _written(frame, op.key)
    if base is None:
        return 0
    key = frame.key(op.key)
    count = frame.state.log_count(key)
    wanted = count - op.keep if op.keep is not None else (op.before or 0) - base
    removed = max(0, min(count, wanted))
    if removed:
        frame.state.log_remove(key, base, base + removed)
        start = {f"~b{op.key}": b"%d" % (base + removed)}
        frame.state.map_put(_owner(frame, op.key), start)
    return removed


def truncate(frame: Frame, op: port.Truncate, number: int) -> int:
    """`Truncate`."""
    base = frame.results[number]
    if base is None:
        return 0
    key = frame.key(op.key)
    end = base + frame.state.log_count(key)
    start = max(base, op.start)
    if start >= end:
        return 0
    frame.state.log_remove(key, start, end)
    _next_epoch(frame, op.key)
    return int(end - start)


def redact(frame: Frame, op: port.Redact, number: int) -> int:
    """`Redact`."""
    base = frame.results[number]
    if base is None:
        return 0
    key = frame.key(op.key)
    end = base + frame.state.log_count(key)
    present = [sequence for sequence in set(op.sequences) if base <= sequence < end]
    for sequence in present:
        frame.state.log_set(key, sequence, op.item)
    if present:
        _next_epoch(frame, op.key)
    return len(present)


def _owner(frame: Frame, key: str) -> str:
    return frame.bucket_head if key[0] == "_" else frame.head


def _marks(frame: Frame, key: str) -> list[bytes | None]:
    return frame.state.map_fields(_owner(frame, key), (f"~b{key}", f"~e{key}"))


def _written(frame: Frame, key: str) -> int | None:
    """The first sequence as it is now: an earlier operation may have made the log."""
    (mark,) = frame.state.map_fields(_owner(frame, key), (f"~b{key}",))
    return None if mark is None else int(mark)


def _start(frame: Frame, op: port.Append) -> int:
    base = _written(frame, op.key)
    if base is not None:
        return base
    base = frame.now if op.first is None else op.first
    fields = {f"~b{op.key}": b"%d" % base}
    if op.epoch:
        fields[f"~e{op.key}"] = b"%d" % op.epoch
    # Items without marks are what a deleted head left behind; they belong to no log any more.
    frame.state.drop("log", frame.key(op.key))
    frame.state.map_put(_owner(frame, op.key), fields)
    return base


def _epoch(frame: Frame, key: str, epoch: bytes | None) -> str:
    incarnation = b"0" if key[0] == "_" else frame.incarnation
    return (b"%b.%b" % (incarnation, epoch or b"0")).decode(errors="replace")


def _next_epoch(frame: Frame, key: str) -> None:
    owner, field = _owner(frame, key), f"~e{key}"
    (epoch,) = frame.state.map_fields(owner, (field,))
    frame.state.map_put(owner, {field: b"%d" % (int(epoch or 0) + 1)})
