"""One `Read` of which little is expected, as one script call.

A transaction of plain commands (`reads`) has six replies and costs the client half as much again;
but what passes through Lua is copied, so only plans that say `small` come this way.
"""

from __future__ import annotations

from typing import Any

from aiecs.core.interface import store as port
from aiecs.core.interface.batch_rules import parse_integer
from aiecs.infrastructure.persistence.stores.redis.layout import Layout
from aiecs.infrastructure.persistence.stores.redis.scripts import script_of

Command = tuple[Any, ...]

_KNOWN = 4_096
_NO_LOG = port.LogSlice("", 0, 0, 0, [])
_CORRUPT_HEAD, _CORRUPT_LOG = [-1], [0]
_SCRIPT = script_of(
    """local call,num,F,start,stop=redis.call,tonumber,ARGV[1],ARGV[2],ARGV[3]
local g=call('HMGET',KEYS[1],'~i','~x','~b'..F,'~e'..F)
if not g[1] then return {} end
if g[2] then local x=num(g[2]) if not x then return {-1} end
local t=call('TIME') if x<=t[1]*1000000+t[2] then return {} end end
if not g[3] then return {} end
local b,n=num(g[3]),redis.pcall('LLEN',KEYS[2])
if not b or type(n)=='table' then return {0} end
local lo,hi,most=0,n,num(ARGV[4])
if start~='' and num(start)>b then lo=num(start)-b end
if stop~='' and num(stop)<b+n then hi=num(stop)-b end
if most>0 and hi-lo>most then if ARGV[5]=='1' then lo=hi-most else hi=lo+most end end
if hi<=lo then return {g[1],g[3],g[4],n,n,{}} end
return {g[1],g[3],g[4],n,lo,call('LRANGE',KEYS[2],lo,hi-1)}"""
)


def is_small_read(plan: port.Plan) -> bool:
    """Whether a plan is one `Read` of a group's log, small and not raw."""
    first = plan.ops[0]
    alone = plan.small and not plan.raw and len(plan.ops) == 1
    return alone and type(first) is port.Read and first.key[:1] not in ("", "_")


class SmallRead:
    """The command of a small read, and its result from the one reply."""

    __slots__ = ("_fronts", "_key", "_layout")

    def __init__(self, plan: port.Plan, layout: Layout) -> None:
        self._layout = layout
        self._key: str = plan.ops[0].key  # type: ignore[union-attr]  # a `Read` has one
        self._fronts: dict[tuple[int, str], Command] = {}

    def command(self, call: port.Call, *, known: bool) -> Command:
        """EVALSHA; EVAL for a server that does not know the script."""
        plan, bucket, group, args = call
        front = self._fronts.get((bucket, group)) or self._front(bucket, group)
        if not known:
            front = ("EVAL", _SCRIPT.text, *front[2:])
        op: Any = plan.bind(args)[0]
        _, start, stop, limit, newest, _ = op
        bounds = ("" if start is None else start, "" if stop is None else stop)
        return (*front, *bounds, limit, "1" if newest else "0")

    def _front(self, bucket: int, group: str) -> Command:
        if len(self._fronts) >= _KNOWN:
            self._fronts.clear()
        head = self._layout.key(bucket, group, "map", "")
        log = self._layout.key(bucket, group, "log", self._key)
        front = self._fronts[bucket, group] = ("EVALSHA", _SCRIPT.sha, 2, head, log, self._key)
        return front

    @staticmethod
    def result(reply: list[Any]) -> port.LogSlice:
        """The part of the log that was asked for."""
        if not reply:
            return _NO_LOG
        if reply in (_CORRUPT_HEAD, _CORRUPT_LOG):
            raise port.CorruptField(reply[0])
        incarnation, mark, epoch, count, first, items = reply
        base = parse_integer(mark)
        if base is None:
            raise port.CorruptField(0)
        name = (b"%b.%b" % (incarnation, epoch or b"0")).decode(errors="replace")
        return port.LogSlice(name, base, base + count, base + first, items)
