"""The fast way in for prepared plans: their shape is checked once, then only each call's values."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from aiecs.core.errors import InvalidInputError
from aiecs.core.interface import store as port
from aiecs.core.interface.batch_rules import check
from aiecs.core.interface.value_rules import LONGEST

_LARGE = 1024 * 1024
_Bounds = tuple[int, int, bool] | None
_INTEGER = (-port.MAX_INTEGER, port.MAX_INTEGER, False)
_TTL = (1, LONGEST, True)
_PLAIN = frozenset({bytes, int, type(None)})
_BOUND = (-port.MAX_INTEGER, port.MAX_INTEGER, True)
_COUNT = (0, port.MAX_INTEGER, False)


class _Rule(NamedTuple):
    """What each value has to be: None for bytes, else the bounds of an int; True: None will do.

    `times`: in how many places it stands.
    """

    size: int
    values: tuple[_Bounds, ...]
    times: tuple[int, ...]


def checked(batch: port.Batch | port.Call) -> tuple[port.Batch, int]:
    """The batch, filled in and checked, and its size in bytes.

    `InvalidInputError` when it breaks a rule of the port.
    """
    if isinstance(batch, port.Batch):
        return batch, check(batch)
    plan, bucket, group, args = batch
    if not _PLAIN.issuperset(map(type, args)):
        raise InvalidInputError(f"{plan} takes bytes, ints and None")
    try:
        full = port.Batch(bucket, group, plan.bind(args), plan.raw)
    except (IndexError, TypeError) as error:
        raise InvalidInputError(f"{plan} does not take these {len(args)} values") from error
    note = _GROUP if group else _BUCKET
    rule = plan.notes.get(note)
    size = -1 if rule is None else _measure(rule, bucket, group, args)
    if size < 0:
        size = check(full)
        if rule is None and note not in plan.notes:
            plan.notes[note] = _rule(plan, args, size - len(group.encode()))
    return full, size


def call_size(call: port.Call) -> int:
    """The size in bytes of a call that keeps the rules of the port; `InvalidInputError` else."""
    plan, bucket, group, args = call
    rule = plan.notes.get(_GROUP if group else _BUCKET)
    size = -1 if rule is None else _measure(rule, bucket, group, args)
    return size if size >= 0 else checked(call)[1]


def _measure(rule: _Rule, bucket: int, group: str, args: tuple[Any, ...]) -> int:
    """The size of a call that keeps the rules for certain, else -1: it needs the full check."""
    if type(bucket) is not int or not 0 <= bucket < port.BUCKETS or type(group) is not str:
        return -1
    if not group.isascii() or group[:1] == "_" or "/" in group or len(args) != len(rule.values):
        return -1
    size = rule.size + len(group)
    for value, bounds, times in zip(args, rule.values, rule.times, strict=True):
        if bounds is None:
            if type(value) is not bytes:
                return -1
            size += len(value) * times
        elif type(value) is int:
            if not bounds[0] <= value <= bounds[1]:
                return -1
        elif value is not None or not bounds[2]:
            return -1
    return size if size < _LARGE else -1


def _rule(plan: port.Plan, args: tuple[Any, ...], size: int) -> _Rule | None:
    """What the values of later calls have to keep; None where only the full check can tell.

    `size` is that of a batch with these values, without its group, which the check has let pass.
    """
    found: dict[int, _Bounds] = {}
    times = Counter[int]()
    for op in plan.ops:
        for value, bounds in _places(op):
            if type(value) is port.Arg:
                if found.setdefault(value.position, bounds) != bounds:
                    return None
                times[value.position] += 1
    if sorted(found) != list(range(len(args))) or times.total() != _count(plan.ops):
        return None
    held = sum(len(value) * times[n] for n, value in enumerate(args) if type(value) is bytes)
    places = range(len(found))
    return _Rule(size - held, tuple(found[n] for n in places), tuple(times[n] for n in places))


def _places(op: port.Op) -> list[tuple[Any, _Bounds]]:
    """Where an operation may leave a value open, with what has to stand there."""
    found: list[tuple[Any, _Bounds]] = []
    match op:
        case port.Append(items=tuple() as items, stamps=stamps):
            found = [(item, None) for item in (*items, *stamps)]
        case port.Put(fields=fields):
            found = [(value, None) for field, value in fields.items() if field != "~i"]
        case port.Extend(fields=fields):
            found = [(value, None) for value in fields.values()]
        case port.Incr(deltas=deltas):
            found = [(delta, _INTEGER) for delta in deltas.values()]
        case port.RequireEquals(value=value):
            found = [(value, None)]
        case port.RequireAtMost(limit=limit):
            found = [(limit, _INTEGER)]
        case port.Expire(ttl=ttl):
            found = [(ttl, _TTL)]
        case port.Read(start=start, stop=stop, limit=limit, base=base):
            found = [(start, _BOUND), (stop, _BOUND), (base, _BOUND), (limit, _COUNT)]
    return found


def _count(value: Any) -> int:
    if type(value) is port.Arg:
        return 1
    if isinstance(value, tuple):
        return sum(map(_count, value))
    return sum(map(_count, value.values())) if type(value) is dict else 0


# Keys of `Plan.notes`: the rules of a call with a group, and of one without.
_GROUP = object()
_BUCKET = object()
