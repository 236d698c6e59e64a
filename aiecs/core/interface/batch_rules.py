"""What a batch may contain: checked before any I/O, the same for every store."""

from __future__ import annotations

import re
from typing import Any

from aiecs.core.errors import InvalidInputError
from aiecs.core.interface import store as port

_VALUE_TYPES = (bytes, port.Now, port.Result)
_LIMIT = port.MAX_INTEGER
_INTEGER = re.compile(rb"-?[0-9]{1,16}\Z")


def check(batch: port.Batch) -> None:
    """Raise `InvalidInputError` when the batch breaks a rule of the port."""
    if not 0 <= batch.bucket < port.BUCKETS:
        _refuse(f"bucket must be 0..{port.BUCKETS - 1}, got {batch.bucket}")
    if batch.group.startswith("_") or "/" in batch.group:
        _refuse(f"a group neither starts with '_' nor contains '/', got {batch.group!r}")
    if not 0 < len(batch.ops) <= port.MAX_OPERATIONS:
        _refuse(f"a batch holds 1..{port.MAX_OPERATIONS} operations, got {len(batch.ops)}")
    _Checker(batch).run()


def creates_group(ops: tuple[port.Op, ...]) -> bool:
    """Whether one of the operations creates the group (a `Put` of `~i` on the head)."""
    return any(type(op) is port.Put and op.key == "" and "~i" in op.fields for op in ops)


def parse_integer(value: bytes) -> int | None:
    """The integer that a field holds, or None when the bytes are none (or leave ±(2^53-1))."""
    if not _INTEGER.match(value):
        return None
    number = int(value)
    return number if abs(number) <= port.MAX_INTEGER else None


def is_mutating(ops: tuple[port.Op, ...]) -> bool:
    """Whether one of the operations writes."""
    return any(type(op) in _WRITE_TYPES for op in ops)


_WRITE_TYPES = frozenset(port.WRITES)


def _refuse(message: str) -> None:
    raise InvalidInputError(message)


class _Checker:
    def __init__(self, batch: port.Batch) -> None:
        self.batch = batch
        self.seen: set[tuple[str, str, Any]] = set()
        self.touched: set[tuple[str, str]] = set()
        self.dropped: set[tuple[str, str]] = set()
        self.logs_done: set[str] = set()
        self.size = 0

    def run(self) -> None:
        mutating = is_mutating(self.batch.ops)
        for number, op in enumerate(self.batch.ops):
            kind = type(op)
            if mutating and kind in (port.Read, port.IndexRange, port.IndexCount):
                _refuse(f"{kind.__name__} cannot stand in a batch that writes")
            key = getattr(op, "key", None)
            if key is not None:
                self._key(key)
            handler = _HANDLERS.get(kind)
            if handler is not None:
                handler(self, op, number)
        if self.size > port.MAX_BATCH_BYTES:
            _refuse(f"a batch holds at most {port.MAX_BATCH_BYTES} bytes, got {self.size}")

    def _key(self, key: str) -> None:
        if type(key) is not str:
            _refuse(f"keys are str, got {type(key).__name__}")
        if not self.batch.group and not key.startswith("_"):
            _refuse(f"key {key!r} needs a group")

    def _once(self, kind: str, key: str, part: Any) -> None:
        mark = (kind, key, part)
        if mark in self.seen or (kind, key) in self.dropped:
            _refuse(f"a batch writes {kind} {key!r} {part!r} at most once")
        self.seen.add(mark)
        self.touched.add((kind, key))

    def _drop(self, kind: str, key: str) -> None:
        if (kind, key) in self.touched or (kind, key) in self.dropped:
            _refuse(f"a batch that deletes {kind} {key!r} writes nothing else to it")
        self.dropped.add((kind, key))

    def _value(self, value: Any, number: int) -> None:
        kind = type(value)
        if kind is bytes:
            self.size += len(value)
        elif kind is port.Result:
            self._reference(value, number)
        elif kind not in _VALUE_TYPES:
            _refuse(f"values are bytes, got {kind.__name__}")

    def _reference(self, result: port.Result, number: int) -> None:
        if not 0 <= result.operation < number or type(self.batch.ops[result.operation]) not in (
            port.Append,
            port.Incr,
        ):
            _refuse("Result names an earlier Append or Incr of the same batch")

    def put(self, op: port.Put, number: int) -> None:
        if not 0 < len(op.fields) <= port.MAX_OPERATIONS:
            _refuse(f"Put takes 1..{port.MAX_OPERATIONS} fields")
        for field, value in op.fields.items():
            if field == "~i" and op.key == "":
                if type(value) not in (bytes, type(port.NEW_INCARNATION)) or not op.if_absent:
                    _refuse("~i takes bytes or NEW_INCARNATION, and if_absent")
            elif field.startswith("~"):
                _refuse(f"field {field!r} belongs to the store")
            else:
                self._value(value, number)
            self._once("map", op.key, field)
            self.size += len(field)

    def incr(self, op: port.Incr, number: int) -> None:
        if not 0 < len(op.deltas) <= port.MAX_OPERATIONS:
            _refuse(f"Incr takes 1..{port.MAX_OPERATIONS} fields")
        for field, delta in op.deltas.items():
            self._integer(delta, "delta")
            if field.startswith("~"):
                _refuse(f"field {field!r} belongs to the store")
            self._once("map", op.key, field)

    def delete(self, op: port.Delete, number: int) -> None:
        if op.fields is None:
            self._drop(op.kind, op.key)
            return
        if op.kind != "map" or not op.fields:
            _refuse("Delete of fields names at least one field of a map")
        for field in op.fields:
            if field.startswith("~"):
                _refuse(f"field {field!r} belongs to the store")
            self._once("map", op.key, field)

    def append(self, op: port.Append, number: int) -> None:
        if not 0 < len(op.items) <= port.MAX_OPERATIONS:
            _refuse(f"Append takes 1..{port.MAX_OPERATIONS} items")
        if op.key in self.logs_done or ("log", op.key) in self.dropped:
            _refuse(f"log {op.key!r} was trimmed or deleted earlier in the batch")
        self._touch_log(op.key)
        for item in op.items:
            if type(item) is not bytes:
                _refuse(f"items are bytes, got {type(item).__name__}")
            self.size += len(item)
        for stamp in op.stamps:
            if type(stamp) is port.Result:
                self._reference(stamp, number)
        if op.first is not None:
            self._integer(op.first, "first")

    def trim(self, op: port.Trim, number: int) -> None:
        if (op.keep is None) == (op.before is None):
            _refuse("Trim takes keep or before")
        self._integer(op.keep if op.before is None else op.before, "bound")
        self._end_of_log(op.key)

    def truncate(self, op: port.Truncate, number: int) -> None:
        self._integer(op.start, "start")
        if ("log", op.key) in self.touched:
            _refuse("Truncate stands alone on its log")
        self._end_of_log(op.key)

    def redact(self, op: port.Redact, number: int) -> None:
        if ("log", op.key) in self.touched:
            _refuse("Redact stands alone on its log")
        self._end_of_log(op.key)

    def _end_of_log(self, key: str) -> None:
        if key in self.logs_done or ("log", key) in self.dropped:
            _refuse(f"log {key!r} was trimmed or deleted earlier in the batch")
        self.logs_done.add(key)
        self._touch_log(key)

    def _touch_log(self, key: str) -> None:
        self.touched.add(("log", key))
        if not key.startswith("_"):
            if ("map", "") in self.dropped:
                _refuse("a batch that deletes a group writes nothing else to it")
            self.touched.add(("map", ""))

    def index_put(self, op: port.IndexPut, number: int) -> None:
        if not 0 < len(op.entries) <= port.MAX_OPERATIONS:
            _refuse(f"IndexPut takes 1..{port.MAX_OPERATIONS} members")
        for member, score in op.entries.items():
            if type(score) is int:
                self._integer(score, "score")
            elif type(score) in _VALUE_TYPES and type(score) is not bytes:
                self._value(score, number)
            else:
                _refuse("scores are int, NOW or Result")
            self._once("index", op.key, member)

    def index_delete(self, op: port.IndexDelete, number: int) -> None:
        for member in op.members:
            self._once("index", op.key, member)

    def expire(self, op: port.Expire, number: int) -> None:
        if not self.batch.group:
            _refuse("Expire needs a group")
        self._once("map", "", "~x")
        if op.ttl is not None and not 0 < self._integer(op.ttl, "ttl") < 10**15:
            _refuse("ttl is 1 microsecond to 31 years")

    def get(self, op: port.Get, number: int) -> None:
        if op.fields is not None and not op.fields:
            _refuse("Get needs a field, or None for all")

    def _integer(self, value: Any, what: str) -> int:
        if type(value) is not int or not -_LIMIT <= value <= _LIMIT:
            _refuse(f"{what} must be an int within ±(2^53-1), got {value!r}")
        return int(value)


_HANDLERS: dict[type, Any] = {
    port.Get: _Checker.get,
    port.Put: _Checker.put,
    port.Incr: _Checker.incr,
    port.Delete: _Checker.delete,
    port.Append: _Checker.append,
    port.Trim: _Checker.trim,
    port.Truncate: _Checker.truncate,
    port.Redact: _Checker.redact,
    port.IndexPut: _Checker.index_put,
    port.IndexDelete: _Checker.index_delete,
    port.Expire: _Checker.expire,
}
