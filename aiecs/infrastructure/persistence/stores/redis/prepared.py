"""A plan compiled once: its constants inside the script, its open values the only arguments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiecs.core.interface import store as port
from aiecs.core.interface.batch_rules import check, is_mutating
from aiecs.core.interface.calls import call_size
from aiecs.infrastructure.persistence.stores.redis.encode import encode
from aiecs.infrastructure.persistence.stores.redis.layout import KIND_LETTER, Layout
from aiecs.infrastructure.persistence.stores.redis.reads import ReadShape
from aiecs.infrastructure.persistence.stores.redis.replies import decoder_of
from aiecs.infrastructure.persistence.stores.redis.script import unrolled_source
from aiecs.infrastructure.persistence.stores.redis.scripts import Script, Scripts

_OWN_ARGUMENTS = 3  # the receipt
_KNOWN = 4_096
_OVERHEAD = 256
_SURELY_FITS = 1024 * 1024
_NUMBERS = (port.Expire, port.Incr, port.Read, port.RequireAtMost, port.RequireBefore)
_BYTES_ONLY = (port.Append, port.Put)


class Prepared:
    """How to make the command of one call of a plan."""

    __slots__ = (
        "_grouped", "_heads", "_known", "_only_bytes", "_opened", "_suffixes", "_template", "_told",
        "_unrolled", "random", "reads", "script",
    )  # fmt: skip

    def __init__(self, plan: port.Plan, layout: Layout, scripts: Scripts) -> None:
        self._grouped = any(map(_names_group, plan.ops))
        _check_plan(plan, grouped=self._grouped)
        self._heads = layout.heads
        self._known: dict[tuple[int, str], tuple[Any, ...]] = {}
        self._only_bytes = all(type(op) in _BYTES_ONLY for op in plan.ops if _has_open_value(op))
        self._opened = 0
        self._suffixes: tuple[tuple[bool, str, str], ...] = ()
        self.random = False
        known = dict(_known_results(plan))
        self._template = [known.get(number) for number in range(len(plan.ops))]
        self._told = tuple((n, decoder_of(op)) for n, op in enumerate(plan.ops) if n not in known)
        mutating = is_mutating(plan.ops)
        self.reads = None if mutating else ReadShape(plan.ops, raw=plan.raw)
        source = self._compile(plan) if mutating else None
        self._unrolled = source is not None
        self.script = Script("", "") if source is None else scripts.add(source)

    def _compile(self, plan: port.Plan) -> str | None:
        encoded = encode(plan.ops, group=self._grouped)
        self.random = encoded.shape.creates
        self._suffixes = tuple(
            (key[0] == "_", KIND_LETTER[kind], key) for kind, key in encoded.keys
        )
        opened = [value.position for value in encoded.arguments if type(value) is port.Arg]
        self._opened = len(set(opened))
        first = _OWN_ARGUMENTS + 1 + self.random
        cells = [_cell(value, first) for value in encoded.arguments]
        known = set(range(len(plan.ops))) - {number for number, _ in self._told}
        return unrolled_source(encoded.shape, encoded.arguments, cells, known=known, raw=plan.raw)

    def results(self, answer: list[Any]) -> list[Any]:
        """The results of all operations, from the script's {1, result, ...}."""
        results = self._template.copy()
        for position, (number, decode) in enumerate(self._told, 1):
            value = answer[position]
            results[number] = value if decode is None else decode(value)
        return results

    def size_of(self, call: port.Call) -> int:
        """The call's size in bytes; `InvalidInputError` when it breaks a rule of the port.

        -1 when it is to be applied as the batch that its plan binds.
        """
        place = (call.bucket, call.group)
        size = _OVERHEAD
        if place in self._known and self._only_bytes:
            for value in call.args:  # the place was good before, and only bytes are left open
                if type(value) is not bytes:
                    return self._checked(call)
                size += len(value)
            if size < _SURELY_FITS and len(call.args) == self._opened:
                return size
        return self._checked(call)

    def _checked(self, call: port.Call) -> int:
        size = call_size(call)
        return size if self._unrolled and None not in call.args else -1

    def front(self, bucket: int, group: str) -> tuple[Any, ...]:
        """EVALSHA, the script, the number of keys and the keys: all before the receipt."""
        found = self._known.get((bucket, group))
        if found is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            keys = self._keys(bucket, group)
            found = ("EVALSHA", self.script.sha, len(keys), *keys)
            self._known[bucket, group] = found
        return found

    def _keys(self, bucket: int, group: str) -> list[str]:
        head = self._heads[bucket]
        keys = [head, f"{head}h{group}"] if self._grouped else [head]
        for own, letter, key in self._suffixes:
            keys.append(f"{head}{letter}{key}" if own else f"{head}{letter}{group}/{key}")
        return keys


def _names_group(op: port.Op) -> bool:
    if type(op) is port.Append and port.INCARNATION in op.stamps:
        return True
    return type(op) is port.Expire or not getattr(op, "key", "_").startswith("_")


def _cell(value: Any, first: int) -> str:
    """An argument of the script as Lua: a literal, or that ARGV which an open value becomes."""
    if type(value) is port.Arg:
        return f"A[{first + value.position}]"
    return _literal(value)


def _literal(value: str | bytes) -> str:
    data = value if type(value) is bytes else str(value).encode()
    return '"' + "".join(f"\\{byte:03d}" if _odd(byte) else chr(byte) for byte in data) + '"'


def _odd(byte: int) -> bool:
    return byte < 32 or byte > 126 or byte in (34, 92)  # noqa: PLR2004 - printable ASCII, " and \


def _known_results(plan: port.Plan) -> Iterator[tuple[int, Any]]:
    """Results that are the same for every call that is applied."""
    for number, op in enumerate(plan.ops):
        if type(op) in (port.IndexPut, port.Extend) or (type(op) is port.Put and not op.if_absent):
            yield number, True
        elif type(op) in (port.Expire, *port.GUARDS):
            yield number, None


def _has_open_value(op: port.Op) -> bool:
    return port.Plan("", op).bind([None] * port.MAX_OPERATIONS) != (op,)


def _check_plan(plan: port.Plan, *, grouped: bool) -> None:
    """Hold a plan against the rules once, with an example in the place of each open value."""
    bound = tuple(_example(op) for op in plan.ops)
    check(port.Batch(0, "s:x" if grouped else "", bound, plan.raw))


def _example(op: port.Op) -> port.Op:
    number = type(op) in _NUMBERS
    (bound,) = port.Plan("", op).bind([1 if number else b""] * port.MAX_OPERATIONS)
    return bound
