"""Random batches for two stores that have to agree: many that are valid, some that are not."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from aiecs.core.errors import InvalidInputError
from aiecs.core.interface import store as port
from aiecs.core.interface.batch_rules import check

MAPS = ("", "m", "_m")
LOGS = ("l", "k", "_l")
INDEXES = ("i", "_i")
GROUPS = ("s:one", "s:two", "")
_FIELDS = ("a", "b", "n", "")
_MEMBERS = ("a", "ab", "b", "é", "\x00")
_TEXTS = (b"", b"x", b"\x00\xff\r\n", b"1", b"-7", b"007", b"-0", b"+1", b"1.0", b" 1")
_EDGES = tuple(
    sign + str(port.MAX_INTEGER + away).encode() for sign in (b"", b"-") for away in (-1, 0, 1)
)
_PLUS = st.sampled_from([0, 10**9, -(10**9)])

_maps = st.sampled_from(MAPS)
_logs = st.sampled_from(LOGS)
_indexes = st.sampled_from(INDEXES)
_fields = st.sampled_from(_FIELDS)
_some_fields = st.lists(_fields, min_size=1, max_size=3, unique=True).map(tuple)
_bytes = st.sampled_from(_TEXTS + _EDGES)
_now = st.builds(port.Now, _PLUS)
_result = st.builds(port.Result, st.integers(0, 9), st.integers(0, 1))
_value = st.one_of(_bytes, _bytes, _now, _result)
_small = st.integers(-3, 12)
_maybe_small = st.none() | _small
_delta = st.sampled_from([0, 1, -1, 5, port.MAX_INTEGER, -port.MAX_INTEGER])
_score = st.one_of(st.integers(-2, 3), st.sampled_from([port.MAX_INTEGER, -port.MAX_INTEGER]))
_members = st.sampled_from(_MEMBERS)

CREATE = st.builds(
    port.Put,
    st.just(""),
    st.dictionaries(_fields, _value, max_size=2).map(
        lambda fields: {"~i": port.NEW_INCARNATION, **fields}
    ),
    st.sampled_from(["skip", "abort"]),
)
_GUARDS = st.one_of(
    st.builds(port.RequireExists, _maps, st.booleans()),
    st.builds(port.RequireEquals, _maps, _fields, st.none() | _bytes),
    st.builds(port.RequireAtMost, _maps, _fields, _now | _score),
    st.builds(port.RequireFields, _maps, _some_fields),
    st.builds(port.RequireBefore, st.sampled_from([1, port.MAX_INTEGER])),
)
_EITHER = st.one_of(
    st.builds(port.Get, _maps, st.none() | _some_fields), st.just(port.Clock()), _GUARDS
)
_READS = st.one_of(
    st.builds(
        port.Read,
        _logs,
        _maybe_small,
        _maybe_small,
        st.sampled_from([0, 0, 1, 2, 5]),
        st.booleans(),
        _maybe_small,
    ),
    st.builds(
        port.IndexRange,
        _indexes,
        st.none() | _score,
        st.none() | _score,
        st.sampled_from([1, 2, 100]),
        st.booleans(),
        st.none() | st.tuples(_members, _score),
        st.none(),
    ),
    st.builds(port.IndexCount, _indexes, st.none() | _score, st.none() | _score),
    _EITHER,
)
_STAMPS = st.lists(st.one_of(_now, st.just(port.INCARNATION), _result), max_size=3).map(tuple)
_OTHER_KEYS = st.lists(
    st.sampled_from([("map", "m"), ("log", "l"), ("index", "i")]), max_size=2, unique=True
).map(tuple)
_WRITES = st.one_of(
    st.builds(
        port.Put,
        _maps,
        st.dictionaries(_fields, _value, min_size=1, max_size=3),
        st.sampled_from(["", "", "", "skip", "abort"]),
    ),
    st.builds(port.Incr, _maps, st.dictionaries(_fields, _delta, min_size=1, max_size=2)),
    st.builds(port.Delete, _maps.filter(bool), st.none() | _some_fields, st.just("map")),
    st.builds(port.Delete, _logs, st.none(), st.just("log")),
    st.builds(port.Delete, _indexes, st.none(), st.just("index")),
    st.builds(port.Append, _logs, st.lists(_bytes, min_size=1, max_size=4).map(tuple), _STAMPS),
    st.builds(
        port.Append,
        _logs,
        st.lists(_bytes, min_size=1, max_size=2).map(tuple),
        _STAMPS,
        st.none() | st.sampled_from([0, 5, port.MAX_INTEGER - 10]),
        st.integers(0, 2),
    ),
    st.builds(port.Trim, _logs, st.integers(0, 6), st.none()),
    st.builds(port.Trim, _logs, st.none(), _small),
    st.builds(port.Truncate, _logs, _small),
    st.builds(port.Redact, _logs, st.lists(_small, min_size=1, max_size=3).map(tuple), _bytes),
    st.builds(
        port.IndexPut,
        _indexes,
        st.dictionaries(_members, st.one_of(_score, _now, _result), min_size=1, max_size=3),
        st.booleans(),
    ),
    st.builds(
        port.IndexDelete,
        _indexes,
        st.lists(_members, min_size=1, max_size=3, unique=True).map(tuple),
        st.none() | _score,
    ),
    st.builds(port.Expire, st.sampled_from([None, 1, 5, 10**12, 10**15]), _OTHER_KEYS),
)
READING = st.lists(_READS, min_size=1, max_size=6)
WRITING = st.lists(st.one_of(_WRITES, _WRITES, _EITHER), min_size=1, max_size=8)
WILD = st.lists(st.one_of(_WRITES, _READS, CREATE), min_size=0, max_size=6)
RECEIPTS = st.none() | st.builds(port.Receipt, st.sampled_from("vw"), st.integers(1, 12))


def rebased(op: Any, bases: dict[str, int]) -> Any:
    """The operation with its small sequences counted from the beginning of its log."""
    base = bases.get(getattr(op, "key", ""), 0)

    def move(value: int | None) -> int | None:
        return None if value is None else min(value + base, port.MAX_INTEGER)

    if type(op) is port.Read:
        return op._replace(start=move(op.start), stop=move(op.stop), base=move(op.base))
    if type(op) is port.Trim:
        return op._replace(before=move(op.before))
    if type(op) is port.Truncate:
        return op._replace(start=move(op.start))
    if type(op) is port.Redact:
        return op._replace(sequences=tuple(map(move, op.sequences)))
    return op


def mended(batch: port.Batch) -> port.Batch:
    """What is left of a batch without the operations that would break a rule."""
    kept: list[port.Op] = []
    for op in batch.ops:
        tried = [*kept, _with_results(op, kept)]
        try:
            check(batch._replace(ops=tuple(tried)))
        except InvalidInputError:
            continue
        kept = tried
    return batch._replace(ops=tuple(kept or [port.Clock()]))


def _with_results(op: Any, before: list[port.Op]) -> Any:
    """References to results led to operations that have some, or turned into NOW."""
    known = [number for number, old in enumerate(before) if type(old) in (port.Append, port.Incr)]

    def mend(value: Any) -> Any:
        if type(value) is not port.Result:
            return value
        if not known:
            return port.NOW
        number = known[value.operation % len(known)]
        named: Any = before[number]
        count = len(named.items if type(named) is port.Append else named.deltas)
        return port.Result(number, value.item % count)

    if type(op) is port.Put:
        return op._replace(fields={name: mend(value) for name, value in op.fields.items()})
    if type(op) is port.IndexPut:
        return op._replace(entries={name: mend(value) for name, value in op.entries.items()})
    if type(op) is port.Append:
        return op._replace(stamps=tuple(map(mend, op.stamps)))
    return op


def opened(ops: tuple[port.Op, ...]) -> tuple[tuple[port.Op, ...], tuple[Any, ...]]:
    """The operations as those of a plan, and the values of the call that says the same."""
    args: list[Any] = []

    def leave_open(value: Any, kind: type) -> Any:
        if type(value) is not kind:
            return value
        args.append(value)
        return port.Arg(len(args) - 1)

    def open_one(op: Any) -> Any:
        if type(op) is port.Put:
            fields = {name: leave_open(value, bytes) for name, value in op.fields.items()}
            return op._replace(fields=fields)
        if type(op) is port.Incr:
            return op._replace(deltas={n: leave_open(d, int) for n, d in op.deltas.items()})
        if type(op) is port.Append:
            return op._replace(items=tuple(leave_open(item, bytes) for item in op.items))
        if type(op) is port.Expire:
            return op._replace(ttl=leave_open(op.ttl, int))
        return op

    return tuple(map(open_one, ops)), tuple(args)
