"""`Gather` on Redis: one script among the commands of a read, for what depends on what it finds.

Its text goes with each call, for a read has no way to load it first; the server knows it by then.
"""

from __future__ import annotations

from typing import Any

from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.redis.layout import Layout
from aiecs.infrastructure.persistence.stores.redis.log_window import Command

# Keys: the index, the maps, that of the links. Arguments: how many maps, how many known names,
# these, then the words of ZRANGE behind its key, or "m" and the members.
_SCRIPT = """local K,A,call=KEYS,ARGV,redis.call
local maps,known,seen=tonumber(A[1]),tonumber(A[2]),{}
for i=3,2+known do seen[A[i]]=true end
local members={}
if A[3+known]=='m' then for i=4+known,#A do members[#members+1]=A[i] end
else members=call('ZRANGE',K[1],unpack(A,3+known)) end
local R={members}
for m=1,maps do R[m+1]=#members>0 and call('HMGET',K[m+1],unpack(members)) or {} end
local linked,L={},K[maps+2]
local values=L and R[2] or {}
while #values>0 do
local names,found={},{}
for _,value in ipairs(values) do if value and string.byte(value)==38 then
for name in string.gmatch(string.match(value,'^&([^\\n]*)'),'[^ ]+') do
if not seen[name] then seen[name]=true names[#names+1]=name end end end end
for i=1,#names,1000 do
local part=call('HMGET',L,unpack(names,i,math.min(i+999,#names)))
for j=1,#part do if part[j] then linked[#linked+1]=names[i+j-1] linked[#linked+1]=part[j]
found[#found+1]=part[j] end end end
values=found end
R[#R+1]=linked
return R"""


def command_of(layout: Layout, bucket: int, group: str, op: port.Gather) -> Command:
    """The script call of an operation."""
    keys = [layout.key(bucket, group, "index", op.key)]
    keys += [layout.key(bucket, group, "map", key) for key in op.maps]
    if op.links is not None:
        keys.append(layout.key(bucket, group, "map", op.links))
    walk = _walk(op) if op.members is None else ("m", *op.members)
    return ("EVAL", _SCRIPT, len(keys), *keys, len(op.maps), len(op.known), *op.known, *walk)


def _walk(op: port.Gather) -> tuple[Any, ...]:
    low, high = lex_bounds(op.prefix, op.after, reverse=op.reverse)
    edges = (high, low, "BYLEX", "REV") if op.reverse else (low, high, "BYLEX")
    return (*edges, "LIMIT", 0, op.limit)


def lex_bounds(prefix: str, after: str | None, *, reverse: bool) -> tuple[bytes, bytes]:
    """The members with a prefix, in the words of ZRANGE; `after` is where the page before ended."""
    start = prefix.encode()
    low: bytes = b"[" + start if start else b"-"
    high: bytes = b"(" + start + b"\xff" if start else b"+"  # no UTF-8 text holds this byte
    if after is None:
        return low, high
    mark = after.encode()
    if reverse:
        return low, b"(" + mark if not start or mark < start + b"\xff" else high
    return b"(" + mark if mark >= start else low, high


def gathered(op: port.Gather, reply: list[Any]) -> port.Gathered:
    """The result of an operation whose group is there."""
    members = [member.decode() for member in reply[0]]
    linked = reply[-1]
    names = (name.decode() for name in linked[::2])
    return port.Gathered(
        members, reply[1 : 1 + len(op.maps)], dict(zip(names, linked[1::2], strict=True))
    )


def nothing(op: port.Gather) -> port.Gathered:
    """The result of an operation whose group is absent."""
    members = list(op.members or ())
    return port.Gathered(members, [[None] * len(members) for _ in op.maps], {})
