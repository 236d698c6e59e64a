"""The script of a batch.

A shape is a tuple of steps: operation codes with the class of their key (`h` the group's head,
`g` another key of the group, `b` a key of the bucket). The script:

1. answers "seen" when the receipt is not newer than the writer's last one in this bucket;
2. reads the head once: all fields that guards, conditions, counters and logs of the batch need;
3. checks guards, integers and key types - nothing is written yet, for Redis does not roll back;
4. writes, the head's fields in one HSET where it can, the receipt last.

Integers go to commands as numbers: the server prints them exactly (below 2^53), formatting them
here cost a fifth of a short script.

It answers {1, results} (a plan's: {1, result, ...}), {2} (seen and applied), {0, operation, found}
(refused), {3, operation} (corrupt) or {4} (seen so long ago that it is not known how it ended).
Operations -1 and -3: the group is missing, expired; -2: seen and refused, or out of order.
Arguments: the receipt (`receipts`), random, raw, then what `encode` lists.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, NamedTuple

from aiecs.infrastructure.persistence.stores.redis import receipts
from aiecs.infrastructure.persistence.stores.redis.emit import Cursor, Emit, Unrolled
from aiecs.infrastructure.persistence.stores.redis.script_operations import BEFORE, WRITE

OWN_ARGUMENTS = 5


class Step(NamedTuple):
    """One operation of a shape (`many`: a run of equal ones, counted in the arguments)."""

    code: str
    key: str = ""
    many: bool = False


class Shape(NamedTuple):
    """All that decides the text of a script but constants."""

    steps: tuple[Step, ...]
    group: bool
    logs: str
    writes_group: bool
    creates: bool


_START = "local K,A,call,num=KEYS,ARGV,redis.call,tonumber"
_FORMAT = "local fmt=string.format"
_CLOCK = "local t=call('TIME') local now=t[1]*1000000+t[2]"
_MOST = 120
# Lua's stack takes some 8,000 values at once.
_AT_ONCE = 4_000
_MORE_OF_HEAD = f"""if alive then for j=h+{_AT_ONCE},i,{_AT_ONCE} do
local m=call('HMGET',G,unpack(A,j,math.min(i,j+{_AT_ONCE - 1}))) for l=1,#m do g[#g+1]=m[l] end
end end"""
_HEAD_WRITES = f"""for i=1,#wg,{_AT_ONCE} do
call('HSET',G,unpack(wg,i,math.min(#wg,i+{_AT_ONCE - 1}))) end"""
_HELPERS = {
    "text": "local function text(x) return type(x)=='number' and fmt('%.0f',x) or x end",
    "int": """local function int(v)
if #v>17 or not string.match(v,'^%-?%d+$') then return nil end
local x=num(v)
if x>9007199254740991 or x<-9007199254740991 then return nil end
return x end""",
    "val": """local function val(tag,x)
if tag=='n' then return fmt('%.0f',now+num(x)) end
if tag=='i' then inc=fmt('%016.0f',now)..RANDOM created=true return inc end
if tag=='c' then inc=x created=true return x end
if tag=='s' then return inc or '' end
if tag=='l' then return x end
local at=string.find(x,' ',1,true)
local r,i=R[num(string.sub(x,1,at-1))+1],num(string.sub(x,at+1))
return fmt('%.0f',type(r)=='table' and r[i+1] or r+i) end""",
    "fresh": "local fresh",
    "gone": "local gone=false",
}
_NATIVE_HEAD = """if created and exp and not gone then
call('PEXPIREAT',G,math.floor(exp/1000)+691200000) end"""
_NATIVE_FRESH = """if exp and fresh then for i=1,#fresh do
call('PEXPIREAT',fresh[i],math.floor(exp/1000)+604800000) end end"""


def dynamic_source(shape: Shape) -> str:
    """The script for every batch of a shape: counts and values are arguments."""
    e = Cursor()
    body = _body(shape, e)
    bucket, head = "unpack(A,8,7+num(A[6]))", f"unpack(A,h,math.min(i,h+{_AT_ONCE - 1}))"
    lines = [
        _START,
        _FORMAT,
        "local B,W,N,P,RANDOM,RAW=K[1],A[1],A[2],A[3],A[4],A[5]",
        _CLOCK,
        f"local b=call('HMGET',B,W{',' + bucket if 'b' in shape.logs else ''})",
        receipts.opening(own=True),
        f"local R,I,wg,o,p,k={{}},{{}},{{}},0,8+num(A[6])+num(A[7]),{3 if shape.group else 2}",
        "local h,i=8+num(A[6]),7+num(A[6])+num(A[7])",
        *_group(shape, head if _reads_head(shape) else "", e),
        _MORE_OF_HEAD if shape.group else "",
        f"local gi={2 + 2 * shape.logs.count('g')}",
        *_helpers(e.needs),
        *_log_marks(shape, e, ["num(A[p])"] * len(shape.logs)),
        body,
        _HEAD_WRITES if shape.group else "",
        *_finish(e),
        "return {1,R}",
    ]
    return "\n".join(line for line in lines if line)


def unrolled_source(
    shape: Shape, constants: list[Any], cells: list[str], *, known: Container[int], raw: bool
) -> str | None:
    """The script of a plan: its constants in the text. `cells` are the arguments as Lua.

    It answers {1, result, ...}, without the results of the operations in `known`. None for one
    that is too long: Lua takes some 200 variables and arguments of a call.
    """
    if len(cells) > _MOST:
        return None
    buckets, heads = int(constants[0]), int(constants[1])
    e = Unrolled(cells, constants, first_key=3 if shape.group else 2)
    fields = cells[2 : 2 + buckets + heads]
    e.position = 2 + buckets + heads + len(shape.logs)
    e.field_position = 2 + 2 * shape.logs.count("g")
    body = _body(shape, e)
    if e.names > _MOST:
        return None
    writes = ",".join(e.head_writes)
    bucket = ",".join(["B", "W", *fields[:buckets]])
    results = (e.results + ["0"] * e.operation)[: e.operation]
    told = ["1", *(text for number, text in enumerate(results) if number not in known)]
    lines = [
        _START,
        f"local B,W,N,P,RAW=K[1],A[1],A[2],A[3],'{raw:d}'",
        "local RANDOM=A[4]" if "val" in e.needs else "",
        _FORMAT if {"val", "text"} & e.needs else "",
        _CLOCK,
        f"local b={{call('HGET',B,W)}}" if not buckets else f"local b=call('HMGET',{bucket})",  # noqa: F541
        receipts.opening(own=False),
        *_group(shape, ",".join(fields[buckets:]), e),
        *_helpers(e.needs),
        *_log_marks(shape, e, [str(n) for n in constants[2 + buckets + heads :]]),
        body,
        f"call('HSET',G,{writes})" if writes else "",
        *_finish(e),
        f"return {{{','.join(told)}}}",
    ]
    return "\n".join(line for line in lines if line)


def _body(shape: Shape, e: Emit) -> str:
    for step in shape.steps:
        _step(step, e, BEFORE)
    if isinstance(e, Cursor):
        e.line("for i=1,o do if R[i]==nil then R[i]=0 end end o=0")
    else:
        e.operation = 0
    for step in shape.steps:
        if step.code not in _CHECKS:
            _step(step, e, WRITE)
    return "\n".join(e.lines)


_CHECKS = frozenset(code for code in BEFORE if code[1:] in WRITE and code[0] == "t")


def _step(step: Step, e: Emit, table: dict[str, Any]) -> None:
    """One step of one pass; a run of equal operations is a loop where counts are not known."""
    counts = step.code not in _CHECKS
    write = table.get(step.code)
    if isinstance(e, Unrolled):
        first = e.operation
        for _ in range(int(e.count()) if step.many else 1):
            if write is not None:
                write(e, step.key)
            e.operation += 1
        if not counts:
            e.operation = first
        return
    e.begin(many=step.many)
    if write is not None:
        write(e, step.key)
    e.end(many=step.many, counts=counts)


def _group(shape: Shape, head_fields: str, e: Emit) -> list[str]:
    if not shape.group:
        return ["local alive,inc,exp,created=false,false,nil,false"]
    fields = "," + head_fields if head_fields else ""
    lines = [
        f"local G=K[2] local g=call('HMGET',G,'~i','~x'{fields})",
        "local inc,exp,created=g[1],g[2] and num(g[2]),false",
        f"if g[2] and not exp and RAW~='1' then {e.corrupt('-1')} end",
        "local alive=inc and (not exp or RAW=='1' or exp>now)",
    ]
    if shape.creates:
        lines.append(f"if inc and not alive then {e.refuse(operation='-3')} end")
    elif shape.writes_group:
        lines.append(f"if not alive then {e.refuse(operation='-1')} end")
    if shape.creates or not shape.writes_group:
        lines.append("if not alive then g={} exp=nil end")
    return lines


def _reads_head(shape: Shape) -> bool:
    fields = {"equals", "atmost", "fields", "get", "put?", "puts?", "extend", "incr"}
    return "g" in shape.logs or any(s.key == "h" and s.code in fields for s in shape.steps)


def _log_marks(shape: Shape, e: Emit, operations: list[str]) -> list[str]:
    """The first sequence and epoch of each log; `operations` are those that name it first."""
    lines = [e.declare_logs(len(shape.logs))] if shape.logs else []
    places = {"g": 3, "b": 2}
    cursor = " p=p+1" if isinstance(e, Cursor) else ""
    for slot, (log, operation) in enumerate(zip(shape.logs, operations, strict=False)):
        at = places[log]
        places[log] = at + 2
        corrupt = e.corrupt(operation)
        quoted = f'"{slot}"'
        lines.append(
            f"do local v,e={log}[{at}],{log}[{at + 1}] "
            f"if v then v=num(v) if not v then {corrupt} end {e.base(quoted)}=v end "
            f"if e then e=num(e) if not e then {corrupt} end {e.epoch(quoted)}=e end"
            f"{cursor} end"
        )
    return lines


def _helpers(needs: set[str]) -> list[str]:
    return [text for name, text in _HELPERS.items() if name in needs]


def _finish(e: Emit) -> list[str]:
    lines = []
    if "val" in e.needs:
        gone = "gone" if "gone" in e.needs else "false"
        lines.append(_NATIVE_HEAD.replace("gone", gone))
    if "fresh" in e.needs:
        lines.append(_NATIVE_FRESH)
    return [*lines, receipts.closing(own=e.own_receipts)]
