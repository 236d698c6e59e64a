"""Straight-line Lua for the shape of a batch.

A shape is a tuple of steps: operation codes with the class of their key (`h` the group's head,
`g` another key of the group, `b` a key of the bucket) and whether the step repeats. Counts and
values stay in ARGV, so a handful of shapes covers every batch. The script:

1. answers "seen" when the receipt is not newer than the writer's last one in this bucket;
2. reads the head once: all fields that guards, conditions, counters and logs of the batch need;
3. checks guards, integers and key types - nothing is written yet, for Redis does not roll back;
4. writes, collecting the head's fields into one HSET, and the receipt into the last one.

It answers {1, results}, {2} (seen and applied), {0, operation, found} (refused) or
{3, operation} (corrupt). Operations -1 and -3: the group is missing, expired; -2: seen and refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from aiecs.infrastructure.persistence.stores.redis.script_operations import BEFORE, WRITE, Text


class Step(NamedTuple):
    """One operation of a shape (`many`: a run of equal ones, counted in ARGV)."""

    code: str
    key: str = ""
    many: bool = False


class Shape(NamedTuple):
    """All that decides the text of a script."""

    steps: tuple[Step, ...]
    group: bool
    logs: str
    writes_group: bool
    creates: bool


_HEAD = """local A,K,call,num,fmt=ARGV,KEYS,redis.call,tonumber,string.format
local B,W,N=K[1],A[1],A[2]
local t=call('TIME')
local now=t[1]*1000000+t[2]
local b={BUCKET_READ}
if b[1] and num(N)<=num(b[1]) then
 local f=call('HGET',B,W..'!')
 if f and string.find(','..f..',',','..N..',',1,true) then return {0,-2} end
 return {2}
end
local function fail(o,found)
 local f=call('HGET',B,W..'!')
 f=f and f..','..N or N
 if #f>527 then f=string.match(string.sub(f,-527),',(.*)') end
 call('HSET',B,W,N,W..'!',f)
 return {0,o,found}
end
local function int(v)
 if not string.match(v,'^%-?%d+$') then return nil end
 local x=num(v)
 if x>9007199254740991 or x<-9007199254740991 then return nil end
 return x
end
local function S(x) return fmt('%.0f',x) end
local R,I,wg,wb,fresh,o,p,k={},{},{},{},{},0,{P},{K}
"""

_GROUP = """local G=K[2]
local g=call('HMGET',G,'~i','~x'{HEAD_FIELDS})
local inc,exp=g[1],g[2] and num(g[2])
local alive=inc and (not exp or A[5]=='1' or exp>now)
local dead=inc and not alive
if not alive then g={} end
local gi,bi,gone,created=2+{NG},1+{NB},false,false
"""

_NO_GROUP = "local bi,alive,inc=1+{NB},false,false\n"

_MISSING = "if not alive then return fail(-1) end\n"
_EXPIRED = "if dead then return fail(-3) end\n"

_VALUE = """local function val(tag,x)
 if tag=='n' then return S(now+num(x)) end
 if tag=='i' then inc=fmt('%016.0f',now)..A[4] created=true return inc end
 if tag=='c' then inc=x created=true return x end
 if tag=='s' then return inc or '' end
 if tag=='l' then return x end
 local at=string.find(x,' ',1,true)
 local r,i=R[num(string.sub(x,1,at-1))+1],num(string.sub(x,at+1))
 return S(type(r)=='table' and r[i+1] or r+i)
end
"""

_TAIL_GROUP = """if created then
 inc=inc or ''
 local x=exp_new or exp
 if x and not gone then call('PEXPIREAT',G,S(math.floor(x/1000)+691200000)) end
end
do local x=exp_new or exp
 if x then for i=1,#fresh do call('PEXPIREAT',fresh[i],S(math.floor(x/1000)+604800000)) end end
end
"""


def source(shape: Shape) -> str:
    """The script of a shape."""
    parts = [_prelude(shape)]
    for step in shape.steps:
        parts.append(_step(step, BEFORE))
    parts.append("o=0\n")
    for step in shape.steps:
        if step.code[0] != "t" or step.code in WRITE:
            parts.append(_step(step, WRITE))
    parts.append(_closing(shape))
    return "".join(parts)


def _prelude(shape: Shape) -> str:
    text = _HEAD + (_GROUP if shape.group else _NO_GROUP)
    group_logs = sum(log in "gG" for log in shape.logs)
    bucket_logs = len(shape.logs) - group_logs
    bucket_read = (
        "call('HMGET',B,W,unpack(A,8,7+num(A[6])))" if bucket_logs else ("{call('HGET',B,W)}")
    )
    fields = ",unpack(A,8+num(A[6]),7+num(A[6])+num(A[7]))"
    text = (
        text.replace("{BUCKET_READ}", bucket_read)
        .replace("{P}", "8+num(A[6])+num(A[7])")
        .replace("{K}", "3" if shape.group else "2")
        .replace("{NG}", str(2 * group_logs))
        .replace("{NB}", str(2 * bucket_logs))
    )
    text = text.replace("{HEAD_FIELDS}", fields if _reads_head(shape) else "")
    if shape.writes_group:
        text += _EXPIRED if shape.creates else _MISSING
    text += _VALUE + "local exp_new\n"
    return text + _log_marks(shape)


def _reads_head(shape: Shape) -> bool:
    fields = {"equals", "atmost", "fields", "get", "put?", "puts?", "incr"}
    return any(log in "gG" for log in shape.logs) or any(
        step.key == "h" and step.code in fields for step in shape.steps
    )


def _log_marks(shape: Shape) -> str:
    if not shape.logs:
        return ""
    lines = ["local base,epoch={},{}\n"]
    places = {"g": 3, "b": 2}
    for slot, log in enumerate(shape.logs):
        table = log.lower()
        at = places[table]
        places[table] = at + 2
        lines.append(
            f"do local v,e={table}[{at}],{table}[{at + 1}] "
            f"if v then v=int(v) if not v then return {{3,num(A[p])}} end base['{slot}']=v end "
            f"if e then e=int(e) if not e then return {{3,num(A[p])}} end epoch['{slot}']=e end "
            "end p=p+1\n"
        )
    return "".join(lines)


def _step(step: Step, table: dict[str, Callable[[Text], str]]) -> str:
    make = table.get(step.code)
    body = make(Text(step.key)) if make else ""
    return _repeat(step, body)


def _repeat(step: Step, body: str) -> str:
    check = step.code[0] == "t" and step.code in _TYPE_CODES
    advance = "" if check else "o=o+1"
    if not step.many:
        return f"do {body} end {advance}\n" if body else f"{advance}\n"
    count = "local c=num(A[p]) p=p+1 "
    if not body:
        return f"do {count}o=o+c end\n"
    return f"do {count}for _=1,c do {body} {advance} end end\n"


_TYPE_CODES = frozenset(code for code in BEFORE if code[0] == "t")


def _closing(shape: Shape) -> str:
    text = ""
    if shape.group:
        text += "if #wg>0 and not gone then call('HSET',G,unpack(wg)) end\n" + _TAIL_GROUP
    return (
        text + "if A[3]=='1' then local f=call('HRANDFIELD',B,4,'WITHVALUES') "
        "for i=1,#f,2 do if string.sub(f[i],1,2)=='w:' then "
        "local q=string.sub(f[i],-1)=='!' and call('HGET',B,string.sub(f[i],1,-2)) or f[i+1] "
        "if not q or num(q)<now-600000000 then call('HDEL',B,f[i]) end end end end\n"
        "if #wb>0 then call('HSET',B,W,N,unpack(wb)) else call('HSET',B,W,N) end\n"
        "return {1,R}\n"
    )
