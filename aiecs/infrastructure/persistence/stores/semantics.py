"""What a batch means, written once for the stores that run it in this process.

`execute` needs a `State`: plain reads and writes of maps, logs and indexes. Everything else
(guards before writes, logical expiry, receipts, stamps, sequences) is here. The Redis store says
the same in Lua; the differential test holds the two together.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from aiecs.core.interface import store as port
from aiecs.core.interface.batch_rules import creates_group, is_mutating, parse_integer

_RECEIPT_FIELD = "w:"


class State(Protocol):
    """The primitives that a store in this process brings; keys are complete and opaque."""

    def now(self) -> int: ...
    def map_fields(self, key: str, fields: Iterable[str]) -> list[bytes | None]: ...
    def map_all(self, key: str) -> dict[str, bytes]: ...
    def map_exists(self, key: str) -> bool: ...
    def map_put(self, key: str, fields: dict[str, bytes]) -> None: ...
    def map_remove(self, key: str, fields: Iterable[str]) -> int: ...
    def log_count(self, key: str) -> int: ...
    def log_append(self, key: str, first: int, items: list[bytes]) -> None: ...
    def log_read(self, key: str, start: int, stop: int) -> list[bytes]: ...
    def log_remove(self, key: str, start: int, stop: int) -> None: ...
    def log_set(self, key: str, sequence: int, item: bytes) -> None: ...
    def index_put(self, key: str, entries: dict[str, int], *, greater: bool) -> None: ...
    def index_range(self, key: str, op: port.IndexRange) -> list[tuple[str, int]]: ...
    def index_count(self, key: str, low: int | None, high: int | None) -> int: ...
    def index_scores(self, key: str, members: Iterable[str]) -> list[int | None]: ...
    def index_remove(self, key: str, members: Iterable[str]) -> int: ...
    def drop(self, kind: port.Kind, key: str) -> bool: ...


def execute(state: State, batch: port.Batch) -> list[Any] | None:
    """Apply a checked batch; None when its receipt had been seen before."""
    return _Run(state, batch).run()


class _Run:
    def __init__(self, state: State, batch: port.Batch) -> None:
        self.state = state
        self.batch = batch
        self.now = state.now()
        self.bucket_head = str(batch.bucket)
        self.head = f"{batch.bucket}/{batch.group}"
        self.results: list[Any] = [None] * len(batch.ops)
        self.incarnation = b""
        self.exists = False
        self.expired = False

    def run(self) -> list[Any] | None:
        ops = self.batch.ops
        mutating = is_mutating(ops)
        if mutating and self._seen_receipt():
            return None
        if self.batch.group:
            self._load_head()
        try:
            self._prepare(mutating)
        except (port.GuardFailed, port.CorruptField):
            self._remember_receipt(failed=True)
            raise
        for number, op in enumerate(ops):
            write = _WRITERS.get(type(op))
            if write is not None:
                self.results[number] = write(self, op, number)
        if mutating:
            self._remember_receipt(failed=False)
        return self.results

    # --- before the writes ----------------------------------------------------------------------

    def _load_head(self) -> None:
        incarnation, expires = self.state.map_fields(self.head, ("~i", "~x"))
        self.incarnation = incarnation or b""
        self.exists = incarnation is not None
        if self.exists and expires is not None and not self.batch.raw:
            self.expired = int(expires) <= self.now

    @property
    def alive(self) -> bool:
        return self.exists and not self.expired

    def _prepare(self, mutating: bool) -> None:
        ops = self.batch.ops
        if mutating and self.batch.group and not self.alive and self._writes_group():
            if not creates_group(ops):
                raise port.GroupMissing
            if self.expired:
                raise port.GroupExpired
        for number, op in enumerate(ops):
            prepare = _PREPARERS.get(type(op))
            if prepare is not None:
                self.results[number] = prepare(self, op, number)

    def _writes_group(self) -> bool:
        return any(
            type(op) is port.Expire
            or (type(op) in _WRITERS and not getattr(op, "key", "_").startswith("_"))
            for op in self.batch.ops
        )

    def _seen_receipt(self) -> bool:
        receipt = self.batch.receipt
        if receipt is None:
            return False
        field = _RECEIPT_FIELD + receipt.writer
        last, failures = self.state.map_fields(self.bucket_head, (field, field + "!"))
        if last is None or receipt.n > int(last):
            return False
        if failures and str(receipt.n).encode() in failures.split(b","):
            raise port.GuardFailed(-2)
        return True

    def _remember_receipt(self, *, failed: bool) -> None:
        receipt = self.batch.receipt
        if receipt is None:
            return
        field = _RECEIPT_FIELD + receipt.writer
        entry = {field: b"%d" % receipt.n}
        if failed:
            (failures,) = self.state.map_fields(self.bucket_head, (field + "!",))
            kept = failures.split(b",")[-31:] if failures else []
            entry[field + "!"] = b",".join([*kept, b"%d" % receipt.n])
        self.state.map_put(self.bucket_head, entry)

    def _absent(self, key: str) -> bool:
        return not self.alive and not key.startswith("_")

    def _key(self, key: str) -> str:
        if key == "":
            return self.head
        if key[0] == "_":
            return self.bucket_head + key
        return f"{self.head}/{key}"

    def _fields(self, key: str, fields: Iterable[str]) -> list[bytes | None]:
        if self._absent(key):
            return [None for _ in fields]
        return self.state.map_fields(self._key(key), fields)

    def _get(self, op: port.Get, number: int) -> Any:
        if op.fields is not None:
            return self._fields(op.key, op.fields)
        if self._absent(op.key):
            return {}
        found = self.state.map_all(self._key(op.key))
        return {name: found[name] for name in found if name[0] != "~" or name in ("~i", "~x")}

    def _clock(self, op: port.Clock, number: int) -> int:
        return self.now

    def _require_exists(self, op: port.RequireExists, number: int) -> None:
        exists = not self._absent(op.key) and self.state.map_exists(self._key(op.key))
        if exists != op.exists:
            raise port.GuardFailed(number)

    def _require_equals(self, op: port.RequireEquals, number: int) -> None:
        (found,) = self._fields(op.key, (op.field,))
        if found != op.value:
            raise port.GuardFailed(number, found)

    def _require_at_most(self, op: port.RequireAtMost, number: int) -> None:
        (found,) = self._fields(op.key, (op.field,))
        if found is None:
            raise port.GuardFailed(number)
        value = parse_integer(found)
        if value is None:
            raise port.CorruptField(number)
        limit = self.now + op.limit.plus if type(op.limit) is port.Now else op.limit
        if value > limit:
            raise port.GuardFailed(number, found)

    def _require_fields(self, op: port.RequireFields, number: int) -> None:
        found = self._fields(op.key, op.fields)
        missing = [name for name, value in zip(op.fields, found, strict=True) if value is None]
        if missing:
            raise port.GuardFailed(number, missing)

    def _require_before(self, op: port.RequireBefore, number: int) -> None:
        if self.now > op.time:
            raise port.GuardFailed(number, self.now)

    def _prepare_put(self, op: port.Put, number: int) -> bool:
        if not op.if_absent:
            return True
        for found in self._fields(op.key, op.fields):
            if found is not None:
                if op.if_absent == "abort":
                    raise port.GuardFailed(number, found)
                return False
        return True

    def _prepare_incr(self, op: port.Incr, number: int) -> list[int]:
        values = []
        found = self._fields(op.key, op.deltas)
        for old, delta in zip(found, op.deltas.values(), strict=True):
            before = 0 if old is None else parse_integer(old)
            if before is None:
                raise port.CorruptField(number)
            if abs(before + delta) > port.MAX_INTEGER:
                raise port.GuardFailed(number, old)
            values.append(before + delta)
        return values

    def _prepare_log(self, op: Any, number: int) -> None:
        base, epoch = self._log_marks(op.key)
        if (base and parse_integer(base) is None) or (epoch and parse_integer(epoch) is None):
            raise port.CorruptField(number)

    # --- logs -----------------------------------------------------------------------------------

    def _log_head(self, key: str) -> str:
        return self.bucket_head if key[0] == "_" else self.head

    def _log_marks(self, key: str) -> list[bytes | None]:
        if self._absent(key):
            return [None, None]
        return self.state.map_fields(self._log_head(key), (f"~b{key}", f"~e{key}"))

    def _epoch(self, key: str, epoch: bytes | None) -> str:
        incarnation = "0" if key[0] == "_" else self.incarnation.decode()
        return f"{incarnation}.{(epoch or b'0').decode()}"

    def _read(self, op: port.Read, number: int) -> port.LogSlice:
        mark, epoch = self._log_marks(op.key)
        if mark is None:
            return port.LogSlice("", 0, 0, 0, [])
        base = parse_integer(mark)
        if base is None:
            raise port.CorruptField(number)
        key = self._key(op.key)
        end = base + self.state.log_count(key)
        low = max(base, base if op.start is None else op.start)
        high = min(end, end if op.stop is None else op.stop)
        if op.limit and high - low > op.limit:
            low, high = (high - op.limit, high) if op.newest else (low, low + op.limit)
        items = self.state.log_read(key, low, high) if high > low else []
        return port.LogSlice(self._epoch(op.key, epoch), base, end, low if items else end, items)

    def _append(self, op: port.Append, number: int) -> int:
        key = self._key(op.key)
        mark, _ = self._log_marks_now(op.key)
        if mark is None:
            base = self.now if op.first is None else op.first
            fields = {f"~b{op.key}": b"%d" % base}
            if op.epoch:
                fields[f"~e{op.key}"] = b"%d" % op.epoch
            self.state.map_put(self._log_head(op.key), fields)
        else:
            base = int(mark)
        first = base + self.state.log_count(key)
        front = b" ".join(map(self._stamp, op.stamps)) + b"\n" if op.stamps else b""
        self.state.log_append(key, first, [front + item for item in op.items])
        return first

    def _log_marks_now(self, key: str) -> list[bytes | None]:
        return self.state.map_fields(self._log_head(key), (f"~b{key}", f"~e{key}"))

    def _stamp(self, stamp: port.Stamp) -> bytes:
        if type(stamp) is port.Incarnation:
            return self.incarnation
        return self._value(stamp)

    def _trim(self, op: port.Trim, number: int) -> int:
        key = self._key(op.key)
        mark, _ = self._log_marks_now(op.key)
        if mark is None:
            return 0
        base = int(mark)
        count = self.state.log_count(key)
        wanted = count - op.keep if op.keep is not None else (op.before or 0) - base
        removed = max(0, min(count, wanted))
        if removed:
            self.state.log_remove(key, base, base + removed)
            self.state.map_put(self._log_head(op.key), {f"~b{op.key}": b"%d" % (base + removed)})
        return removed

    def _truncate(self, op: port.Truncate, number: int) -> int:
        key = self._key(op.key)
        mark, epoch = self._log_marks_now(op.key)
        if mark is None:
            return 0
        base = int(mark)
        end = base + self.state.log_count(key)
        start = max(base, op.start)
        if start >= end:
            return 0
        self.state.log_remove(key, start, end)
        self._next_epoch(op.key, epoch)
        return end - start

    def _redact(self, op: port.Redact, number: int) -> int:
        key = self._key(op.key)
        mark, epoch = self._log_marks_now(op.key)
        if mark is None:
            return 0
        base = int(mark)
        end = base + self.state.log_count(key)
        present = [sequence for sequence in set(op.sequences) if base <= sequence < end]
        for sequence in present:
            self.state.log_set(key, sequence, op.item)
        if present:
            self._next_epoch(op.key, epoch)
        return len(present)

    def _next_epoch(self, key: str, epoch: bytes | None) -> None:
        self.state.map_put(self._log_head(key), {f"~e{key}": b"%d" % (int(epoch or 0) + 1)})

    # --- maps and indexes -----------------------------------------------------------------------

    def _value(self, value: Any) -> bytes:
        kind = type(value)
        if kind is bytes:
            return value  # type: ignore[no-any-return]  # the type was just tested
        if kind is port.Result:
            return b"%d" % self._result(value)
        if kind is port.NewIncarnation:
            return b"%016d%s" % (self.now, secrets.token_hex(2).encode())
        return b"%d" % (self.now + value.plus)

    def _result(self, value: port.Result) -> int:
        result = self.results[value.operation]
        return int(result[value.item]) if type(result) is list else int(result) + value.item

    def _put(self, op: port.Put, number: int) -> bool:
        if not self.results[number]:
            return False
        fields = {name: self._value(value) for name, value in op.fields.items()}
        if op.key == "" and "~i" in fields:
            self.incarnation = fields["~i"]
            self.exists = True
        self.state.map_put(self._key(op.key), fields)
        return True

    def _incr(self, op: port.Incr, number: int) -> list[int]:
        values: list[int] = self.results[number]
        fields = {name: b"%d" % value for name, value in zip(op.deltas, values, strict=True)}
        self.state.map_put(self._key(op.key), fields)
        return values

    def _delete(self, op: port.Delete, number: int) -> int:
        key = self._key(op.key)
        if op.fields is not None:
            return self.state.map_remove(key, op.fields)
        existed = self.state.drop(op.kind, key)
        if op.kind == "log":
            marks = (f"~b{op.key}", f"~e{op.key}")
            self.state.map_remove(self._log_head(op.key), marks)
        return int(existed)

    def _expire(self, op: port.Expire, number: int) -> None:
        if op.ttl is None:
            self.state.map_remove(self.head, ("~x",))
        else:
            self.state.map_put(self.head, {"~x": b"%d" % (self.now + op.ttl)})

    def _index_put(self, op: port.IndexPut, number: int) -> bool:
        entries = {
            member: score if type(score) is int else int(self._value(score))
            for member, score in op.entries.items()
        }
        self.state.index_put(self._key(op.key), entries, greater=op.greater)
        return True

    def _index_delete(self, op: port.IndexDelete, number: int) -> int:
        key = self._key(op.key)
        members = op.members
        if op.if_score is not None:
            scores = self.state.index_scores(key, members)
            members = tuple(
                member
                for member, score in zip(members, scores, strict=True)
                if score == op.if_score
            )
        return self.state.index_remove(key, members)

    def _index_range(self, op: port.IndexRange, number: int) -> list[tuple[str, int]]:
        return [] if self._absent(op.key) else self.state.index_range(self._key(op.key), op)

    def _index_count(self, op: port.IndexCount, number: int) -> int:
        if self._absent(op.key):
            return 0
        return self.state.index_count(self._key(op.key), op.low, op.high)


_PREPARERS: dict[type, Callable[..., Any]] = {
    port.Get: _Run._get,
    port.Clock: _Run._clock,
    port.Read: _Run._read,
    port.IndexRange: _Run._index_range,
    port.IndexCount: _Run._index_count,
    port.RequireExists: _Run._require_exists,
    port.RequireEquals: _Run._require_equals,
    port.RequireAtMost: _Run._require_at_most,
    port.RequireFields: _Run._require_fields,
    port.RequireBefore: _Run._require_before,
    port.Put: _Run._prepare_put,
    port.Incr: _Run._prepare_incr,
    port.Append: _Run._prepare_log,
    port.Trim: _Run._prepare_log,
    port.Truncate: _Run._prepare_log,
    port.Redact: _Run._prepare_log,
}
_WRITERS: dict[type, Callable[..., Any]] = {
    port.Put: _Run._put,
    port.Incr: _Run._incr,
    port.Delete: _Run._delete,
    port.Append: _Run._append,
    port.Trim: _Run._trim,
    port.Truncate: _Run._truncate,
    port.Redact: _Run._redact,
    port.IndexPut: _Run._index_put,
    port.IndexDelete: _Run._index_delete,
    port.Expire: _Run._expire,
}
