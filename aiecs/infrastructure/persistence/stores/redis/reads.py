"""Read-only batches: plain commands in one flush, no script, nothing bulky through Lua."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from aiecs.core.interface import store as port
from aiecs.core.interface.batch_rules import parse_integer
from aiecs.infrastructure.persistence.stores.redis.layout import Layout
from aiecs.infrastructure.persistence.stores.redis.log_window import Command, LogWindow
from aiecs.infrastructure.persistence.stores.redis.replies import error_of, text_map

Exchange = Generator[list[Command], list[Any], list[Any]]

_TIES = 64
_IN_ONE = """local r,p={},1
while p<=#ARGV do local n=tonumber(ARGV[p])
r[#r+1]=redis.pcall(unpack(ARGV,p+1,p+n)) p=p+n+1 end
return r"""


def read(layout: Layout, batch: port.Batch) -> Exchange:
    """Yield lists of commands (one flush each), take their replies, return the results."""
    reader = _Reader(layout, batch)
    while True:
        replies = yield reader.commands()
        results = reader.results(replies)
        if results is not None:
            return results


def in_one(commands: list[Command]) -> Command:
    """One script call that does what a transaction of the commands does."""
    keys = [command[1] for command in commands if len(command) > 1]
    words = [word for command in commands for word in (len(command), *command)]
    return ("EVAL", _IN_ONE, len(keys), *keys, *words)


class _Reader:
    def __init__(self, layout: Layout, batch: port.Batch) -> None:
        self.layout = layout
        self.batch = batch
        self.windows = {
            number: LogWindow(op) for number, op in enumerate(batch.ops) if type(op) is port.Read
        }
        self.asked: list[int] = []
        self.beyond: dict[int, int] = {}

    # --- what to ask ----------------------------------------------------------------------------

    def commands(self) -> list[Command]:
        commands: list[Command] = [("TIME",)]
        if self.batch.group:
            commands.append(("HMGET", self._key("map", ""), "~i", "~x", *self._marks("g")))
        bucket_marks = self._marks("b")
        if bucket_marks:
            commands.append(("HMGET", self.layout.heads[self.batch.bucket], *bucket_marks))
        self.asked = []
        for number, op in enumerate(self.batch.ops):
            own = self._ask(number, op)
            self.asked.append(len(own))
            commands.extend(own)
        return commands

    def _key(self, kind: port.Kind, key: str) -> str:
        return self.layout.key(self.batch.bucket, self.batch.group, kind, key)

    def _marks(self, place: str) -> list[str]:
        keys = dict.fromkeys(
            op.key
            for op in self.batch.ops
            if type(op) is port.Read and (op.key[0] == "_") == (place == "b")
        )
        return [mark for key in keys for mark in (f"~b{key}", f"~e{key}")]

    def _ask(self, number: int, op: port.Op) -> list[Command]:  # noqa: PLR0911 - one per operation
        match op:
            case port.Get(key, None):
                return [("HGETALL", self._key("map", key))]
            case port.Get(key, fields):
                return [("HMGET", self._key("map", key), *(fields or ()))]
            case port.RequireExists(key, _):
                return [("EXISTS", self._key("map", key))]
            case port.RequireEquals(key, field, _) | port.RequireAtMost(key, field, _):
                return [("HGET", self._key("map", key), field)]
            case port.RequireFields(key, fields):
                return [("HMGET", self._key("map", key), *fields)]
            case port.Read():
                return self.windows[number].ask(self._key("log", op.key))
            case port.IndexRange():
                return [self._ask_range(number, op)]
            case port.IndexCount(key, low, high):
                bounds = ("-inf" if low is None else low, "+inf" if high is None else high)
                return [("ZCOUNT", self._key("index", key), *bounds)]
            case _:
                return []

    def _ask_range(self, number: int, op: port.IndexRange) -> Command:
        key = self._key("index", op.key)
        reverse = ("REV",) if op.reverse else ()
        if op.prefix is not None:
            low, high = _lex_bounds(op)
            edges = (high, low) if op.reverse else (low, high)
            return ("ZRANGE", key, *edges, "BYLEX", *reverse, "LIMIT", 0, op.limit)
        low_score: Any = "-inf" if op.low is None else op.low
        high_score: Any = "+inf" if op.high is None else op.high
        if op.cursor is not None and op.reverse:
            high_score = op.cursor[1] if op.high is None else min(op.high, op.cursor[1])
        elif op.cursor is not None:
            low_score = op.cursor[1] if op.low is None else max(op.low, op.cursor[1])
        bounds = (high_score, low_score) if op.reverse else (low_score, high_score)
        page = ("LIMIT", 0, self._count(number, op), "WITHSCORES")
        return ("ZRANGE", key, *bounds, "BYSCORE", *reverse, *page)

    def _count(self, number: int, op: port.IndexRange) -> int:
        """How many to ask for: those of the cursor's score may lie on either side of it."""
        return op.limit + (self.beyond.setdefault(number, _TIES) if op.cursor is not None else 0)

    # --- what came back -------------------------------------------------------------------------

    def results(self, replies: Sequence[Any]) -> list[Any] | None:
        """The results, or None when another flush is needed."""
        stream = iter(replies)
        seconds, micros = _sound(next(stream), -1)
        self.now = int(seconds) * 1_000_000 + int(micros)
        self.alive = False
        self.incarnation = ""
        marks: dict[str, bytes | None] = {}
        if self.batch.group:
            self._take_head(_sound(next(stream), -1), marks)
        if bucket_marks := self._marks("b"):
            marks.update(zip(bucket_marks, _sound(next(stream), -1), strict=True))
        self.marks = marks
        complete = True
        results: list[Any] = []
        for number, op in enumerate(self.batch.ops):
            own = [_sound(next(stream), number) for _ in range(self.asked[number])]
            done, value = self._take(number, op, own)
            complete = complete and done
            results.append(value)
        return results if complete else None

    def _take_head(self, reply: list[Any], marks: dict[str, bytes | None]) -> None:
        incarnation, expires = reply[:2]
        if incarnation is not None:
            self.alive = self.batch.raw or expires is None or self._is_ahead(expires)
            self.incarnation = incarnation.decode()
        marks.update(zip(self._marks("g"), reply[2:], strict=True))

    def _is_ahead(self, expires: bytes) -> bool:
        time = parse_integer(expires)
        if time is None:
            raise port.CorruptField(-1)
        return time > self.now

    def _here(self, key: str) -> bool:
        return self.alive or (key != "" and key[0] == "_")

    def _take(  # noqa: PLR0911 - one return per operation
        self, number: int, op: port.Op, own: list[Any]
    ) -> tuple[bool, Any]:
        match op:
            case port.Get(key, None):
                return True, text_map(own[0]) if self._here(key) else {}
            case port.Get(key, fields):
                return True, own[0] if self._here(key) else [None] * len(fields or ())
            case port.Clock():
                return True, self.now
            case port.Read():
                return self._take_log(number, op, own)
            case port.IndexRange(key):
                if not self._here(key):
                    return True, []
                return self._take_range(number, op, own[0])
            case port.IndexCount(key):
                return True, own[0] if self._here(key) else 0
            case _:
                self._take_guard(number, op, own)
                return True, None

    def _take_guard(self, number: int, op: port.Op, own: list[Any]) -> None:
        match op:
            case port.RequireExists(key, wanted):
                if (self._here(key) and bool(own[0])) != wanted:
                    raise port.GuardFailed(number)
            case port.RequireEquals(key, _, value):
                found = own[0] if self._here(key) else None
                if found != value:
                    raise port.GuardFailed(number, found)
            case port.RequireAtMost(key, _, limit):
                self._take_at_most(number, own[0] if self._here(key) else None, limit)
            case port.RequireFields(key, fields):
                found = own[0] if self._here(key) else [None] * len(fields)
                missing = [n for n, v in zip(fields, found, strict=True) if v is None]
                if missing:
                    raise port.GuardFailed(number, missing)
            case port.RequireBefore(time):
                if self.now > time:
                    raise port.GuardFailed(number, self.now)

    def _take_at_most(self, number: int, found: bytes | None, limit: Any) -> None:
        if found is None:
            raise port.GuardFailed(number)
        value = parse_integer(found)
        if value is None:
            raise port.CorruptField(number)
        if value > (self.now + limit.plus if type(limit) is port.Now else limit):
            raise port.GuardFailed(number, found)

    def _take_log(self, number: int, op: port.Read, own: list[Any]) -> tuple[bool, Any]:
        mark = self.marks.get(f"~b{op.key}") if self._here(op.key) else None
        if mark is None:
            return True, port.LogSlice("", 0, 0, 0, [])
        base = parse_integer(mark)
        if base is None:
            raise port.CorruptField(number)
        found = self.windows[number].take(base, self._epoch(op.key), own)
        return found is not None, found

    def _epoch(self, key: str) -> str:
        incarnation = "0" if key[0] == "_" else self.incarnation
        return f"{incarnation}.{(self.marks.get(f'~e{key}') or b'0').decode()}"

    def _take_range(
        self, number: int, op: port.IndexRange, reply: list[Any]
    ) -> tuple[bool, list[tuple[str, int]]]:
        if op.prefix is not None:
            return True, [(member.decode(), 0) for member in reply]
        pairs = [
            (member.decode(), int(float(score)))
            for member, score in zip(reply[::2], reply[1::2], strict=True)
        ]
        kept = [pair for pair in pairs if _beyond(op, pair)][: op.limit]
        if len(kept) == op.limit or len(pairs) < self._count(number, op):
            return True, kept
        # Many of the same score: all again and more, so that one moment's state is seen.
        self.beyond[number] *= 4
        return False, []


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


def _lex_bounds(op: port.IndexRange) -> tuple[bytes, bytes]:
    prefix = (op.prefix or "").encode()
    low: bytes = b"[" + prefix if prefix else b"-"
    high: bytes = b"(" + prefix + b"\xff" if prefix else b"+"  # no UTF-8 text holds this byte
    if op.cursor is None:
        return low, high
    after = op.cursor[0].encode()
    if op.reverse:
        return low, b"(" + after if not prefix or after < prefix + b"\xff" else high
    return b"(" + after if after >= prefix else low, high
