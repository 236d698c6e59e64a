"""Writes Lua for a shape: with run-time cursors, or unrolled where every count is known.

`Cursor` serves ad-hoc batches: counts stay in ARGV, so few shapes cover everything. `Unrolled`
serves prepared plans: constants stand in the text, only open values are arguments (measured
0.6 to 0.75 of the server's time). The operations (`script_operations`) are written once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from aiecs.infrastructure.persistence.stores.redis import receipts

Index = int | str
Body = Callable[[Index], None]


class Emitter(ABC):
    """What both ways share; `g` holds the head's fields as read, results go to the caller."""

    #: Whether callers' receipts may come with a batch.
    own_receipts = False

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.needs: set[str] = set()
        self.names = 0
        self.counts: dict[str, Index] = {}

    def line(self, text: str) -> None:
        self.lines.append(text)

    def name(self, stem: str) -> str:
        """A local variable that no other line uses."""
        self.names += 1
        return f"{stem}{self.names}"

    def use(self, helper: str) -> str:
        """The name of a helper function, which the prelude then defines."""
        self.needs.add(helper)
        return helper

    def fresh(self, h: str, key: str) -> None:
        """Note a key of the group that may be new: it gets the server's own expiry."""
        if h == "g":
            self.line(f"{self.use('fresh')}=fresh or {{}} fresh[#fresh+1]={key}")

    def refuse(self, found: str = "false", operation: str | None = None, kind: int = 0) -> str:
        """A statement: spend the receipt as refused, answer {kind, operation, found}."""
        number = operation or self.number()
        return receipts.refusal(f"{{{kind},{number},{found}}}", own=self.own_receipts)

    def corrupt(self, operation: str | None = None) -> str:
        """A statement: spend the receipt as refused, answer {3, operation}."""
        return self.refuse(operation=operation, kind=3)

    @abstractmethod
    def number(self) -> str:
        """The number of the operation at hand."""

    def number_of(self, argument: str) -> str:
        """An argument as a number; a constant needs no conversion at run time."""
        constant = argument[:1] == '"' and argument[1:-1].lstrip("-").isdigit()
        return f"({argument[1:-1]})" if constant else f"num({argument})"


class Cursor(Emitter):
    """Arguments `A[p]`, keys `K[k]`, head fields `g[gi]`, results `R[o+1]`: moved at run time."""

    own_receipts = True

    def number(self) -> str:
        return "o"

    def begin(self, *, many: bool) -> None:
        self.line("do local z=o")
        if many:
            self.line("local c=num(A[p]) p=p+1 for _=1,c do")

    def end(self, *, many: bool, counts: bool) -> None:
        self.line("o=o+1")
        if many:
            self.line("end")
        self.line("end" if counts else "o=z end")

    def take(self) -> str:
        name = self.name("a")
        self.line(f"local {name}=A[p] p=p+1")
        return name

    def count(self) -> Index:
        name = self.name("n")
        self.line(f"local {name}=num(A[p]) p=p+1")
        return name

    def key(self) -> str:
        name = self.name("k")
        self.line(f"local {name}=K[k] k=k+1")
        return name

    def span(self, count: Index) -> str:
        start = self.name("s")
        self.line(f"local {start}=p p=p+{count}")
        return f"unpack(A,{start},{start}+{count}-1)"

    def each(self, count: Index, body: Body) -> None:
        self.line(f"for i=1,{count} do")
        body("i")
        self.line("end")

    def head_field(self) -> str:
        name = self.name("v")
        self.line(f"gi=gi+1 local {name}=g[gi]")
        return name

    def head_fields(self, count: Index) -> Callable[[Index], str]:
        name = self.name("v")
        self.line(f"local {name}={{}} for i=1,{count} do {name}[i]=g[gi+i] or false end")
        self.line(f"gi=gi+{count}")
        return lambda i: f"{name}[{i}]"

    def texts(self, count: Index) -> Callable[[Index], str]:
        start = self.name("s")
        self.line(f"local {start}=p-1 p=p+{count}")
        return lambda i: f"A[{start}+{i}]"

    def condition(self, value: str) -> None:
        self.line(f"I[o]={value}")

    def held(self) -> str:
        return "I[o]"

    def pass_over(self, count: Index, width: int) -> None:
        """Skip the arguments of a branch that was not taken."""
        self.line(f"p=p+{width}*{count}")

    def result(self, value: str) -> None:
        self.line(f"R[o+1]={value}")

    def own_result(self) -> str:
        return "R[o+1]"

    def declare_logs(self, _: int) -> str:
        """What `base` and `epoch` are kept in."""
        return "local base,epoch={},{}"

    def base(self, slot: str) -> str:
        """The first sequence of a log, nil for an absent one."""
        return f"base[{slot}]"

    def epoch(self, slot: str) -> str:
        """The epoch of a log, nil for its first."""
        return f"epoch[{slot}]"

    def head_write(self, field: str, value: str) -> None:
        self.line(f"wg[#wg+1]={field} wg[#wg+1]={value}")

    def pairs(self, count: Index, field_and_value: Callable[[], tuple[str, str]]) -> str:
        """Arguments of an HSET or ZADD, from `count` pairs."""
        name = self.name("f")
        self.line(f"local {name}={{}} for _=1,{count} do")
        first, second = field_and_value()
        self.line(f"{name}[#{name}+1]={first} {name}[#{name}+1]={second} end")
        return f"unpack({name})"

    def value(self) -> str:
        tag, text = self.take(), self.take()
        return f"{self.use('val')}({tag},{text})"


class Unrolled(Emitter):
    """Every argument is a literal or an ARGV; loops are written out."""

    def __init__(self, cells: list[str], constants: list[Any], *, first_key: int) -> None:
        super().__init__()
        self.cells = cells
        self.constants = constants
        self.position = 0
        self.key_position = first_key
        self.field_position = 2
        self.operation = 0
        self.results: list[str] = []
        self.conditions: dict[int, str] = {}
        self.head_writes: list[str] = []

    def number(self) -> str:
        return str(self.operation)

    def take(self) -> str:
        self.position += 1
        return self.cells[self.position - 1]

    def count(self) -> Index:
        self.position += 1
        return int(self.constants[self.position - 1])

    def key(self) -> str:
        self.key_position += 1
        return f"K[{self.key_position - 1}]"

    def span(self, count: Index) -> str:
        return ",".join(self.take() for _ in range(int(count)))

    def each(self, count: Index, body: Body) -> None:
        for i in range(1, int(count) + 1):
            body(i)

    def head_field(self) -> str:
        self.field_position += 1
        return f"g[{self.field_position}]"

    def head_fields(self, count: Index) -> Callable[[Index], str]:
        start = self.field_position
        self.field_position += int(count)
        return lambda i: f"g[{start + int(i)}]"

    def texts(self, count: Index) -> Callable[[Index], str]:
        start = self.position
        self.position += int(count)
        return lambda i: self.cells[start + int(i) - 1]

    def condition(self, value: str) -> None:
        name = self.conditions.get(self.operation)
        if name is None:
            name = self.conditions[self.operation] = self.name("c")
            self.line(f"local {name}={value}")
        else:
            self.line(f"{name}={value}")

    def held(self) -> str:
        return self.conditions[self.operation]

    def pass_over(self, count: Index, width: int) -> None:
        """Nothing to skip: arguments are named where they are used."""

    def result(self, value: str) -> None:
        while len(self.results) <= self.operation:
            self.results.append("0")
        if not value.isidentifier() and not value.isdigit():
            name = self.name("r")
            self.line(f"local {name}={value}")
            value = name
        self.results[self.operation] = value

    def own_result(self) -> str:
        return self.results[self.operation]

    def declare_logs(self, count: int) -> str:
        """What `base` and `epoch` are kept in."""
        names = ",".join(f"base{slot},epoch{slot}" for slot in range(count))
        return f"local {names}"

    def base(self, slot: str) -> str:
        """The first sequence of a log, nil for an absent one."""
        return "base" + slot.strip('"')

    def epoch(self, slot: str) -> str:
        """The epoch of a log, nil for its first."""
        return "epoch" + slot.strip('"')

    def head_write(self, field: str, value: str) -> None:
        self.head_writes.extend((field, value))

    def pairs(self, count: Index, field_and_value: Callable[[], tuple[str, str]]) -> str:
        """Arguments of an HSET or ZADD, from `count` pairs."""
        return ",".join(text for _ in range(int(count)) for text in field_and_value())

    def value(self) -> str:
        tag, text = str(self.constants[self.position]), self.cells[self.position + 1]
        argument = self.constants[self.position + 1]
        self.position += 2
        if tag == "n":
            plus = int(argument)
            return f"now+{plus}" if plus else "now"
        if tag == "r":
            operation, item = map(int, str(argument).split(" "))
            return self._earlier(operation, item)
        if tag in "ic":
            return f"{self.use('val')}('{tag}',{text})"
        return "(inc or '')" if tag == "s" else text

    def _earlier(self, operation: int, item: int) -> str:
        result = self.results[operation]
        return f"(type({result})=='table' and {result}[{item + 1}] or {result}+{item})"


Emit = Cursor | Unrolled
