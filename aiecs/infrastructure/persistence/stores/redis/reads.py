"""Read-only batches: plain commands in one flush, no script, nothing bulky through Lua."""

from __future__ import annotations

from collections.abc import Callable
from math import copysign, isfinite
from typing import Any

from aiecs.core.interface import store as port
from aiecs.core.interface.value_rules import parse_integer
from aiecs.infrastructure.persistence.stores.redis import gathering
from aiecs.infrastructure.persistence.stores.redis.layout import Layout
from aiecs.infrastructure.persistence.stores.redis.log_window import Command, LogWindow
from aiecs.infrastructure.persistence.stores.redis.replies import error_of, text_map

_TIES = 64
_MOST_FIELDS = 2_000  # a script, which may have to send the command, takes some 8,000 words
_AGAIN = object()
_NO_LOG = port.LogSlice("", 0, 0, 0, [])
_IN_ONE = """local r,p={},1
while p<=#ARGV do local n=tonumber(ARGV[p])
r[#r+1]=redis.pcall(unpack(ARGV,p+1,p+n)) p=p+n+1 end
return r"""


def in_one(commands: list[Command]) -> Command:
    """One script call that does what a transaction of the commands does."""
    keys = [command[1] for command in commands if len(command) > 1]
    words = [word for command in commands for word in (len(command), *command)]
    return ("EVAL", _IN_ONE, len(keys), *keys, *words)


class ReadShape:
    """What the operations of a batch need beside their own commands: known before their values.

    The head of the group comes in one command, for the batch itself and for all operations that
    read it; the server's clock only where something depends on it.
    """

    __slots__ = ("bucket_marks", "group", "head_fields", "raw", "scripted", "timed", "whole_head")

    def __init__(self, ops: tuple[port.Op, ...], *, raw: bool) -> None:
        self.raw = raw
        #: A replica would send a script on to its primary.
        self.scripted = any(type(op) is port.Gather for op in ops)
        self.group = any(map(_names_group, ops))
        self.timed = (self.group and not raw) or any(map(_names_time, ops))
        self.bucket_marks = _marks(ops, own=True)
        fields = ["~i", "~x", *_marks(ops, own=False)]
        for op in ops:
            if getattr(op, "key", None) == "":
                fields.extend(_fields_of(op))
        self.head_fields = tuple(dict.fromkeys(fields))
        whole = any(type(op) is port.Get and op == port.Get("") for op in ops)
        self.whole_head = whole or len(self.head_fields) > _MOST_FIELDS


def _names_group(op: port.Op) -> bool:
    key = getattr(op, "key", None)
    return key is not None and key[:1] != "_"


def _names_time(op: port.Op) -> bool:
    if type(op) is port.RequireAtMost:
        return type(op.limit) is port.Now
    return type(op) in (port.Clock, port.RequireBefore)


def _marks(ops: tuple[port.Op, ...], *, own: bool) -> tuple[str, ...]:
    keys = [op.key for op in ops if type(op) is port.Read and (op.key[0] == "_") == own]
    return tuple(mark for key in dict.fromkeys(keys) for mark in (f"~b{key}", f"~e{key}"))


def _fields_of(op: port.Op) -> tuple[str, ...]:
    match op:
        case port.Get(_, fields) | port.RequireFields(_, fields):
            return tuple(fields or ())
        case port.RequireEquals(_, field, _) | port.RequireAtMost(_, field, _):
            return (field,)
    return ()


class Exchange:
    """One batch on its way: `commands` for a flush, `results` from their replies."""

    __slots__ = (
        "_alive", "_asked", "_beyond", "_bucket", "_group", "_head", "_layout", "_marks", "_now",
        "_ops", "_shape", "_windows",
    )  # fmt: skip

    def __init__(
        self, layout: Layout, shape: ReadShape, bucket: int, group: str, ops: tuple[port.Op, ...]
    ) -> None:
        self._layout = layout
        self._shape = shape
        self._bucket = bucket
        self._group = group
        self._ops = ops
        self._windows = {n: LogWindow(op) for n, op in enumerate(ops) if type(op) is port.Read}
        self._beyond: dict[int, int] = {}
        self._asked: list[int] = []
        self._now = 0
        self._alive = False
        self._head: dict[str, bytes | None] = {}
        self._marks: dict[str, bytes | None] = {}

    # --- what to ask ----------------------------------------------------------------------------

    def commands(self) -> list[Command]:
        """The commands of this round; they are to be answered at one moment."""
        shape = self._shape
        commands: list[Command] = [("TIME",)] if shape.timed else []
        if shape.group:
            head = self._key("map", "")
            whole = ("HGETALL", head)
            commands.append(whole if shape.whole_head else ("HMGET", head, *shape.head_fields))
        if shape.bucket_marks:
            commands.append(("HMGET", self._layout.heads[self._bucket], *shape.bucket_marks))
        self._asked = []
        for number, op in enumerate(self._ops):
            ask = _ASK.get(type(op))
            own = [] if ask is None or getattr(op, "key", "") == "" else ask(self, number, op)
            self._asked.append(len(own))
            commands.extend(own)
        return commands

    def _key(self, kind: port.Kind, key: str) -> str:
        return self._layout.key(self._bucket, self._group, kind, key)

    def ask_fields(self, _: int, op: Any) -> list[Command]:
        """Fields of a map that is not the head."""
        fields = _fields_of(op)
        return [("HMGET", self._key("map", op.key), *fields)]

    def ask_get(self, number: int, op: port.Get) -> list[Command]:
        """`Get`."""
        if op.fields is None:
            return [("HGETALL", self._key("map", op.key))]
        return self.ask_fields(number, op)

    def ask_exists(self, _: int, op: port.RequireExists) -> list[Command]:
        """`RequireExists`."""
        return [("EXISTS", self._key("map", op.key))]

    def ask_log(self, number: int, op: port.Read) -> list[Command]:
        """`Read`."""
        return self._windows[number].ask(self._key("log", op.key))

    def ask_count(self, _: int, op: port.IndexCount) -> list[Command]:
        """`IndexCount`."""
        low, high = op.low, op.high
        bounds = ("-inf" if low is None else low, "+inf" if high is None else high)
        return [("ZCOUNT", self._key("index", op.key), *bounds)]

    def ask_range(self, number: int, op: port.IndexRange) -> list[Command]:
        """`IndexRange`."""
        key = self._key("index", op.key)
        reverse = ("REV",) if op.reverse else ()
        if op.prefix is not None:
            after = None if op.cursor is None else op.cursor[0]
            low, high = gathering.lex_bounds(op.prefix, after, reverse=op.reverse)
            edges = (high, low) if op.reverse else (low, high)
            return [("ZRANGE", key, *edges, "BYLEX", *reverse, "LIMIT", 0, op.limit)]
        low_score: Any = "-inf" if op.low is None else op.low
        high_score: Any = "+inf" if op.high is None else op.high
        if op.cursor is not None and op.reverse:
            high_score = op.cursor[1] if op.high is None else min(op.high, op.cursor[1])
        elif op.cursor is not None:
            low_score = op.cursor[1] if op.low is None else max(op.low, op.cursor[1])
        bounds = (high_score, low_score) if op.reverse else (low_score, high_score)
        page = ("LIMIT", 0, self._count(number, op), "WITHSCORES")
        return [("ZRANGE", key, *bounds, "BYSCORE", *reverse, *page)]

    def ask_gather(self, _: int, op: port.Gather) -> list[Command]:
        """`Gather`."""
        return [gathering.command_of(self._layout, self._bucket, self._group, op)]

    def _count(self, number: int, op: port.IndexRange) -> int:
        """How many to ask for: those of the cursor's score may lie on either side of it."""
        return op.limit + (self._beyond.setdefault(number, _TIES) if op.cursor is not None else 0)

    # --- what came back -------------------------------------------------------------------------

    def results(self, replies: list[Any]) -> list[Any] | None:
        """The results, or None when another flush is needed."""
        shape = self._shape
        at = 0
        if shape.timed:
            seconds, micros = _sound(replies[0], -1)
            self._now = int(seconds) * 1_000_000 + int(micros)
            at = 1
        if shape.group:
            self._take_head(_sound(replies[at], -1))
            at += 1
        if shape.bucket_marks:
            self._marks = dict(zip(shape.bucket_marks, _sound(replies[at], -1), strict=True))
            at += 1
        results: list[Any] = []
        for number, op in enumerate(self._ops):
            own = replies[at : at + self._asked[number]]
            at += len(own)
            for reply in own:
                _sound(reply, number)
            results.append(_TAKE[type(op)](self, number, op, own))
        return None if _AGAIN in results else results

    def _take_head(self, reply: list[Any]) -> None:
        if self._shape.whole_head:
            names = [name.decode(errors="replace") for name in reply[::2]]
            self._head = dict(zip(names, reply[1::2], strict=True))
        else:
            self._head = dict(zip(self._shape.head_fields, reply, strict=True))
        head = self._head
        expires = head.get("~x")
        self._alive = head.get("~i") is not None and (
            self._shape.raw or expires is None or self._is_ahead(expires)
        )

    def _is_ahead(self, expires: bytes) -> bool:
        time = parse_integer(expires)
        if time is None:
            raise port.CorruptField(-1)
        return time > self._now

    def _here(self, key: str) -> bool:
        return self._alive or key[:1] == "_"

    def _values(self, op: Any, own: list[Any]) -> list[bytes | None]:
        """The fields that an operation names, out of the head or of a map."""
        fields = _fields_of(op)
        if not self._here(op.key):
            return [None] * len(fields)
        return list(map(self._head.get, fields)) if op.key == "" else own[0]

    def take_get(self, _: int, op: port.Get, own: list[Any]) -> Any:
        """`Get`."""
        if op.fields is not None:
            return self._values(op, own)
        if not self._here(op.key):
            return {}
        if op.key == "":
            head = self._head.items()
            return {n: value for n, value in head if n[:1] != "~" or n in ("~i", "~x")}
        return text_map(own[0])

    def take_clock(self, *_: Any) -> int:
        """`Clock`."""
        return self._now

    def take_log(self, number: int, op: port.Read, own: list[Any]) -> Any:
        """`Read`."""
        own_log = op.key[0] == "_"
        if not own_log and not self._alive:
            return _NO_LOG
        marks = self._marks if own_log else self._head
        mark = marks.get(f"~b{op.key}")
        if mark is None:
            return _NO_LOG
        base = parse_integer(mark)
        if base is None:
            raise port.CorruptField(number)
        incarnation = b"0" if own_log else self._head["~i"] or b""
        epoch = b"%b.%b" % (incarnation, marks.get(f"~e{op.key}") or b"0")
        found = self._windows[number].take(base, epoch.decode(errors="replace"), own)
        return _AGAIN if found is None else found

    def take_count(self, _: int, op: port.IndexCount, own: list[Any]) -> int:
        """`IndexCount`."""
        return own[0] if self._here(op.key) else 0

    def take_range(self, number: int, op: port.IndexRange, own: list[Any]) -> Any:
        """`IndexRange`."""
        if not self._here(op.key):
            return []
        reply = own[0]
        if op.prefix is not None:
            return [(member.decode(), 0) for member in reply]
        pairs = [
            (member.decode(), _score(score))
            for member, score in zip(reply[::2], reply[1::2], strict=True)
        ]
        kept = [pair for pair in pairs if _beyond(op, pair)][: op.limit]
        if len(kept) == op.limit or len(pairs) < self._count(number, op):
            return kept
        # Many of the same score: all again and more, so that one moment's state is seen.
        self._beyond[number] *= 4
        return _AGAIN

    def take_gather(self, _: int, op: port.Gather, own: list[Any]) -> port.Gathered:
        """`Gather`."""
        return gathering.gathered(op, own[0]) if self._alive else gathering.nothing(op)

    # --- guards ---------------------------------------------------------------------------------

    def take_exists(self, number: int, op: port.RequireExists, own: list[Any]) -> None:
        """`RequireExists`."""
        there = self._here(op.key) and (op.key == "" or bool(own[0]))
        if there != op.exists:
            raise port.GuardFailed(number)

    def take_equals(self, number: int, op: port.RequireEquals, own: list[Any]) -> None:
        """`RequireEquals`."""
        (found,) = self._values(op, own)
        if found != op.value:
            raise port.GuardFailed(number, found)

    def take_at_most(self, number: int, op: port.RequireAtMost, own: list[Any]) -> None:
        """`RequireAtMost`."""
        (found,) = self._values(op, own)
        if found is None:
            raise port.GuardFailed(number)
        value = parse_integer(found)
        if value is None:
            raise port.CorruptField(number)
        limit = op.limit
        if value > (self._now + limit.plus if type(limit) is port.Now else limit):
            raise port.GuardFailed(number, found)

    def take_fields(self, number: int, op: port.RequireFields, own: list[Any]) -> None:
        """`RequireFields`."""
        found = zip(op.fields, self._values(op, own), strict=True)
        if missing := [name for name, value in found if value is None]:
            raise port.GuardFailed(number, missing)

    def take_before(self, number: int, op: port.RequireBefore, _: list[Any]) -> None:
        """`RequireBefore`."""
        if self._now > op.time:
            raise port.GuardFailed(number, self._now)


_ASK: dict[type, Callable[[Exchange, int, Any], list[Command]]] = {
    port.Get: Exchange.ask_get,
    port.Read: Exchange.ask_log,
    port.IndexRange: Exchange.ask_range,
    port.IndexCount: Exchange.ask_count,
    port.Gather: Exchange.ask_gather,
    port.RequireExists: Exchange.ask_exists,
    port.RequireEquals: Exchange.ask_fields,
    port.RequireAtMost: Exchange.ask_fields,
    port.RequireFields: Exchange.ask_fields,
}
_TAKE: dict[type, Callable[[Exchange, int, Any, list[Any]], Any]] = {
    port.Get: Exchange.take_get,
    port.Clock: Exchange.take_clock,
    port.Read: Exchange.take_log,
    port.IndexRange: Exchange.take_range,
    port.IndexCount: Exchange.take_count,
    port.Gather: Exchange.take_gather,
    port.RequireExists: Exchange.take_exists,
    port.RequireEquals: Exchange.take_equals,
    port.RequireAtMost: Exchange.take_at_most,
    port.RequireFields: Exchange.take_fields,
    port.RequireBefore: Exchange.take_before,
}


def _sound(reply: Any, number: int) -> Any:
    """The reply to operation `number`, unless it is an error."""
    if not isinstance(reply, Exception):
        return reply
    error = error_of(str(reply))
    raise port.CorruptField(number) if isinstance(error, port.CorruptField) else error


def _beyond(op: port.IndexRange, pair: tuple[str, int]) -> bool:
    if op.cursor is None:
        return True
    mark, here = (op.cursor[1], op.cursor[0]), (pair[1], pair[0])
    return here < mark if op.reverse else here > mark


def _score(reply: Any) -> int:
    """A score as the port has it; one that somebody has made infinite is the largest there is."""
    found = float(reply)
    return int(found) if isfinite(found) else round(copysign(port.MAX_INTEGER, found))
