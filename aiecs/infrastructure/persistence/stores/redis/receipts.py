"""Receipts: numbers by which the server knows the writes of one lane and their order.

The bucket's head keeps, for each writer, the last number that it settled (`w:<writer>`, a lane's
own, or `r:<writer>`, a caller's) and beside it (`!`) the numbers at or below it that were refused,
as ranges `low:high` without `low`. A number that was settled and not refused was applied.

That this can be said of a whole range rests on two things. Replies of one connection come in
order. And a write names the one before it in its bucket while that has no answer yet: where that
one left no trace (out of memory, script unknown), this one is refused too, and sent again under a
new number. So nothing is ever settled ahead of something that may still be sent again. A number
that leaves this order though it may have been applied (another node of a cluster is to be asked)
is the last of its writer: the lane goes on under a new name.
"""

from __future__ import annotations

import secrets
import time

Receipt = tuple[str, int, int]


class Receipts:
    """The receipts of one lane: writer, number, and the unanswered number before it or 0."""

    __slots__ = ("_last", "_latest", "answered", "offset", "writer")

    def __init__(self) -> None:
        #: What the monotonic clock lacks to the server's, in microseconds.
        self.offset = 0
        self._last = 0
        self.renew()

    def renew(self) -> None:
        """Go on as a writer that has sent nothing."""
        self.writer = "w:" + secrets.token_urlsafe(6)
        #: The highest number that the server has answered.
        self.answered = 0
        self._latest: dict[str, int] = {}

    def next(self, bucket: str) -> Receipt:
        """The receipt of the next write to a bucket."""
        # The server's microseconds: they tell a receipt's age, and rise over reconnects too.
        number = time.monotonic_ns() // 1000 + self.offset
        if number <= self._last:
            number = self._last + 1
        self._last = number
        before = self._latest.get(bucket, 0)
        self._latest[bucket] = number
        return self.writer, number, before if before > self.answered else 0


def of_caller(writer: str, number: int) -> Receipt:
    """A receipt that a caller has chosen."""
    return "r:" + writer, number, 0


# --- the same in Lua: b[1] is the writer's last number, B the bucket's head, W, N, P the receipt --

_SEEN = """if b[1] and num(N)<=num(b[1]) then local n,f=num(N),call('HGET',B,W..'!') or ''
for l,h in string.gmatch(f,'(%-?%d+):(%d+)') do if n>num(l) and n<=num(h) then return {0,-2} end end
local c=string.match(f,'^%d+') if c and n<=num(c) then return {4} end
return {2} end"""
_AFTER = "if P~='0' and num(P)>num(L) then {refuse} end"
# Up to 10 minutes are kept: nothing is sent again that is older than 5. The first write of a writer
# to a bucket looks at four others, so that there are never many more than are in use.
_PRUNE = """if not b[1] then local f=call('HRANDFIELD',B,4)
for i=1,#f do local k=f[i] local c=string.sub(k,1,2) if c=='w:' or c=='r:' then
if string.sub(k,-1)=='!' then k=string.sub(k,1,-2) end
local a=c=='r:' and 't:'..string.sub(k,3) or k local v=call('HGET',B,a)
if not v or (num(v) or 0)<now-600000000 then call('HDEL',B,k,k..'!',a) end end end end"""
_LONGEST = 2048


def refusal(answer: str, *, own: bool) -> str:
    """A statement: settle the number as refused, return `answer`.

    `own`: callers' receipts may come here, and keep a time beside their number.
    """
    settle = "call('HSET',B,W,N,W..'!',f" + (",unpack(T)" if own else "") + ")"
    return (
        "do local f=call('HGET',B,W..'!') or '' "
        "if string.sub(f,-#L-1)==':'..L then f=string.sub(f,1,-#L-1)..N "
        "else f=f..','..L..':'..N end "
        f"if #f>{_LONGEST} then local c=string.find(f,',',-{_LONGEST // 2},true) "
        "f=string.match(string.sub(f,1,c-1),'%d+$')..string.sub(f,c) end "
        f"{settle} return {answer} end"
    )


def opening(*, own: bool) -> str:
    """What comes first: answer what was seen before, refuse what is out of order."""
    lines = [_SEEN, "local L=b[1] or '0'"]
    if own:
        lines.append(
            "local T={} if string.sub(W,1,2)=='r:' then L=fmt('%.0f',num(N)-1) "
            "T={'t:'..string.sub(W,3),fmt('%.0f',now)} end"
        )
    lines.append(_AFTER.format(refuse=refusal("{0,-2}", own=own)))
    return "\n".join(lines)


def closing(*, own: bool) -> str:
    """What comes last: settle the number as applied."""
    settle = "call('HSET',B,W,N" + (",unpack(T)" if own else "") + ")"
    return f"{settle}\n{_PRUNE}"
