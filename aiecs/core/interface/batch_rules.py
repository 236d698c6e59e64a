"""What a batch may contain: checked before any I/O, the same for every store."""

from __future__ import annotations

from typing import Any

from aiecs.core.errors import InvalidInputError
from aiecs.core.interface import store as port
from aiecs.core.interface.value_rules import (
    LONGEST,
    MAPS,
    SEQUENCES,
    bounds,
    flag,
    integer,
    pair,
    refuse,
    several,
)

_LIMIT = port.MAX_INTEGER
_KINDS = ("map", "log", "index")


def check(batch: port.Batch) -> int:
    """The size of a batch in bytes; `InvalidInputError` when it breaks a rule of the port."""
    if type(batch.bucket) is not int or not 0 <= batch.bucket < port.BUCKETS:
        refuse(f"bucket must be 0..{port.BUCKETS - 1}, got {batch.bucket!r}")
    if not 0 < len(batch.ops) <= port.MAX_OPERATIONS:
        refuse(f"a batch holds 1..{port.MAX_OPERATIONS} operations, got {len(batch.ops)}")
    return _Checker(batch).run()


def creates_group(ops: tuple[port.Op, ...]) -> bool:
    """Whether one of the operations creates the group (a `Put` of `~i` on the head)."""
    return any(type(op) is port.Put and op.key == "" and "~i" in op.fields for op in ops)


def is_mutating(ops: tuple[port.Op, ...]) -> bool:
    """Whether one of the operations writes."""
    return any(type(op) in _WRITE_TYPES for op in ops)


_WRITE_TYPES = frozenset(port.WRITES)


class _Checker:
    __slots__ = ("batch", "dropped", "logs_done", "names", "seen", "size", "touched", "wrote_group")

    def __init__(self, batch: port.Batch) -> None:
        self.batch = batch
        self.names: list[str] = [batch.group]
        self.seen: set[tuple[str, str, Any]] = set()
        self.touched: set[tuple[str, str]] = set()
        self.dropped: set[tuple[str, str]] = set()
        self.logs_done: set[str] = set()
        self.wrote_group = False
        self.size = 0

    def run(self) -> int:
        self._group()
        mutating = is_mutating(self.batch.ops)
        for number, op in enumerate(self.batch.ops):
            kind = type(op)
            handler = _HANDLERS.get(kind, _Checker.unknown)
            if mutating and kind in _ALONE:
                refuse(f"{kind.__name__} cannot stand in a batch that writes")
            if kind in _KEYED:
                self._key(op.key, kind)  # type: ignore[union-attr]  # all of these have one
            handler(self, op, number)
        if self.wrote_group and ("map", "") in self.dropped:
            refuse("a batch that deletes a group writes nothing else to it")
        return self._sizes()

    def _group(self) -> None:
        group, receipt = self.batch.group, self.batch.receipt
        if type(group) is not str or group.startswith("_") or "/" in group:
            refuse(f"a group is a str without '/' that does not begin with '_', got {group!r}")
        if receipt is not None:
            # Stores keep a writer's refusals beside its last number, under the name with "!".
            if type(receipt.writer) is not str or not receipt.writer or "!" in receipt.writer:
                refuse(f"a writer is a str without '!', not empty, got {receipt.writer!r}")
            self.names.append(receipt.writer)
            integer(receipt.n, "the n of a receipt", 0)

    def _sizes(self) -> int:
        # One look at all names together: it costs less than a test of each where it is met.
        try:
            self.size += len("".join(self.names).encode())
        except (TypeError, UnicodeEncodeError) as error:
            message = "names are str without lone surrogates"
            raise InvalidInputError(message) from error
        if self.size > port.MAX_BATCH_BYTES:
            refuse(f"a batch holds at most {port.MAX_BATCH_BYTES} bytes, got {self.size}")
        return self.size

    def _key(self, key: Any, kind: type) -> None:
        if type(key) is not str:
            refuse(f"keys are str, got {type(key).__name__}")
        self.names.append(key)
        if not key.startswith("_"):
            if not self.batch.group:
                refuse(f"key {key!r} needs a group")
            if key == "" and kind in _NO_MAP:
                refuse("the key '' is the group's head, a map")
            if kind in _CONTENT:
                self.wrote_group = True

    def _once(self, kind: str, key: str, part: Any) -> None:
        mark = (kind, key, part)
        if mark in self.seen or (kind, key) in self.dropped:
            refuse(f"a batch writes {kind} {key!r} {part!r} at most once")
        self.seen.add(mark)
        self.touched.add((kind, key))

    def _own(self, field: Any) -> None:
        if type(field) is not str:
            refuse(f"fields are str, got {type(field).__name__}")
        if field.startswith("~"):
            refuse(f"field {field!r} belongs to the store")
        self.names.append(field)

    def _value(self, value: Any, number: int) -> None:
        kind = type(value)
        if kind is bytes:
            self.size += len(value)
        elif kind is port.Now:
            integer(value.plus, "plus", -LONGEST, LONGEST)
        elif kind is port.Result:
            self._reference(value, number)
        else:
            refuse(f"values are bytes, NOW or Result, got {kind.__name__}")

    def _reference(self, result: port.Result, number: int) -> None:
        integer(result.operation, "the operation of a Result", 0)
        integer(result.item, "the item of a Result", 0)
        named = self.batch.ops[result.operation] if result.operation < number else None
        if type(named) is port.Append:
            known = len(named.items)
        elif type(named) is port.Incr:
            known = len(named.deltas)
        else:
            known = 0
        if result.item >= known:
            refuse("Result names an item of an earlier Append or Incr of the same batch")

    def get(self, op: port.Get, number: int) -> None:
        if op.fields is not None:
            self.fields(op, number)

    def fields(self, op: port.Get | port.RequireFields, number: int) -> None:
        several(op.fields, SEQUENCES, "fields")
        self.names.extend(op.fields or ())

    def exists(self, op: port.RequireExists, number: int) -> None:
        flag(op.exists, "exists")

    def equals(self, op: port.RequireEquals, number: int) -> None:
        self.names.append(op.field)
        if op.value is not None and type(op.value) is not bytes:
            refuse(f"RequireEquals compares with bytes or None, got {type(op.value).__name__}")
        self.size += len(op.value or b"")

    def at_most(self, op: port.RequireAtMost, number: int) -> None:
        self.names.append(op.field)
        if type(op.limit) is port.Now:
            self._value(op.limit, number)
        else:
            integer(op.limit, "limit")

    def before(self, op: port.RequireBefore, number: int) -> None:
        integer(op.time, "time")

    def put(self, op: port.Put, number: int) -> None:
        several(op.fields, MAPS, "fields")
        if op.if_absent not in ("", "skip", "abort"):
            refuse(f"if_absent is '', 'skip' or 'abort', got {op.if_absent!r}")
        for field, value in op.fields.items():
            if field == "~i" and op.key == "":
                if type(value) not in (bytes, port.NewIncarnation) or not op.if_absent:
                    refuse("~i takes bytes or NEW_INCARNATION, and if_absent")
            else:
                self._own(field)
                self._value(value, number)
            self._once("map", op.key, field)

    def extend(self, op: port.Extend, number: int) -> None:
        several(op.fields, MAPS, "fields")
        for field, value in op.fields.items():
            self._own(field)
            if type(value) is not bytes:
                refuse(f"Extend adds bytes, got {type(value).__name__}")
            self.size += len(value)
            self._once("map", op.key, field)

    def incr(self, op: port.Incr, number: int) -> None:
        several(op.deltas, MAPS, "fields")
        for field, delta in op.deltas.items():
            self._own(field)
            integer(delta, "delta")
            self._once("map", op.key, field)

    def delete(self, op: port.Delete, number: int) -> None:
        if op.kind not in _KINDS:
            refuse(f"kind is one of {_KINDS}, got {op.kind!r}")
        if op.fields is None:
            if op.key == "" and op.kind != "map":
                refuse("the key '' is the group's head, a map")
            self._drop(op.kind, op.key)
            return
        if op.kind != "map":
            refuse("only a map has fields to delete")
        several(op.fields, SEQUENCES, "fields")
        for field in op.fields:
            self._own(field)
            self._once("map", op.key, field)

    def _drop(self, kind: str, key: str) -> None:
        if (kind, key) in self.touched or (kind, key) in self.dropped:
            refuse(f"a batch that deletes {kind} {key!r} writes nothing else to it")
        self.dropped.add((kind, key))

    def append(self, op: port.Append, number: int) -> None:
        several(op.items, SEQUENCES, "items")
        if op.key in self.logs_done or ("log", op.key) in self.dropped:
            refuse(f"log {op.key!r} was trimmed or deleted earlier in the batch")
        self.touched.add(("log", op.key))
        for item in op.items:
            if type(item) is not bytes:
                refuse(f"items are bytes, got {type(item).__name__}")
            self.size += len(item)
        several(op.stamps, SEQUENCES, "stamps", 0)
        for stamp in op.stamps:
            if type(stamp) not in _STAMPS:
                refuse(f"stamps are bytes, NOW, INCARNATION or Result, got {type(stamp).__name__}")
            if type(stamp) is not port.Incarnation:
                self._value(stamp, number)
        integer(op.epoch, "epoch", 0)
        if op.first is not None:
            integer(op.first, "first", 0, _LIMIT - LONGEST)  # room for all that will follow

    def read(self, op: port.Read, number: int) -> None:
        bounds(op, "start", "stop", "base")
        integer(op.limit, "limit", 0)
        flag(op.newest, "newest")

    def trim(self, op: port.Trim, number: int) -> None:
        if (op.keep is None) == (op.before is None):
            refuse("Trim takes keep or before")
        bounds(op, "before")
        if op.keep is not None:
            integer(op.keep, "keep", 0)
        self._end_of_log(op.key)

    def truncate(self, op: port.Truncate, number: int) -> None:
        integer(op.start, "start")
        self._alone(op)

    def redact(self, op: port.Redact, number: int) -> None:
        several(op.sequences, SEQUENCES, "sequences")
        for sequence in op.sequences:
            integer(sequence, "sequence")
        if type(op.item) is not bytes:
            refuse(f"items are bytes, got {type(op.item).__name__}")
        self.size += len(op.item)
        self._alone(op)

    def _alone(self, op: port.Truncate | port.Redact) -> None:
        if ("log", op.key) in self.touched:
            refuse(f"{type(op).__name__} stands alone on its log")
        self._end_of_log(op.key)

    def _end_of_log(self, key: str) -> None:
        if key in self.logs_done or ("log", key) in self.dropped:
            refuse(f"log {key!r} was trimmed or deleted earlier in the batch")
        self.logs_done.add(key)
        self.touched.add(("log", key))

    def index_put(self, op: port.IndexPut, number: int) -> None:
        several(op.entries, MAPS, "members")
        flag(op.greater, "greater")
        for member, score in op.entries.items():
            if type(score) in (port.Now, port.Result):
                self._value(score, number)
            else:
                integer(score, "score")
            self._once("index", op.key, member)
        self.names.extend(op.entries)

    def index_range(self, op: port.IndexRange, number: int) -> None:
        bounds(op, "low", "high")
        integer(op.limit, "limit", 1)
        flag(op.reverse, "reverse")
        if op.prefix is not None:
            self.names.append(op.prefix)
        if op.cursor is not None:
            member, score = pair(op.cursor, "cursor")
            self.names.append(member)
            integer(score, "the score of a cursor")

    def index_count(self, op: port.IndexCount, number: int) -> None:
        bounds(op, "low", "high")

    def gather(self, op: port.Gather, number: int) -> None:
        several(op.maps, SEQUENCES, "maps")
        for key in (op.key, *op.maps, *([] if op.links is None else [op.links])):
            if type(key) is not str or key[:1] in ("", "_"):
                refuse(f"Gather takes a group's own keys beside its head, got {key!r}")
            self.names.append(key)
        integer(op.limit, "limit", 1, port.MAX_OPERATIONS)
        flag(op.reverse, "reverse")
        for names in (op.known, *([] if op.members is None else [op.members])):
            several(names, SEQUENCES, "names", 0)
            self.names.extend(names)
        self.names.extend((op.prefix, op.after or ""))

    def index_delete(self, op: port.IndexDelete, number: int) -> None:
        several(op.members, SEQUENCES, "members")
        bounds(op, "at_most")
        self.names.extend(op.members)
        for member in op.members:
            self._once("index", op.key, member)

    def expire(self, op: port.Expire, number: int) -> None:
        if not self.batch.group:
            refuse("Expire needs a group")
        self._once("map", "", "~x")
        if op.ttl is not None:
            integer(op.ttl, "ttl", 1, LONGEST)
        several(op.keys, SEQUENCES, "keys", 0)
        for entry in op.keys:
            kind, key = pair(entry, "keys")
            if kind not in _KINDS or type(key) is not str or key[:1] in ("", "_"):
                refuse(f"keys are the group's own beside its head, got {entry!r}")
            self.names.append(key)

    def clock(self, op: port.Clock, number: int) -> None:
        pass

    def unknown(self, op: object, number: int) -> None:
        refuse(f"operation {number} is none of the port: {type(op).__name__}")


_ALONE = frozenset({port.Read, port.IndexRange, port.IndexCount, port.Gather})
_NO_MAP = frozenset(
    {
        port.Append,
        port.Read,
        port.Trim,
        port.Truncate,
        port.Redact,
        port.IndexPut,
        port.IndexRange,
        port.IndexCount,
        port.Gather,
        port.IndexDelete,
    }
)
# What would be left behind, unreachable, when the head goes in the same batch.
_CONTENT = frozenset(
    {
        port.Put,
        port.Extend,
        port.Incr,
        port.Append,
        port.Trim,
        port.Truncate,
        port.Redact,
        port.IndexPut,
    }
)
_STAMPS = frozenset({bytes, port.Now, port.Incarnation, port.Result})
_HANDLERS: dict[type, Any] = {
    port.Get: _Checker.get,
    port.RequireExists: _Checker.exists,
    port.RequireEquals: _Checker.equals,
    port.RequireAtMost: _Checker.at_most,
    port.RequireFields: _Checker.fields,
    port.RequireBefore: _Checker.before,
    port.Put: _Checker.put,
    port.Extend: _Checker.extend,
    port.Incr: _Checker.incr,
    port.Delete: _Checker.delete,
    port.Append: _Checker.append,
    port.Read: _Checker.read,
    port.Trim: _Checker.trim,
    port.Truncate: _Checker.truncate,
    port.Redact: _Checker.redact,
    port.IndexPut: _Checker.index_put,
    port.IndexRange: _Checker.index_range,
    port.IndexCount: _Checker.index_count,
    port.Gather: _Checker.gather,
    port.IndexDelete: _Checker.index_delete,
    port.Expire: _Checker.expire,
    port.Clock: _Checker.clock,
}
_KEYED = frozenset(_HANDLERS) - {port.RequireBefore, port.Expire, port.Clock}
