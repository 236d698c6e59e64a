"""Guards, maps and indexes: what is looked at before the writes, and the writes."""

# ruff: noqa: ARG001 - all steps of a program share one signature
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiecs.core.interface import store as port
from aiecs.core.interface.value_rules import parse_integer

if TYPE_CHECKING:
    from aiecs.infrastructure.persistence.stores.semantics.frame import Frame

_SHOWN = ("~i", "~x")


# --- before the writes --------------------------------------------------------------------------


def get(frame: Frame, op: port.Get, number: int) -> Any:
    """`Get`."""
    if op.fields is not None:
        return frame.fields(op.key, op.fields)
    if frame.absent(op.key):
        return {}
    found = frame.state.map_all(frame.key(op.key))
    return {name: found[name] for name in found if name[:1] != "~" or name in _SHOWN}


def clock(frame: Frame, op: port.Clock, number: int) -> int:
    """`Clock`."""
    return frame.now


def require_exists(frame: Frame, op: port.RequireExists, number: int) -> None:
    """`RequireExists`."""
    exists = not frame.absent(op.key) and frame.state.map_exists(frame.key(op.key))
    if exists != op.exists:
        raise port.GuardFailed(number)


def require_equals(frame: Frame, op: port.RequireEquals, number: int) -> None:
    """`RequireEquals`."""
    (found,) = frame.fields(op.key, (op.field,))
    if found != op.value:
        raise port.GuardFailed(number, found)


def require_at_most(frame: Frame, op: port.RequireAtMost, number: int) -> None:
    """`RequireAtMost`."""
    (found,) = frame.fields(op.key, (op.field,))
    if found is None:
        raise port.GuardFailed(number)
    value = parse_integer(found)
    if value is None:
        raise port.CorruptField(number)
    limit = frame.now + op.limit.plus if type(op.limit) is port.Now else op.limit
    if value > limit:
        raise port.GuardFailed(number, found)


def require_fields(frame: Frame, op: port.RequireFields, number: int) -> None:
    """`RequireFields`."""
    found = frame.fields(op.key, op.fields)
    missing = [name for name, value in zip(op.fields, found, strict=True) if value is None]
    if missing:
        raise port.GuardFailed(number, missing)


def require_before(frame: Frame, op: port.RequireBefore, number: int) -> None:
    """`RequireBefore`."""
    if frame.now > op.time:
        raise port.GuardFailed(number, frame.now)


def prepare_put(frame: Frame, op: port.Put, number: int) -> bool:
    """Whether the `Put`, which has a condition, will write."""
    for found in frame.fields(op.key, op.fields):
        if found is not None:
            if op.if_absent == "abort":
                raise port.GuardFailed(number, found)
            return False
    return True


def prepare_extend(frame: Frame, op: port.Extend, number: int) -> list[bytes]:
    """The values that the `Extend` will write."""
    values = []
    for old, added in zip(frame.fields(op.key, op.fields), op.fields.values(), strict=True):
        value = added if old is None else old + added
        if len(value) > port.MAX_RECORD_BYTES:
            raise port.GuardFailed(number)
        values.append(value)
    return values


def prepare_incr(frame: Frame, op: port.Incr, number: int) -> list[int]:
    """The values that the `Incr` will write."""
    values = []
    found = frame.fields(op.key, op.deltas)
    for old, delta in zip(found, op.deltas.values(), strict=True):
        before = 0 if old is None else parse_integer(old)
        if before is None:
            raise port.CorruptField(number)
        if abs(before + delta) > port.MAX_INTEGER:
            raise port.GuardFailed(number, old)
        values.append(before + delta)
    return values


def index_range(frame: Frame, op: port.IndexRange, number: int) -> list[tuple[str, int]]:
    """`IndexRange`."""
    return [] if frame.absent(op.key) else frame.state.index_range(frame.key(op.key), op)


def index_count(frame: Frame, op: port.IndexCount, number: int) -> int:
    """`IndexCount`."""
    if frame.absent(op.key):
        return 0
    return frame.state.index_count(frame.key(op.key), op.low, op.high)


# --- writes -------------------------------------------------------------------------------------


def put(frame: Frame, op: port.Put, number: int) -> bool:
    """`Put`."""
    if op.if_absent and not frame.results[number]:
        return False
    fields = {
        name: value if type(value) is bytes else frame.value(value)
        for name, value in op.fields.items()
    }
    if op.key == "" and "~i" in fields:
        frame.incarnation = fields["~i"]
    frame.state.map_put(frame.key(op.key), fields)
    return True


def extend(frame: Frame, op: port.Extend, number: int) -> bool:
    """`Extend`."""
    fields = dict(zip(op.fields, frame.results[number], strict=True))
    frame.state.map_put(frame.key(op.key), fields)
    return True


def incr(frame: Frame, op: port.Incr, number: int) -> list[int]:
    """`Incr`."""
    values: list[int] = frame.results[number]
    fields = {name: b"%d" % value for name, value in zip(op.deltas, values, strict=True)}
    frame.state.map_put(frame.key(op.key), fields)
    return values


def delete(frame: Frame, op: port.Delete, number: int) -> int:
    """`Delete`."""
    key = frame.key(op.key)
    if op.fields is not None:
        return frame.state.map_remove(key, op.fields)
    count = frame.state.log_count(key) if op.kind == "log" else 0
    existed = frame.state.drop(op.kind, key)
    if op.kind == "log":
        owner = frame.bucket_head if op.key[0] == "_" else frame.head
        frame.state.map_remove(owner, (f"~b{op.key}", f"~e{op.key}"))
    return count or int(existed)


def expire(frame: Frame, op: port.Expire, number: int) -> None:
    """`Expire`."""
    if op.ttl is None:
        frame.state.map_remove(frame.head, ("~x",))
    else:
        frame.state.map_put(frame.head, {"~x": b"%d" % (frame.now + op.ttl)})


def index_put(frame: Frame, op: port.IndexPut, number: int) -> bool:
    """`IndexPut`."""
    entries = {
        member: score if type(score) is int else int(frame.value(score))
        for member, score in op.entries.items()
    }
    frame.state.index_put(frame.key(op.key), entries, greater=op.greater)
    return True


def index_delete(frame: Frame, op: port.IndexDelete, number: int) -> int:
    """`IndexDelete`."""
    key = frame.key(op.key)
    members = op.members
    if op.at_most is not None:
        scores = frame.state.index_scores(key, members)
        members = tuple(
            member
            for member, score in zip(members, scores, strict=True)
            if score is not None and score <= op.at_most
        )
    return frame.state.index_remove(key, members) if members else 0
