"""Random batches for two stores that have to agree: many that are valid, some that are not.

Operations are drawn from pools that are made once: to draw one costs Hypothesis a single choice.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st

from aiecs.core.errors import InvalidInputError
from aiecs.core.interface import store as port
from aiecs.core.interface.batch_rules import check

MAPS = ("", "m", "_m")
LOGS = ("l", "k", "_l")
INDEXES = ("i", "_i")
#: One whose scores are all the same, to be walked by its members.
NAMES = "j"
GROUPS = ("s:one", "s:two", "")
_FIELDS = ("a", "b", "n", "")
_MEMBERS = ("a", "ab", "b", "é", "\x00")
_TEXTS = (b"1", b"-7", b"x", b"5", b"", b"\x00\xff\r\n")
_LINKS = (b"&a n\nb", b"&n", b"&\xc3\xa9  \n", b"&a \xff", b"& \n")
_ODD = (b"007", b"-0", b"+1", b"1.0", b" 1", b"1e3")
_TOP = port.MAX_INTEGER
_EDGES = tuple(b"%d" % (sign * (_TOP + away)) for sign in (1, -1) for away in (-1, 0, 1))
_FIRSTS = (None, 0, 5, _TOP - 10**15)


class _Chance(random.Random):
    """The parts of operations, at random."""

    def names(self, names: tuple[str, ...], most: int = 3) -> tuple[str, ...]:
        return tuple(self.sample(names, self.randint(1, min(most, len(names)))))

    def text(self) -> bytes:
        return self.choice(_TEXTS * 6 + _LINKS * 2 + _ODD + _EDGES)

    def now(self) -> port.Now:
        return port.Now(self.choice([0, 0, 10**9, -(10**9)]))

    def filled_in(self) -> Any:
        return self.choice([self.now(), port.Result(self.randint(0, 9), self.randint(0, 1))])

    def value(self) -> Any:
        return self.text() if self.random() < 0.75 else self.filled_in()

    def score(self) -> int:
        return self.choice([-2, -1, 0, 0, 1, 1, 2, 3] * 2 + [_TOP, -_TOP])

    def delta(self) -> int:
        return self.choice([0, 1, 2, 5, -1, -3] * 3 + [_TOP, -_TOP])

    def place(self) -> int:
        return self.randint(-2, 6)

    def maybe(self, make: Callable[[], Any]) -> Any:
        return make() if self.random() < 0.6 else None

    def stamps(self) -> tuple[Any, ...]:
        made = [self.choice([port.INCARNATION, self.filled_in()]) for _ in range(3)]
        return tuple(made[: self.choice([0, 0, 1, 3])])

    def items(self) -> tuple[bytes, ...]:
        return tuple(self.text() for _ in range(self.randint(1, 4)))

    def gathering(self) -> port.Gather:
        return port.Gather(
            NAMES,
            ("m", "m")[: self.randint(1, 2)],
            self.choice(["", "a", "é"]),
            self.choice([1, 2, 100]),
            self.random() < 0.5,
            self.maybe(lambda: self.choice(_MEMBERS)),
            self.choice([None, None, self.names(_FIELDS)]),
            self.choice([None, "m"]),
            self.choice([(), ("n",)]),
        )

    def fields(self, least: int = 1) -> dict[str, Any]:
        chosen = self.names(_FIELDS)[: self.randint(least, 3)]
        return {name: self.value() for name in chosen}


def _pool(count: int, *makers: Callable[[_Chance], port.Op]) -> st.SearchStrategy[Any]:
    chance = _Chance(1)
    return st.sampled_from([makers[number % len(makers)](chance) for number in range(count)])


_GUARDS = (
    lambda c: port.RequireExists(c.choice(MAPS), c.random() < 0.7),
    lambda c: port.RequireEquals(c.choice(MAPS), c.choice(_FIELDS), c.maybe(c.text)),
    lambda c: port.RequireAtMost(
        c.choice(MAPS), c.choice(_FIELDS), c.choice([c.now(), c.score(), c.score()])
    ),
    lambda c: port.RequireFields(c.choice(MAPS), c.names(_FIELDS)),
    lambda c: port.RequireBefore(c.choice([1, _TOP, _TOP])),
)
_LOOKS = (
    lambda c: port.Get(c.choice(MAPS), c.maybe(lambda: c.names(_FIELDS))),
    lambda _: port.Clock(),
)
_READS = (
    lambda c: port.Read(
        c.choice(LOGS),
        c.maybe(c.place),
        c.maybe(c.place),
        c.choice([0, 0, 1, 2, 5]),
        c.random() < 0.5,
        c.maybe(c.place),
    ),
    lambda c: port.IndexRange(
        c.choice(INDEXES),
        c.maybe(c.score),
        c.maybe(c.score),
        c.choice([1, 2, 100]),
        c.random() < 0.5,
        c.maybe(lambda: (c.choice(_MEMBERS), c.score())),
    ),
    lambda c: c.gathering(),
    lambda c: port.IndexCount(c.choice(INDEXES), c.maybe(c.score), c.maybe(c.score)),
)
_WRITES = (
    lambda c: port.Put(c.choice(MAPS), c.fields(), c.choice(["", "", "", "skip", "abort"])),
    lambda c: port.Put(c.choice(MAPS), c.fields()),
    lambda c: port.Incr(c.choice(MAPS), {name: c.delta() for name in c.names(_FIELDS, 2)}),
    lambda c: port.Extend(c.choice(MAPS), {name: c.text() for name in c.names(_FIELDS, 2)}),
    lambda c: port.IndexPut(NAMES, dict.fromkeys(c.names(_MEMBERS), 0)),
    lambda c: port.IndexDelete(NAMES, c.names(_MEMBERS)),
    lambda c: port.Delete(c.choice(MAPS), c.names(_FIELDS)),
    lambda c: c.choice(_DROPS),
    lambda c: port.Append(c.choice(LOGS), c.items(), c.stamps()),
    lambda c: port.Append(c.choice(LOGS), c.items(), (), c.choice(_FIRSTS), c.randint(0, 2)),
    lambda c: port.Trim(c.choice(LOGS), keep=c.randint(0, 6)),
    lambda c: port.Trim(c.choice(LOGS), before=c.place()),
    lambda c: port.Truncate(c.choice(LOGS), c.place()),
    lambda c: port.Redact(
        c.choice(LOGS), tuple(c.place() for _ in range(c.randint(1, 3))), c.text()
    ),
    lambda c: port.IndexPut(
        c.choice(INDEXES),
        {name: c.score() if c.random() < 0.8 else c.filled_in() for name in c.names(_MEMBERS)},
        c.random() < 0.5,
    ),
    lambda c: port.IndexDelete(c.choice(INDEXES), c.names(_MEMBERS), c.maybe(c.score)),
    lambda c: port.Expire(
        c.choice([10**12, 10**15, None, 1, 1, 5]),
        c.choice([(), (("map", "m"),), (("log", "l"), ("index", "i"))]),
    ),
)
_DROPS = [
    *(port.Delete(key) for key in MAPS if key),
    *(port.Delete(key, kind="log") for key in LOGS),
    *(port.Delete(key, kind="index") for key in (*INDEXES, NAMES)),
]
# What a group begins with, so that there is something to count, cut, page and delete.
FURNITURE: tuple[port.Op, ...] = (
    port.Put("m", {"a": b"1", "n": b"5"}),
    port.Append("l", (b"1", b"2", b"", b"4"), (port.NOW,)),
    port.Append("k", (b"x", b"y"), first=0),
    port.IndexPut("i", {"a": 0, "ab": 0, "b": 1, "é": -2}),
    port.IndexPut(NAMES, {"a": 0, "ab": 0, "é": 0}),
)
CREATE = _pool(
    20,
    lambda c: port.Put(
        "", {"~i": port.NEW_INCARNATION, **c.fields(0)}, c.choice(["skip", "abort"])
    ),
)
GUARD = _pool(80, *_GUARDS)
READING = st.lists(_pool(250, *_READS, *_LOOKS), min_size=1, max_size=6)
WRITING = st.lists(_pool(1000, *_WRITES, *_WRITES, *_LOOKS), min_size=1, max_size=8)
WILD = st.lists(st.one_of(_pool(300, *_WRITES, *_READS, *_GUARDS), CREATE), max_size=4)


class Mood(NamedTuple):
    """How a batch is sent, drawn in one piece."""

    raw: bool
    by_call: bool
    untidy: bool
    bare: bool
    guarded: bool
    writer: str | None
    step: int


def _moods(count: int) -> list[Mood]:
    chance = random.Random(1)
    return [
        Mood(
            *(chance.random() < 1 / odds for odds in (8, 2, 5, 6, 5)),
            writer=chance.choice([None, None, "v", "w"]),
            step=chance.choice([1, 1, 1, 1, 1, 5, 0, -1, -3]),
        )
        for _ in range(count)
    ]


MOODS = [Mood(False, False, False, False, False, None, 1), *_moods(60)]


def homed(op: Any, group: str) -> Any:
    """The operation on a key of the bucket when there is no group."""
    key = getattr(op, "key", "_")
    if group or key.startswith("_"):
        return op
    return op._replace(key={"": "_m", "m": "_m", "i": "_i", NAMES: "_i"}.get(key, "_l"))


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
        if type(op) in (port.Put, port.Extend):
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
