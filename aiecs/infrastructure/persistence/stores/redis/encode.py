"""Turns a batch into the shape of its script, its keys and its arguments."""

from __future__ import annotations

from typing import Any, NamedTuple

from aiecs.core.interface import store as port
from aiecs.core.interface.batch_rules import creates_group
from aiecs.infrastructure.persistence.stores.redis.script import Shape, Step

Key = tuple[port.Kind, str]


class Encoded(NamedTuple):
    """A batch, ready but for the receipt; `arguments` may hold `Arg`s when it came from a plan."""

    shape: Shape
    keys: list[Key]
    arguments: list[Any]


def encode(ops: tuple[port.Op, ...], *, group: bool) -> Encoded:
    """The shape, keys (after the heads) and arguments (after the receipt) of operations."""
    return _Encoder(ops, group=group).run()


class _Log:
    def __init__(self, slot: int, key: str, operation: int) -> None:
        self.slot = slot
        self.key = key
        self.operation = operation


class _Encoder:
    def __init__(self, ops: tuple[port.Op, ...], *, group: bool) -> None:
        self.ops = ops
        self.group = group
        self.steps: list[Step] = []
        self.head_fields: list[str] = []
        self.before: list[Any] = []
        self.before_keys: list[Key] = []
        self.after: list[Any] = []
        self.after_keys: list[Key] = []
        self.logs: dict[str, _Log] = {}
        self.first_write = True
        self.creates = creates_group(ops)

    def run(self) -> Encoded:
        self._find_logs()
        position = 0
        while position < len(self.ops):
            position = self._run_from(position)
        group_logs = [log for log in self.logs.values() if log.key[0] != "_"]
        bucket_logs = [log for log in self.logs.values() if log.key[0] == "_"]
        bucket_fields = [mark for log in bucket_logs for mark in _marks(log.key)]
        head_fields = [mark for log in group_logs for mark in _marks(log.key)] + self.head_fields
        arguments = [
            str(len(bucket_fields)),
            str(len(head_fields)),
            *bucket_fields,
            *head_fields,
            *(str(log.operation) for log in self.logs.values()),
            *self.before,
            *self.after,
        ]
        return Encoded(self._shape(), self.before_keys + self.after_keys, arguments)

    def _shape(self) -> Shape:
        return Shape(
            steps=tuple(self.steps),
            group=self.group,
            logs="".join("b" if log.key[0] == "_" else "g" for log in self.logs.values()),
            writes_group=self.group and any(_writes_group(op) for op in self.ops),
            creates=self.creates,
        )

    def _find_logs(self) -> None:
        for number, op in enumerate(self.ops):
            if not isinstance(op, port.Append | port.Trim | port.Truncate | port.Redact):
                continue
            if op.key not in self.logs:
                self.logs[op.key] = _Log(len(self.logs), op.key, number)

    def _run_from(self, start: int) -> int:
        code, key_class = _code(self.ops[start])
        stop = start + 1
        while stop < len(self.ops) and _code(self.ops[stop]) == (code, key_class):
            stop += 1
        run = self.ops[start:stop]
        many = len(run) > 1
        if code in _CHECKED and key_class != "h":
            self._check_types(code, key_class, run, many=many)
        elif code in _UNCHECKED and (key_class != "h" or code not in _READS_HEAD):
            # These look at the key first, but for one of a group that is only being created.
            self.first_write = False
            if self.creates and key_class == "g" and code in _LOOKS_WHEN_ALIVE:
                self._check_types("put", key_class, run, many=many)
        self.steps.append(Step(code, key_class, many))
        if many:
            self.before.append(str(len(run)))
            self.after.append(str(len(run)))
        for op in run:
            _ENCODERS[type(op)](self, op, key_class)
        return stop

    def _check_types(
        self, code: str, key_class: str, run: tuple[port.Op, ...], *, many: bool
    ) -> None:
        first, self.first_write = self.first_write, False
        if first and not many and code in _SELF_CHECKING:
            return
        self.steps.append(Step("t" + code, key_class, many))
        if many:
            self.before.append(str(len(run)))
        keys = (op.key for op in run)  # type: ignore[union-attr]  # what is checked has a key
        self.before_keys.extend((_KIND_OF[code], key) for key in keys)

    # --- one operation each: arguments before the writes, arguments of the writes ---------------

    def _read_key(self, kind: port.Kind, key: str, key_class: str) -> None:
        if key_class != "h":
            self.before_keys.append((kind, key))

    def _write_key(self, kind: port.Kind, key: str, key_class: str) -> None:
        if key_class != "h":
            self.after_keys.append((kind, key))

    def _read_field(self, op: Any, key_class: str) -> None:
        self._read_key("map", op.key, key_class)
        if key_class == "h":
            self.head_fields.append(op.field)
        self.before.append(op.field)

    def _read_fields(self, key: str, fields: Any, key_class: str) -> None:
        self._read_key("map", key, key_class)
        if key_class == "h":
            self.head_fields.extend(fields)
        self.before.append(str(len(fields)))
        self.before.extend(fields)

    def exists(self, op: port.RequireExists, key_class: str) -> None:
        self._read_key("map", op.key, key_class)
        self.before.append("1" if op.exists else "0")

    def equals(self, op: port.RequireEquals, key_class: str) -> None:
        self._read_field(op, key_class)
        self.before.extend(("0", "") if op.value is None else ("1", op.value))

    def at_most(self, op: port.RequireAtMost, key_class: str) -> None:
        self._read_field(op, key_class)
        if type(op.limit) is port.Now:
            self.before.extend(("n", str(op.limit.plus)))
        else:
            limit = op.limit if type(op.limit) is port.Arg else str(op.limit)
            self.before.extend(("l", limit))

    def fields(self, op: port.RequireFields, key_class: str) -> None:
        self._read_fields(op.key, op.fields, key_class)

    def before_time(self, op: port.RequireBefore, key_class: str) -> None:
        self.before.append(op.time if type(op.time) is port.Arg else str(op.time))

    def get(self, op: port.Get, key_class: str) -> None:
        if op.fields is None:
            self._read_key("map", op.key, key_class)
        else:
            self._read_fields(op.key, op.fields, key_class)

    def clock(self, op: port.Clock, key_class: str) -> None:
        pass

    def put(self, op: port.Put, key_class: str) -> None:
        if op.if_absent:
            self._read_fields(op.key, op.fields, key_class)
            self.before.append(op.if_absent[0])
        self._write_key("map", op.key, key_class)
        self.after.append(str(len(op.fields)))
        if _is_special(op):
            for name, value in op.fields.items():
                self.after.append(name)
                self.after.extend(_special(name, value))
        else:
            for name, value in op.fields.items():
                self.after.extend((name, value))

    def extend(self, op: port.Extend, key_class: str) -> None:
        self._read_fields(op.key, op.fields, key_class)
        self.before.extend(op.fields.values())
        self._write_key("map", op.key, key_class)
        self.after.extend(op.fields)

    def incr(self, op: port.Incr, key_class: str) -> None:
        self._read_fields(op.key, op.deltas, key_class)
        self.before.extend(d if type(d) is port.Arg else str(d) for d in op.deltas.values())
        self._write_key("map", op.key, key_class)
        self.after.extend(op.deltas)

    def append(self, op: port.Append, key_class: str) -> None:
        self._write_key("log", op.key, key_class)
        self.after.extend(
            (
                str(self.logs[op.key].slot),
                str(len(op.items)),
                op.key,
                "" if op.first is None else str(op.first),
                str(op.epoch),
            )
        )
        if op.stamps:
            self.after.append(str(len(op.stamps)))
            for stamp in op.stamps:
                self.after.extend(_special("", stamp))
        self.after.extend(op.items)

    def trim(self, op: port.Trim, key_class: str) -> None:
        self._write_key("log", op.key, key_class)
        bound = ("k", str(op.keep)) if op.keep is not None else ("b", str(op.before))
        self.after.extend((str(self.logs[op.key].slot), op.key, *bound))

    def truncate(self, op: port.Truncate, key_class: str) -> None:
        self._write_key("log", op.key, key_class)
        self.after.extend((str(self.logs[op.key].slot), op.key, str(op.start)))

    def redact(self, op: port.Redact, key_class: str) -> None:
        self._write_key("log", op.key, key_class)
        sequences = [str(sequence) for sequence in dict.fromkeys(op.sequences)]
        self.after.extend(
            (str(self.logs[op.key].slot), op.key, op.item, str(len(sequences)), *sequences)
        )

    def delete(self, op: port.Delete, key_class: str) -> None:
        self._write_key(op.kind, op.key, key_class)
        if op.fields is not None:
            self.after.append(str(len(op.fields)))
            self.after.extend(op.fields)
        elif op.kind == "log":
            self.after.append(op.key)

    def index_put(self, op: port.IndexPut, key_class: str) -> None:
        self._write_key("index", op.key, key_class)
        self.after.extend((str(len(op.entries)), "1" if op.greater else "0"))
        for member, score in op.entries.items():
            self.after.append(member)
            self.after.extend(("l", str(score)) if type(score) is int else _special("", score))

    def index_delete(self, op: port.IndexDelete, key_class: str) -> None:
        self._write_key("index", op.key, key_class)
        score = "" if op.at_most is None else str(op.at_most)
        self.after.extend((str(len(op.members)), score, *op.members))

    def expire(self, op: port.Expire, key_class: str) -> None:
        ttl = "" if op.ttl is None else op.ttl if type(op.ttl) is port.Arg else str(op.ttl)
        self.after.extend((ttl, str(len(op.keys))))
        self.after_keys.extend(op.keys)


def _marks(key: str) -> tuple[str, str]:
    return f"~b{key}", f"~e{key}"


def _special(name: str, value: Any) -> tuple[str, Any]:
    kind = type(value)
    if kind is port.Now:
        return "n", str(value.plus)
    if kind is port.NewIncarnation:
        return "i", ""
    if kind is port.Incarnation:
        return "s", ""
    if kind is port.Result:
        return "r", f"{value.operation} {value.item}"
    return ("c", value) if name == "~i" else ("l", value)


def _is_special(op: port.Put) -> bool:
    return "~i" in op.fields or any(
        type(value) not in (bytes, port.Arg) for value in op.fields.values()
    )


def _class(key: str) -> str:
    if key == "":
        return "h"
    return "b" if key[0] == "_" else "g"


def _code(op: port.Op) -> tuple[str, str]:
    match op:
        case port.Put():
            code = "puts" if _is_special(op) else "put"
            return code + ("?" if op.if_absent else ""), _class(op.key)
        case port.Append():
            return ("appends" if op.stamps else "append"), _class(op.key)
        case port.Get():
            return ("getall" if op.fields is None else "get"), _class(op.key)
        case port.Delete():
            return _delete_code(op), _class(op.key)
    key = getattr(op, "key", None)
    return _CODES[type(op)], "" if key is None else _class(key)


def _delete_code(op: port.Delete) -> str:
    if op.fields is not None:
        return "hdel"
    return "unlinklog" if op.kind == "log" else "unlink"


def _writes_group(op: port.Op) -> bool:
    # A write without a key is the group's expiry.
    return type(op) in port.WRITES and _class(getattr(op, "key", "")) != "b"


_CODES: dict[type, str] = {
    port.RequireExists: "exists",
    port.RequireEquals: "equals",
    port.RequireAtMost: "atmost",
    port.RequireFields: "fields",
    port.RequireBefore: "before",
    port.Clock: "clock",
    port.Extend: "extend",
    port.Incr: "incr",
    port.Trim: "trim",
    port.Truncate: "truncate",
    port.Redact: "redact",
    port.IndexPut: "zadd",
    port.IndexDelete: "zrem",
    port.Expire: "expire",
}
_KIND_OF: dict[str, port.Kind] = {
    "put": "map",
    "puts": "map",
    "hdel": "map",
    "append": "log",
    "appends": "log",
    "trim": "log",
    "truncate": "log",
    "redact": "log",
    "zadd": "index",
    "zrem": "index",
}
_CHECKED = frozenset(_KIND_OF)
# The first write of a script needs no check of its type: when it fails, nothing was written.
_SELF_CHECKING = frozenset({"put", "puts", "append", "appends", "zadd", "zrem", "hdel"})
_LOOKS_WHEN_ALIVE = frozenset({"put?", "puts?", "extend", "incr"})
_READS_HEAD = frozenset({"extend", "incr"})
_UNCHECKED = _LOOKS_WHEN_ALIVE | {"unlink", "unlinklog", "hdel", "expire"}
_ENCODERS: dict[type, Any] = {
    port.RequireExists: _Encoder.exists,
    port.RequireEquals: _Encoder.equals,
    port.RequireAtMost: _Encoder.at_most,
    port.RequireFields: _Encoder.fields,
    port.RequireBefore: _Encoder.before_time,
    port.Get: _Encoder.get,
    port.Clock: _Encoder.clock,
    port.Put: _Encoder.put,
    port.Extend: _Encoder.extend,
    port.Incr: _Encoder.incr,
    port.Append: _Encoder.append,
    port.Trim: _Encoder.trim,
    port.Truncate: _Encoder.truncate,
    port.Redact: _Encoder.redact,
    port.Delete: _Encoder.delete,
    port.IndexPut: _Encoder.index_put,
    port.IndexDelete: _Encoder.index_delete,
    port.Expire: _Encoder.expire,
}
